"""Parts that are computed in one piece train the adapters that the model's own do, and leave strange models alone."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from prag_lightning.fused import FusedParts, attention, pieces
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.training.encoder import Encoder, PassageExamples
from prag_lightning.training.examples import Example
from prag_lightning.training.recipe import TrainingRecipe
from tiny_llm import save_random_llm

RECIPE = TrainingRecipe(per_device_train_batch_size=2)
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
MODELS = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 30}),
    "mistral, short window": (MistralForCausalLM, MistralConfig, {"sliding_window": 8}),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, {"attn_logit_softcapping": 5.0}),
}


def load(name: str, folder: Path) -> LLM:
    save_random_llm(folder)
    if name != "llama":
        model, config, options = MODELS[name]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        torch.manual_seed(0)
        made = model(config(vocab_size=len(tokenizer), **SIZES, **options, **ids))
        for parameter in made.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        made.save_pretrained(folder)
    return load_llm(str(folder))


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("llama", {"FusedMLP", "FusedRMSNorm", "FusedAttention"}),
        ("qwen2", {"FusedMLP", "FusedRMSNorm", "FusedAttention"}),
        ("qwen3", {"FusedMLP", "FusedRMSNorm"}),
        ("mistral", {"FusedMLP", "FusedRMSNorm", "FusedAttention"}),
        ("mistral, short window", {"FusedMLP", "FusedRMSNorm"}),
        ("gemma2", set()),
    ],
)
def test_adapters_are_the_same_with_and_without(name, kinds, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "TOKENS_AT_ONCE", 100)
    monkeypatch.setattr(attention, "_BLOCK", 16)
    llm = load(name, tmp_path)
    generator = torch.Generator().manual_seed(1)

    def example(tokens: int) -> Example:
        return Example(tuple(torch.randint(llm.model.config.vocab_size, (tokens,), generator=generator).tolist()))

    lengths = ((40, 21, 38), (39, 40, 17), (35,), (12, 40))
    group = [PassageExamples(str(i), tuple(map(example, each))) for i, each in enumerate(lengths)]
    start = random_adapter(llm.stack, 2, seed=0)
    start = {n: (a, 0.1 * torch.randn(b.shape, generator=generator)) for n, (a, b) in start.items()}
    parts = FusedParts(llm, start, RECIPE.scaling).parts
    assert {type(part).__name__ for _, part in parts.values()} == kinds
    encoded = Encoder(llm, start, RECIPE).encode(group)
    assert not any("forward" in vars(module) for module in llm.model.modules())
    monkeypatch.setattr("prag_lightning.fused._KINDS", ())
    for got, wanted in zip(encoded, Encoder(llm, start, RECIPE).encode(group), strict=True):
        torch.testing.assert_close(torch.tensor(got.losses), torch.tensor(wanted.losses))
        for module, pair in wanted.weights.items():
            for tensor, reference, begin in zip(got.weights[module], pair, start[module], strict=True):
                assert (tensor - reference).norm() < 1e-3 * (reference - begin).norm()


def test_rows_that_are_too_long_or_of_low_precision_attend_as_the_model_does(tmp_path):
    llm = load("llama", tmp_path)
    parts = FusedParts(llm, random_adapter(llm.stack, 2, seed=0), 1.0).parts
    (attend, *_) = (part for _, part in parts.values() if isinstance(part, attention.FusedAttention))
    positions = torch.ones(1, 1, 8), torch.zeros(1, 1, 8)
    assert attend.applies(torch.ones(1, attention.LONGEST, 32), positions)
    assert not attend.applies(torch.ones(1, attention.LONGEST + 1, 32), positions)
    assert not attend.applies(torch.ones(1, 8, 32, dtype=torch.bfloat16), positions)
    assert not attend.applies(torch.ones(1, 8, 32), positions, attention_mask=torch.ones(1, 1, 8, 8))
