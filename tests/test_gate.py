"""The gate at loading: a model is right, or refused by name, or treated otherwise in one line."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from prag_lightning.errors import InputError
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import load_llm
from prag_lightning.training.loss import hidden_and_head
from tiny_llm import save_random_llm
from tools.supported_models import try_out, update_error
from tools.tiny_models import TOKENIZER, save_tiny, targets
from toy import prag

PROMPTS = [[5, 6, 7, 8, 9], [40, 50]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return save_random_llm(tmp_path_factory.mktemp("gate") / "toy")


@pytest.fixture
def folder(plain, tmp_path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "toy"))


def refused(folder: Path, **options) -> str:
    with pytest.raises(InputError) as error:
        load_llm(str(folder), **options)
    return str(error.value)


def change_tensors(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def change_json(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


# Weights


def test_missing_tensors_are_named(folder):
    change_tensors(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    message = refused(folder)
    assert "lacks model.layers.1.mlp.up_proj.weight" in message
    assert "model.model_name" in message


def test_misnamed_tensors_are_named(folder):
    change_tensors(folder, lambda tensors: tensors.update({"head.weight": tensors.pop("lm_head.weight")}))
    message = refused(folder)
    assert "lacks lm_head.weight" in message
    assert "head.weight is not used" in message


def test_many_missing_tensors_are_counted(folder):
    change_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "self_attn" in name])
    assert "and 5 more" in refused(folder)


def test_tensors_of_another_shape_are_named(folder):
    change_json(folder / "config.json", intermediate_size=48)
    message = refused(folder)
    assert "model.layers.0.mlp.down_proj.weight is [32, 64], not [32, 48]" in message


def test_biases_that_the_configuration_leaves_out_are_named(folder):
    change_tensors(folder, lambda tensors: tensors.update({"model.layers.0.mlp.up_proj.bias": torch.zeros(64)}))
    assert "no use for: model.layers.0.mlp.up_proj.bias" in refused(folder)


def test_other_parts_of_a_checkpoint_are_left_out_in_one_line(folder, capsys):
    change_tensors(folder, lambda tensors: tensors.update({"vision.patches.weight": torch.zeros(4)}))
    load_llm(str(folder))
    assert capsys.readouterr().err.splitlines()[-1] == f"{folder}: not used of the checkpoint: vision.patches.weight"


# Tokenizers


def test_a_tokenizer_with_tokens_beyond_the_embeddings_is_refused(folder):
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder)
    message = refused(folder)
    assert "the tokenizer is not the model's" in message
    assert "beyond its 260 embeddings" in message


def test_a_tokenizer_that_knows_few_of_the_models_tokens_is_refused(plain, tmp_path):
    folder = save_tiny("llama", tmp_path / "llama")
    AutoTokenizer.from_pretrained(plain).save_pretrained(folder)
    assert "it knows 260 of its" in refused(folder)


def test_a_padding_token_beyond_the_embeddings_is_not_used(plain, folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    llm = load_llm(str(folder))
    assert tokenizer.pad_token_id == 260 > llm.pad_id
    assert generate(llm, PROMPTS, 8) == generate(load_llm(str(plain)), PROMPTS, 8)


def test_a_special_token_beyond_the_embeddings_that_prompts_have_is_refused(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["[ASK]"]}, replace_extra_special_tokens=False)
    tokenizer.chat_template = "[ASK]{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)
    assert "[ASK] is beyond its 260 embeddings" in refused(folder)


def test_texts_that_end_at_an_ordinary_token_are_told(folder, capsys):
    change_json(folder / "generation_config.json", eos_token_id=70)
    load_llm(str(folder))
    assert "end at token 70, which is '" in capsys.readouterr().err


# Behaviour


def test_heads_that_scale_or_cap_are_left_to_the_model(tmp_path):
    for model_type, is_plain in (("llama", True), ("granite", False), ("gemma2", False), ("cohere", False)):
        settings = {"granite": {"logits_scaling": 3.0}}.get(model_type, {})
        llm = load_llm(str(save_tiny(model_type, tmp_path / model_type, **settings)))
        _, head, _ = hidden_and_head(llm)(torch.tensor([[5, 6]]))
        assert (head is not None) == is_plain
        assert update_error(llm, AutoModelForCausalLM.from_pretrained(tmp_path / model_type), tmp_path / "a") < 1e-3
        shutil.rmtree(tmp_path / "a")


def test_small_logits_do_not_hide_a_cap(tmp_path):
    folder = save_tiny("gemma2", tmp_path / "gemma2")
    change_tensors(folder, lambda tensors: tensors["model.norm.weight"].fill_(-0.999))
    _, head, _ = hidden_and_head(load_llm(str(folder)))(torch.tensor([[5, 6]]))
    assert head is None


@pytest.mark.parametrize(
    ("model_type", "line"),
    [
        ("llama", ""),
        ("qwen2_moe", "adapters reach 4 of 4 layers, and none of the experts in model.layers.*.mlp.experts"),
        ("jamba", "adapters reach 2 of 4 layers, and none of the experts in model.layers.*.feed_forward.experts"),
    ],
)
def test_layers_that_adapters_do_not_reach_are_told(model_type, line, tmp_path, capsys):
    load_llm(str(save_tiny(model_type, tmp_path / model_type)))
    told = [text for text in capsys.readouterr().err.splitlines() if "adapters" in text]
    assert told == ([f"{model_type}: {line}"] if line else [])


def test_names_by_which_peft_means_experts_are_refused(tmp_path):
    folder = save_tiny("deepseek_v3", tmp_path / "deepseek_v3")
    message = refused(folder)
    assert "PEFT means the experts by down_proj, gate_proj, up_proj" in message
    assert "model.target_modules" in message
    load_llm(str(folder), target_modules=targets("deepseek_v3"))


def test_gpt2s_own_linear_layers_carry_adapters(tmp_path):
    llm = load_llm(str(save_tiny("gpt2", tmp_path / "gpt2")), target_modules=targets("gpt2"))
    assert update_error(llm, AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2"), tmp_path / "a") < 1e-3


@pytest.mark.parametrize(("model_type", "reason"), [("bert", "is not causal"), ("rwkv", "cannot continue a prompt")])
def test_models_that_cannot_work_are_refused_by_name(model_type, reason, tmp_path):
    message = refused(save_tiny(model_type, tmp_path / model_type), target_modules=targets(model_type))
    assert f"{model_type!r} ({model_type}) {reason}" in message


def test_composite_models_have_the_context_of_their_text(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 77, "vocab_size": len(tokenizer)}
    config = CONFIG_MAPPING["gemma3"](
        text_config={**sizes, **text, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0},
        vision_config={**sizes, "image_size": 28, "patch_size": 14},
        boi_token_index=5,
        eoi_token_index=6,
        image_token_index=7,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    llm = load_llm(str(tmp_path))
    assert llm.context == 77
    assert len(generate(llm, PROMPTS, 4)) == 2


@pytest.mark.parametrize("model_type", ["bamba", "bert", "gpt_neo", "minimax", "qwen3_next", "recurrent_gemma"])
def test_the_table_of_model_types_says_what_is(model_type, tmp_path):
    page = (Path(__file__).parent.parent / "docs/models.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {model_type} |"))
    found, told = (str(each).split("|") for each in (try_out(model_type, tmp_path / model_type), line))
    assert found[:3] + found[4:] == told[:3] + told[4:]
    if found[3].strip():
        assert float(found[3]) < 1e-3


# Through the command


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: change_tensors(folder, lambda tensors: tensors.pop("lm_head.weight")), "lacks lm_head.weight"),
        (lambda folder: AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder), "beyond its 260 embeddings"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pytorch_model.bin only"),
    ],
    ids=["weights", "tokenizer", "pickled"],
)
def test_a_model_that_is_not_right_ends_a_command_in_one_line(spoil, reason, folder, config, capsys):
    spoil(folder)
    assert prag("fit", config, "--trainer.logger=false", f"--model.model_name={folder}") == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("prag: error: "))
    assert reason in line
    assert "model.model_name" in line


def test_a_command_answers_with_a_checkpoint_made_for_beams(folder, config, tmp_path):
    def texts():
        assert prag("predict", config, "--model.inference_method=vanilla", f"--model.model_name={folder}") == 0
        (path,) = (tmp_path / "output").rglob("predict.json")
        rows = json.loads(path.read_text(encoding="utf-8"))
        shutil.rmtree(tmp_path / "output")
        return [row["text"] for row in rows]

    plain = texts()
    change_json(folder / "generation_config.json", num_beams=4, num_return_sequences=2, do_sample=True)
    assert texts() == plain
    change_json(folder / "generation_config.json", repetition_penalty=1.5)
    assert texts() != plain
