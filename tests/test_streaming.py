"""Answers in pieces while they are written: the pieces make the whole; whoever stops listening stops the writing."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prag_lightning import load_pipeline
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import PragError
from prag_lightning.llm.generation import generate, stream
from prag_lightning.llm.loading import load_llm
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.merge import stack
from tiny_llm import save_random_llm
from tools.tiny_models import save_tiny, targets

ROOT = Path(__file__).parent.parent
NEW, SCALING = 24, 16.0
RNG = random.Random(3)
PROMPTS = [[RNG.randrange(5, 250) for _ in range(length)] for length in (3, 9, 30, 1, 17, 50, 6, 8)]


@pytest.fixture(scope="module")
def tiny():
    return load_llm(str(ROOT / "checkpoints/prag-tiny"))


def some_adapter(llm):
    generator = torch.Generator().manual_seed(1)
    adapter = random_adapter(llm.stack, 4, 0)
    return stack([{n: (a, 0.02 * torch.randn(b.shape, generator=generator)) for n, (a, b) in adapter.items()}])


@settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=40), new=st.integers(1, 30))
def test_pieces_make_what_generate_writes_after_any_text(tiny, text, new):
    prompt = PromptTemplates.load(ROOT / "configs/prompts/default.yaml").question_ids(tiny.tokenizer, text)
    assert "".join(stream(tiny, prompt, new)) == generate(tiny, [prompt], new)[0]


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_characters_of_several_tokens_are_told_whole(llm, prompt):
    """A model of random bytes writes few that are characters."""
    adapter = some_adapter(llm)
    pieces = list(stream(llm, prompt, NEW, adapters=adapter, scaling=SCALING))
    assert ["".join(pieces)] == generate(llm, [prompt], NEW, adapters=adapter, scaling=SCALING)
    assert ["".join(pieces)] != generate(llm, [prompt], NEW)
    assert all(pieces)
    assert len(pieces) > 3


@pytest.mark.parametrize("asked", [{"repetition_penalty": 1.3}, {"stop_strings": ["a", "e"]}, {"eos_token_id": 70}])
def test_settings_of_decoding_are_honoured(asked, model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "toy")
    path = tmp_path / "toy/generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | asked), encoding="utf-8")
    configured = load_llm(str(tmp_path / "toy"))
    texts = ["".join(stream(configured, prompt, NEW)) for prompt in PROMPTS]
    assert texts == generate(configured, PROMPTS, NEW)


def test_a_model_of_another_kind_and_padding(tmp_path):
    llm = load_llm(str(save_tiny("recurrent_gemma", tmp_path / "llm")), target_modules=targets("recurrent_gemma"))
    prompts = [prompt for prompt in PROMPTS if len(prompt) > 1]
    assert ["".join(stream(llm, prompt, NEW)) for prompt in prompts] == generate(llm, prompts, NEW)


def test_the_precision_is_that_of_whoever_asks(llm):
    with torch.autocast("cpu", torch.bfloat16):
        mixed = [generate(llm, [prompt], NEW)[0] for prompt in PROMPTS]
        pieces = [stream(llm, prompt, NEW) for prompt in PROMPTS]
    assert ["".join(each) for each in pieces] == mixed
    assert mixed != generate(llm, PROMPTS, NEW)


def test_whoever_stops_listening_stops_the_writing(llm):
    adapter = some_adapter(llm)
    steps: list[int] = []
    handle = llm.model.get_input_embeddings().register_forward_hook(lambda *_: steps.append(1))
    before = generate(llm, PROMPTS[:1], NEW)
    pieces = stream(llm, PROMPTS[0], 1000, adapters=adapter, scaling=SCALING)
    steps.clear()
    assert next(pieces)
    with pytest.raises(PragError, match="still writing another answer"):
        generate(llm, PROMPTS, NEW)
    pieces.close()
    assert len(steps) < 500
    count = len(steps)
    assert all(layer.lora is None for layer in llm.stack.layers.values())
    assert generate(llm, PROMPTS[:1], NEW) == before
    assert len(steps) == count + NEW
    assert list(pieces) == []
    handle.remove()


def test_what_goes_wrong_while_writing_reaches_whoever_listens(tmp_path):
    llm = load_llm(str(save_random_llm(tmp_path / "llm")))
    with pytest.raises(PragError, match="no room"):
        stream(llm, PROMPTS[0], llm.context)
    with pytest.raises(PragError, match="empty"):
        stream(llm, [], NEW)
    adapter = some_adapter(llm)
    del adapter[next(iter(adapter))]
    with pytest.raises(ValueError, match="not for this model's layers"):
        list(stream(llm, PROMPTS[0], NEW, adapters=adapter))
    llm.model.get_input_embeddings().weight[PROMPTS[0][0]] = float("nan")
    with pytest.raises(PragError, match="not finite"):
        list(stream(llm, PROMPTS[0], NEW))
    assert "".join(stream(llm, PROMPTS[1], NEW)) == generate(llm, [PROMPTS[1]], NEW)[0]


@pytest.mark.parametrize("boundary", ["token", "published"])
def test_an_answer_is_told_without_what_the_boundary_left_to_write(tiny, boundary, monkeypatch):
    templates = PromptTemplates.load(ROOT / "configs/prompts/default.yaml", boundary)
    rng = random.Random(0)
    for prefix, text in (
        ("The answer is ", "  Paris. It is \n big  "),
        ("It's «", " «  Paris» "),
        ('A: "', 'The "x" '),
        ("", ""),
    ):
        monkeypatch.setitem(templates.templates, "direct.assistant", prefix + "{answer}")
        for _ in range(10):
            cuts = sorted(rng.randrange(len(text) + 1) for _ in range(5))
            pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            told = "".join(templates.answers_of(tiny.tokenizer, pieces))
            assert told == templates.answer_of(tiny.tokenizer, text).strip()


@pytest.mark.parametrize("method", ["vanilla", "icl", "prag"])
def test_an_answer_in_pieces_is_the_one_that_comes_at_once(method, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    asker = load_pipeline(
        "configs/demo.yaml",
        f"--data.augment_root={tmp_path / 'aug'}",
        f"--model.offline_root={tmp_path / 'adapters'}",
        f"--model.inference_method={method}",
        "--data.topk=1",
    ).asker()
    question, told = "Which country does Helstead belong to?", []

    def listen():
        whole = yield from asker.stream(question)
        told.append(whole)

    text = "".join(listen())
    at_once = asker.ask(question)
    assert text == at_once.reply == told[0].reply
    assert (told[0].answer, told[0].passages) == (at_once.answer, at_once.passages)
    assert set(told[0].seconds) == set(at_once.seconds)
    pieces = asker.stream(question)
    next(pieces)
    with pytest.raises(PragError, match="still writing"):
        asker.ask(question)
    pieces.close()
    assert asker.ask(question).reply == text
    with pytest.raises(PragError, match="empty"):
        next(asker.stream("?!"))
