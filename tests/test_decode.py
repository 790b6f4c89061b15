"""Decoding gives the tokens that transformers' `generate` gives, whatever the rows beside them do."""

import random

import pytest
import torch
from transformers import LogitsProcessorList

from prag_lightning import answer
from prag_lightning.augment.sampling import RowSampler
from prag_lightning.decode import decode, decodes
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.merge import stack
from test_fused import load

NEW, SCALING = 24, 16.0
RNG = random.Random(0)
PROMPTS = [[RNG.randrange(5, 250) for _ in range(length)] for length in (3, 9, 30, 9, 1, 17, 40, 5)]


def padded(llm):
    longest = max(map(len, PROMPTS))
    ids = torch.tensor([[llm.pad_id] * (longest - len(prompt)) + prompt for prompt in PROMPTS])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in PROMPTS])
    return ids, mask


def by_transformers(llm, adapters, processors=()):
    ids, mask = padded(llm)
    llm.stack.set(adapters, SCALING)
    written = llm.model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=NEW,
        do_sample=False,
        pad_token_id=llm.pad_id,
        logits_processor=LogitsProcessorList(processors),
    )[:, ids.shape[1] :]
    llm.stack.clear()
    return torch.nn.functional.pad(written, (0, NEW - written.shape[1]), value=llm.pad_id)


@torch.inference_mode()
def by_us(llm, adapters, processors=()):
    written, broken = decode(llm, *padded(llm), NEW, adapters, SCALING, processors)
    llm.stack.clear()
    assert not broken.any()
    return written


def some_adapters(llm):
    generator = torch.Generator().manual_seed(1)
    return [
        {n: (a, 0.02 * torch.randn(b.shape, generator=generator)) for n, (a, b) in each.items()}
        for each in (random_adapter(llm.stack, 4, seed) for seed in range(len(PROMPTS)))
    ]


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_tokens_are_those_of_generate(name, tmp_path):
    llm = load(name, tmp_path)
    assert decodes(llm.model)
    adapters = stack(some_adapters(llm))
    llm.model.generation_config.eos_token_id = None
    whole = by_us(llm, adapters)
    assert torch.equal(whole, by_transformers(llm, adapters))
    widths: list[int] = []
    llm.model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: widths.append(len(inputs[0])))
    llm.model.generation_config.eos_token_id = sorted({int(whole[row, 3 * row]) for row in range(1, 6)})
    ended = by_us(llm, adapters)
    assert not torch.equal(ended, whole)
    assert 1 <= widths[-1] < widths[0] == len(PROMPTS)
    assert widths == sorted(widths, reverse=True)
    assert torch.equal(ended, by_transformers(llm, adapters))


def test_processors_see_every_row_to_the_end(tmp_path):
    llm = load("llama", tmp_path)
    adapters = stack(some_adapters(llm))

    def sampler():
        return [RowSampler(range(len(PROMPTS)), 0.9, 20, NEW)]

    llm.model.generation_config.eos_token_id = sorted({int(token) for token in by_us(llm, adapters, sampler())[:, 5]})
    written = by_us(llm, adapters, sampler())
    assert (written[:, -1] == llm.pad_id).any()
    assert torch.equal(written, by_transformers(llm, adapters, sampler()))


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_other_caches_are_left_to_transformers(name, tmp_path):
    llm = load(name, tmp_path)
    assert not decodes(llm.model)
    adapters = some_adapters(llm)
    together = answer.generate(llm, PROMPTS, NEW, adapters=adapters, scaling=SCALING)
    written = by_transformers(llm, stack(adapters))
    assert together == llm.tokenizer.batch_decode(written, skip_special_tokens=True)


def test_a_checkpoint_that_asks_for_more_is_left_to_transformers(tmp_path):
    llm = load("llama", tmp_path)
    assert decodes(llm.model)
    llm.model.generation_config.no_repeat_ngram_size = 2
    assert not decodes(llm.model)
