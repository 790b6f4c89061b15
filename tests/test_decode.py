"""Decoding gives the tokens that transformers' `generate` gives, whatever the rows beside them do."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, LogitsProcessorList

from prag_lightning.llm import generation as answer
from prag_lightning.llm.decode import decode, decodes
from prag_lightning.llm.sampling import RowSampler
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.merge import stack
from tiny_llm import load_random_llm

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
    llm = load_random_llm(name, tmp_path)
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
    llm = load_random_llm("llama", tmp_path)
    adapters = stack(some_adapters(llm))

    def sampler():
        return [RowSampler(range(len(PROMPTS)), 0.9, 20, NEW)]

    llm.model.generation_config.eos_token_id = sorted({int(token) for token in by_us(llm, adapters, sampler())[:, 5]})
    written = by_us(llm, adapters, sampler())
    assert (written[:, -1] == llm.pad_id).any()
    assert torch.equal(written, by_transformers(llm, adapters, sampler()))


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_any_attention_that_adds_its_mask_gives_the_same(name, tmp_path):
    llm = load_random_llm(name, tmp_path)
    adapters = stack(some_adapters(llm))
    written = by_us(llm, adapters)
    for implementation in ("eager", "sdpa"):
        llm.model.set_attn_implementation(implementation)
        assert decodes(llm.model)
        assert torch.equal(by_us(llm, adapters), written)
    llm.model.config._attn_implementation = "flex_attention"
    assert not decodes(llm.model)


def test_of_a_prompt_the_last_layer_makes_keys_and_values_alone(tmp_path):
    llm = load_random_llm("llama", tmp_path)
    lengths: dict[int, list[int]] = {0: [], 1: []}
    for number, layer in enumerate(llm.model.model.layers):
        layer.mlp.register_forward_pre_hook(lambda _, x, number=number: lengths[number].append(x[0].shape[1]))
    by_us(llm, stack(some_adapters(llm)))
    assert lengths == {0: [max(map(len, PROMPTS)) - 1] + [1] * NEW, 1: [1] * NEW}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "qwen2"])
@pytest.mark.parametrize("rows", [1, 2, 16, 129])
@torch.inference_mode()
def test_a_model_on_a_cpu_computes_what_transformers_own_does(name, rows, precision, tmp_path):
    ours = load_random_llm(name, tmp_path).model.to(precision)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=precision)
    ids = torch.randint(250, (rows, 9), generator=torch.Generator().manual_seed(rows))
    seen = torch.ones_like(ids)
    seen[::2, :3] = 0
    added = torch.zeros(rows, 1, 1, 9, dtype=precision).masked_fill_(seen[:, None, None] == 0, -torch.inf)
    for mask in (seen, added, None):
        steps = []
        for model in (ours, plain):
            cache = DynamicCache(config=model.config)
            start = mask[:, :8] if mask is seen else None
            model(input_ids=ids[:, :8], attention_mask=start, past_key_values=cache)
            steps.append(model(input_ids=ids[:, 8:], attention_mask=mask, past_key_values=cache).logits.float())
        tolerance = 1e-5 if precision == torch.float32 else 3e-2
        assert (steps[0] - steps[1]).norm() <= tolerance * steps[1].norm()


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_other_caches_are_left_to_transformers(name, tmp_path):
    llm = load_random_llm(name, tmp_path)
    assert not decodes(llm.model)
    adapters = some_adapters(llm)
    together = answer.generate(llm, PROMPTS, NEW, adapters=adapters, scaling=SCALING)
    written = by_transformers(llm, stack(adapters))
    assert together == llm.tokenizer.batch_decode(written, skip_special_tokens=True)


def test_a_checkpoint_that_asks_for_more_is_left_to_transformers(tmp_path):
    llm = load_random_llm("llama", tmp_path)
    assert decodes(llm.model)
    llm.model.generation_config.no_repeat_ngram_size = 2
    assert not decodes(llm.model)
