"""Texts are those that transformers' `generate` gives for each prompt alone, whatever the rows beside it."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from prag_lightning.errors import PragError
from prag_lightning.llm.gate import TESTED_TYPES, try_padding
from prag_lightning.llm.generation import GenerationFailure, generate, generate_each
from prag_lightning.llm.loading import load_llm
from prag_lightning.llm.sampling import RowSampler
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.merge import stack
from tiny_llm import save_random_llm
from tools.tiny_models import save_tiny, targets

NEW, SCALING = 12, 16.0
RNG = random.Random(0)
PROMPTS = [[RNG.randrange(5, 250) for _ in range(length)] for length in (3, 9, 30, 9, 1, 17)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_random_llm(tmp_path_factory.mktemp("generation") / "toy")


@pytest.fixture
def configured(folder, tmp_path):
    """Loads the model with generation settings."""

    def load(**settings):
        shutil.copytree(folder, tmp_path / "toy", dirs_exist_ok=True)
        path = tmp_path / "toy/generation_config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8")
        return load_llm(str(tmp_path / "toy"))

    return load


def some_adapters(llm):
    generator = torch.Generator().manual_seed(1)
    return [
        {n: (a, 0.02 * torch.randn(b.shape, generator=generator)) for n, (a, b) in each.items()}
        for each in (random_adapter(llm.stack, 4, seed) for seed in range(len(PROMPTS)))
    ]


def alone(llm, adapters=None, prompts=PROMPTS, **settings):
    """Each prompt by transformers, as the published code asks it."""
    texts = []
    for row, prompt in enumerate(prompts):
        if adapters is not None:
            llm.stack.set(stack([adapters[row]]), SCALING)
        ids = torch.tensor([prompt])
        output = llm.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW,
            num_beams=1,
            do_sample=False,
            pad_token_id=llm.pad_id,
            **settings,
        )
        llm.stack.clear()
        texts.append(llm.tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True))
    return texts


@pytest.mark.parametrize("model_type", TESTED_TYPES)
def test_a_batch_gives_what_each_prompt_gives_alone(model_type, tmp_path):
    llm = load_llm(str(save_tiny(model_type, tmp_path / model_type)), target_modules=targets(model_type))
    assert llm.pads
    assert try_padding(llm.model, llm.stack, llm.pad_id, model_type, "")
    adapters = some_adapters(llm)
    texts = generate(llm, PROMPTS, NEW, adapters=adapters, scaling=SCALING)
    assert texts == alone(llm, adapters)
    assert texts != generate(llm, PROMPTS, NEW)


def test_rows_end_where_they_end_alone(folder):
    llm = load_llm(str(folder))
    adapters = some_adapters(llm)
    whole = generate(llm, PROMPTS, NEW, adapters=adapters, scaling=SCALING)
    llm.model.generation_config.eos_token_id = [
        llm.tokenizer(text).input_ids[3 * row] for row, text in enumerate(whole)
    ]
    texts = generate(llm, PROMPTS, NEW, adapters=adapters, scaling=SCALING)
    assert texts == alone(llm, adapters)
    assert len(set(map(len, texts))) > 2


def test_what_fills_rows_up_is_in_no_text(configured):
    llm = configured(eos_token_id=70)
    llm.tokenizer.pad_token_id = 71  # an ordinary token
    assert generate(llm, PROMPTS, NEW) == alone(llm)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 2.0, "early_stopping": True},
        {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.9, "max_length": 30, "max_time": 0.001},
        {"return_dict_in_generate": True, "output_scores": True, "prompt_lookup_num_tokens": 3, "use_cache": False},
    ],
    ids=["beams", "sampling", "how it runs"],
)
def test_settings_of_other_ways_to_decode_are_left_out(settings, folder, configured):
    assert generate(configured(**settings), PROMPTS, NEW) == generate(load_llm(str(folder)), PROMPTS, NEW)


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"min_length": 12, "eos_token_id": list(range(20, 140))},
        {"suppress_tokens": list(range(20, 140)), "repetition_penalty": 1.2},
        {"stop_strings": ["a", "e"]},
    ],
    ids=lambda settings: " and ".join(settings),
)
def test_settings_of_greedy_decoding_are_honoured(settings, folder, configured):
    llm = configured(**settings)
    adapters = some_adapters(llm)
    texts = generate(llm, PROMPTS, NEW, adapters=adapters, scaling=SCALING)
    options = {"tokenizer": llm.tokenizer} if "stop_strings" in settings else {}
    assert texts == alone(llm, adapters, **options)
    assert texts != generate(load_llm(str(folder)), PROMPTS, NEW, adapters=adapters, scaling=SCALING)


def test_a_repetition_penalty_is_part_of_what_decides_answers(folder, configured):
    plain, penalised = load_llm(str(folder)), configured(repetition_penalty=1.3)
    assert plain.fingerprint == penalised.fingerprint
    assert plain.answer_fingerprint != penalised.answer_fingerprint


@pytest.mark.parametrize("model_type", ["recurrent_gemma", "minimax"])
def test_where_padding_reaches_texts_prompts_of_one_length_share_a_batch(model_type, tmp_path, capsys):
    llm = load_llm(str(save_tiny(model_type, tmp_path / model_type)), target_modules=targets(model_type))
    assert "padding reaches its texts" in capsys.readouterr().err
    adapters = some_adapters(llm)
    widths: list[int] = []
    llm.model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: widths.append(len(inputs[0])))
    # A lone token is read with the state of the text before, by RecurrentGemma itself.
    prompts = [prompt if len(prompt) > 1 else [*prompt, 5] for prompt in PROMPTS]
    texts = generate(llm, prompts, NEW, adapters=adapters, scaling=SCALING)
    assert set(widths) == {1, 2}
    assert texts == alone(llm, adapters, prompts)


@pytest.mark.parametrize("model_type", ["llama", "minimax"])
def test_a_row_is_sampled_by_its_own_seed(model_type, tmp_path):
    llm = load_llm(str(save_tiny(model_type, tmp_path / model_type)), target_modules=())

    def sampled(rows):
        return generate(
            llm,
            [PROMPTS[row] for row in rows],
            NEW,
            make_processors=lambda chosen: [RowSampler([rows[place] for place in chosen], 0.9, 20, NEW)],
        )

    together = sampled(range(len(PROMPTS)))
    assert together == [sampled([row])[0] for row in range(len(PROMPTS))]
    assert together != generate(llm, PROMPTS, NEW)


def test_a_prompt_that_cannot_be_continued_costs_its_row_alone(folder):
    llm = load_llm(str(folder))
    bad = {0: [], 2: [5] * 2040, 4: [5, llm.vocabulary]}
    prompts = [bad.get(row, prompt) for row, prompt in enumerate(PROMPTS)]
    adapters = some_adapters(llm)
    texts = generate_each(llm, prompts, NEW, adapters=adapters, scaling=SCALING)
    whole = generate(llm, PROMPTS, NEW, adapters=adapters, scaling=SCALING)
    assert [text for row, text in enumerate(texts) if row not in bad] == [
        text for row, text in enumerate(whole) if row not in bad
    ]
    reasons = [texts[row].reason for row in bad]
    assert "empty" in reasons[0]
    assert "2040 tokens" in reasons[1]
    assert "knows nothing" in reasons[2]
    with pytest.raises(PragError, match="empty"):
        generate(llm, prompts, NEW)
    assert all(isinstance(text, GenerationFailure) for text in generate_each(llm, list(bad.values()), NEW))


def test_scores_that_are_not_finite_cost_their_row_alone_and_only_before_its_end(folder):
    llm = load_llm(str(folder))
    config = llm.model.generation_config
    config.eos_token_id = None
    odd = llm.tokenizer.convert_tokens_to_ids("<|user|>")
    prompts = [[odd, 6, 7], [8, 9, 10]]
    before = generate(llm, prompts, NEW)
    llm.model.get_input_embeddings().weight[odd] = float("nan")
    texts = generate_each(llm, prompts, NEW)
    assert isinstance(texts[0], GenerationFailure)
    assert "not finite" in texts[0].reason
    assert texts[1] == before[1]
    first = int(llm.model(input_ids=torch.tensor([prompts[1]])).logits[0, -1].argmax())
    llm.model.get_input_embeddings().weight[first] = float("nan")
    assert isinstance(generate_each(llm, prompts, NEW)[1], GenerationFailure)
    config.eos_token_id = first
    assert generate_each(llm, prompts, NEW)[1] == llm.tokenizer.decode([first], skip_special_tokens=True)
