"""Adapters that read only where general text has little energy, and adapters that share their A."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import AutoModelForCausalLM

from prag_lightning.data.general_text import GeneralText, load_general_text
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.lora.adapters import lora_config, random_adapter, write_adapter
from prag_lightning.lora.merge import merge, merge_all
from prag_lightning.lora.names import MERGES
from prag_lightning.lora.null_space import NullSpace
from prag_lightning.records import AugmentedPassage, QAPair
from prag_lightning.resources import shipped
from prag_lightning.training.encoder import Encoder, PassageExamples
from prag_lightning.training.examples import ExampleBuilder
from prag_lightning.training.null_space import NullSpaceFile, second_moments
from prag_lightning.training.recipe import TrainingRecipe
from toy import EXPERIMENT, RECORDS, prag

PROMPTS = PromptTemplates.load(Path(__file__).parent.parent / "configs/prompts/default.yaml")
TEXT = [
    *(GeneralText(passage=f"The {word} lies by the sea. It is old.") for word in ("town", "ship", "stone wall", "fox")),
    *(GeneralText(question=f"What is {word}?") for word in ("red", "a bird", "the moon")),
    GeneralText("Where is Ana?", "Ana is in the old house by the river."),
]
PASSAGES = [
    AugmentedPassage(text, f"again {text}", (QAPair(f"What is {text}?", "a", "It is a."),) * pairs)
    for text, pairs in (("red fox", 3), ("blue bird of the sea", 2), ("tree", 1))
]
SHARE = 0.2


@pytest.fixture(scope="module")
def null_space(llm, tmp_path_factory) -> NullSpace:
    return NullSpaceFile(tmp_path_factory.mktemp("null"), SHARE, TEXT, PROMPTS).open(llm, create=True)


def inputs_of(model_folder: Path, texts: list[str], llm: LLM) -> dict[str, torch.Tensor]:
    """By layer, what goes into it while a model without our engine reads texts one by one."""
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    seen: dict[str, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in llm.stack.targets:
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.setdefault(name, []).append(inputs[0].detach()[0])
            )
    for text in texts:
        model(torch.tensor([llm.tokenizer(text)["input_ids"]]))
    return {name: torch.cat(rows) for name, rows in seen.items()}


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_moments_are_those_of_the_inputs_of_each_layer_whatever_the_batch(model_folder, llm, batch):
    texts = ["fox by the sea", "Old town", "The moon is a stone. It is old."]  # that begin unlike
    inputs = inputs_of(model_folder, texts, llm)
    moments = second_moments(llm, PROMPTS, [GeneralText(passage=text) for text in texts], batch)
    assert moments.sums.keys() | moments.shared_with.keys() == inputs.keys() == llm.stack.layers.keys()
    for name, rows in inputs.items():
        rows = normalize(rows, dim=-1)
        ours = moments.sums[moments.shared_with.get(name, name)]
        assert torch.allclose(ours, rows.T @ rows / len(rows), atol=1e-4), name


def test_what_texts_begin_with_counts_once(llm):
    once = second_moments(llm, PROMPTS, [GeneralText(passage="The old town by the sea")])
    twice = second_moments(
        llm, PROMPTS, [GeneralText(passage="The old town"), *[GeneralText(passage="The old town by the sea")] * 2]
    )
    for name, sums in once.sums.items():
        assert torch.allclose(sums, twice.sums[name], atol=1e-4), name


def test_a_projected_adapter_reads_the_share_that_was_asked_for(llm, null_space):
    moments = second_moments(llm, PROMPTS, TEXT)
    for name, (a_shape, _) in llm.stack.shapes(1).items():
        sums = moments.sums[moments.shared_with.get(name, name)]
        projection = null_space.project(name, torch.eye(a_shape[1]))
        assert torch.allclose(projection @ projection, projection, atol=1e-4)
        kept = float((projection * sums).sum() / sums.trace())
        strongest = float(torch.linalg.eigvalsh(sums)[-1] / sums.trace())
        assert SHARE - strongest < kept <= SHARE + 1e-3, name


@pytest.mark.parametrize("lora_a", ["trained", "shared"])
@pytest.mark.parametrize("projected", [True, False])
def test_adapters_equal_plain_peft(llm, model_folder, null_space, tmp_path, lora_a, projected):
    recipe = TrainingRecipe(4, 8, 1e-2, 2, lora_a=lora_a)
    start = random_adapter(llm.stack, 4, seed=0)
    start = null_space.projected(start) if projected else start
    builder = ExampleBuilder(PROMPTS, llm.tokenizer)
    passages = [PassageExamples(str(i), tuple(builder.build(p))) for i, p in enumerate(PASSAGES)]
    encoded = Encoder(llm, start, recipe, null_space if projected else None).encode(passages)
    write_adapter(tmp_path / "start", start, lora_config(llm.name, 4, 8, llm.stack.targets))
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    for got, passage in zip(encoded, passages, strict=True):
        peft_model = PeftModel.from_pretrained(model, str(tmp_path / "start"), is_trainable=True)
        named = {
            name.removeprefix("base_model.model.").replace(".default", ""): p
            for name, p in peft_model.named_parameters()
        }
        trained = [p for name, p in named.items() if "lora_B" in name or ("lora_A" in name and lora_a == "trained")]
        optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate)
        for step in range(recipe.steps(len(passage.examples))):
            (example,) = recipe.step_examples(passage.examples, step)
            ids = torch.tensor([example.input_ids])
            labels = ids.clone()
            labels[:, : example.first_target] = -100
            optimizer.zero_grad()
            peft_model(ids, labels=labels).loss.backward()
            optimizer.step()
            if projected and lora_a == "trained":
                with torch.no_grad():
                    for name in start:
                        weight = named[f"{name}.lora_A.weight"]
                        weight.copy_(null_space.project(name, weight))
        for name, (ours_a, ours_b) in got.weights.items():
            wanted_a, wanted_b = (named[f"{name}.lora_{letter}.weight"].detach() for letter in "AB")
            assert (ours_b - wanted_b).norm() < 1e-3 * wanted_b.norm(), name
            assert (ours_a - wanted_a).norm() < 1e-4 * wanted_a.norm(), name
            if lora_a == "shared":
                assert torch.equal(ours_a, start[name][0])
        model = peft_model.unload()


@pytest.mark.parametrize("method", MERGES)
def test_adapters_that_share_their_a_add_up_in_its_rank(llm, method):
    base = random_adapter(llm.stack, 4, seed=0)
    adapters = [
        {
            name: (lora_a, torch.randn(lora_b.shape, generator=torch.Generator().manual_seed(seed)))
            for name, (lora_a, lora_b) in base.items()
        }
        for seed in range(3)
    ]
    scores = [3.0, 2.0, 1.0]
    plain, shared = merge(adapters, method, scores), merge(adapters, method, scores, lora_a="shared")
    stacked = merge_all([adapters, adapters[::-1]], method, [scores, scores], lora_a="shared")
    for name, (lora_a, lora_b) in shared.items():
        assert len(lora_a) == 4
        wanted = plain[name][1] @ plain[name][0]
        assert torch.allclose(lora_b @ lora_a, wanted, rtol=1e-4, atol=1e-4)
        assert torch.allclose(stacked[name][1][0] @ stacked[name][0][0], wanted, rtol=1e-4, atol=1e-4)


# Through the command

OPTIONS = ("--model.null_space", "0.3", "--model.general_text", "general.jsonl")


@pytest.fixture
def general(config) -> Path:
    path = config.parent / "general.jsonl"
    rows = [{name: value for name, value in vars(row).items() if value} for row in TEXT]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def projected_folder(name: str) -> Path:
    return Path("offline", str(EXPERIMENT).replace("_direct", f"_direct_{name}"))


def weights(root: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {p.parent.name: load_file(p) for p in root.glob("adapters/*/*/adapter_model.safetensors")}


@pytest.mark.parametrize("lora_a", ["trained", "shared"])
def test_fit_and_test_with_a_projection(config, model_folder, general, lora_a, capsys):
    options = (*OPTIONS, "--model.lora_a", lora_a)
    assert prag("test", config, *options) == 2
    assert "Run 'prag fit'" in capsys.readouterr().err
    assert prag("fit", config, *options) == 0
    root = projected_folder("null_space=0.3" + ("_lora_a=shared" if lora_a == "shared" else ""))
    adapters = weights(root)
    assert len(adapters) == len({text for record in RECORDS for text in record["passages"]})
    (path,) = Path("offline/random").glob("null_space=0.3_*.safetensors")
    null_space = NullSpace.load(path, load_llm(str(model_folder)).stack)
    for tensors in adapters.values():
        for key, tensor in tensors.items():
            name, letter = key.removeprefix("base_model.model.").removesuffix(".weight").split(".lora_")
            if letter == "A":
                assert torch.allclose(null_space.project(name, tensor), tensor, atol=1e-5)
    assert prag("test", config, *options) == 0
    assert prag("fit", config, *options) == 0
    assert "0 of 5 passages to encode" in capsys.readouterr().out


def test_another_text_or_share_is_another_projection(config, general, capsys):
    assert prag("fit", config, *OPTIONS) == 0
    before = weights(projected_folder("null_space=0.3"))
    general.write_text(general.read_text() + '{"question": "Who is Oru?"}\n', encoding="utf-8")
    capsys.readouterr()
    assert prag("fit", config, *OPTIONS) == 0
    assert "5 of 5 passages to encode" in capsys.readouterr().out
    assert len(weights(projected_folder("null_space=0.3"))) == 2 * len(before)
    assert prag("fit", config, *OPTIONS, "--model.null_space", "0.1") == 0
    assert weights(projected_folder("null_space=0.1")).keys().isdisjoint(before)
    assert len(list(Path("offline/random").glob("null_space=*.safetensors"))) == 3


def test_a_model_may_bring_its_own_general_text(config, general, model_folder, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(model_folder, own)
    shutil.copy(general, own / "general_text.jsonl")
    assert prag("fit", config, "--model.null_space=0.3", "--model.general_text=general.jsonl") == 0
    assert prag("fit", config, "--model.null_space=0.3", f"--model.model_name={own}") == 0
    (given,), (found,) = (list(Path("offline").glob(f"{name}/null_space=*.safetensors")) for name in ("random", "own"))
    assert given.read_bytes() == found.read_bytes()
    assert given.name == found.name


def test_what_is_wrong_is_said(config, general, capsys):
    for value in ("0", "1", "-0.1", "nan"):
        assert prag("fit", config, "--model.null_space", value) == 2
        assert "model.null_space" in capsys.readouterr().err
    assert prag("fit", config, *OPTIONS, "--model.lora_a", "frozen") == 2
    assert "lora_a" in capsys.readouterr().err
    assert prag("fit", config, *OPTIONS, "--model.general_text", "nowhere.jsonl") == 2
    assert "nowhere.jsonl" in capsys.readouterr().err
    for text, words in (
        ("", "empty"),
        ("[]\n", "line 1"),
        ('{"question": "a"}\n\n{"passage": 3}\n', "line 3"),
        ("{", "line 1"),
    ):
        general.write_text(text, encoding="utf-8")
        assert prag("fit", config, *OPTIONS) == 2
        assert words in (said := capsys.readouterr().err)
        assert "Traceback" not in said


def test_a_projection_that_was_cut_is_refused_and_made_anew_when_deleted(config, general, capsys):
    assert prag("fit", config, *OPTIONS) == 0
    (path,) = Path("offline/random").glob("null_space=*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert prag("fit", config, *OPTIONS) == 2
    assert "Delete it and run 'prag fit' again" in capsys.readouterr().err
    path.unlink()
    assert prag("fit", config, *OPTIONS) == 0
    assert path.read_bytes() == whole
    assert "0 of 5 passages to encode" in capsys.readouterr().out


def test_adapters_of_another_version_are_said_not_to_be_used(config, capsys):
    assert prag("fit", config) == 0
    version = Path("offline", EXPERIMENT, "recipe_version.json")
    assert "another version" not in capsys.readouterr().err
    version.unlink()
    assert prag("fit", config) == 0
    assert "adapters of another version of this program are not used" in capsys.readouterr().err
    assert prag("fit", config) == 0
    assert "another version" not in capsys.readouterr().err


def test_the_plan_names_the_projection(config, general, capsys):
    assert prag("plan", config, *OPTIONS) == 0
    assert "null space" in capsys.readouterr().out
    assert prag("plan", config) == 0
    assert "null space" not in capsys.readouterr().out


def test_the_text_that_ships_asks_nothing_that_the_benchmark_asks():
    rows = load_general_text("configs/general_text.jsonl")
    known = json.loads((Path(__file__).parent.parent / "benchmarks/general.json").read_text(encoding="utf-8"))
    assert len(rows) > 300
    assert {row.question.lower() for row in rows}.isdisjoint(row["question"].lower() for row in known)
    assert (shipped() / "configs/general_text.jsonl").is_file()
