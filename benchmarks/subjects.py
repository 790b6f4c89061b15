"""What is measured: models with random weights, so that nothing is downloaded, and passages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks import baselines
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.llm.loading import LLM
from prag_lightning.records import AugmentedPassage
from prag_lightning.training.encoder import PassageExamples
from prag_lightning.training.examples import ExampleBuilder
from prag_lightning.training.recipe import TrainingRecipe
from tools.prag_tiny.world import World

HERE = Path(__file__).parent
TINY = HERE.parent / "checkpoints" / "prag-tiny"
PROMPTS = PromptTemplates.load(HERE.parent / "configs/prompts/default.yaml")
SHAPES = {
    "2M": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 3},
    "26M": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8},
}
RECIPE = TrainingRecipe()
GROUP_TOKENS = {"2M": 16384, "26M": 8192}


def make_model(folder: Path, size: str) -> Path:
    """A Llama of random weights with prag-tiny's tokenizer, and what its adapters start from."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[size],
        num_key_value_heads=SHAPES[size]["num_attention_heads"] // (4 if size == "26M" else 1),
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    baselines.make_base_weight(model, folder / "base_weight", RECIPE.lora_rank, RECIPE.lora_alpha)
    return folder


def some_passages(count: int) -> list[AugmentedPassage]:
    """Passages of about 80 words, with a rewrite and three QA pairs each."""
    world = World(0, demo=True)
    made = []
    for _ in range(count):
        parts = [world.augmented(world.entity()) for _ in range(4)]
        passage, rewrite = (" ".join(getattr(part, name) for part in parts) for name in ("passage", "rewrite"))
        made.append(AugmentedPassage(passage, rewrite, tuple(part.qa[0] for part in parts[:3])))
    return made


def as_examples(llm: LLM, passages: Sequence[AugmentedPassage]) -> list[PassageExamples]:
    """The published training examples of passages."""
    builder = ExampleBuilder(PROMPTS, llm.tokenizer)
    return [PassageExamples(str(i), tuple(builder.build(passage))) for i, passage in enumerate(passages)]
