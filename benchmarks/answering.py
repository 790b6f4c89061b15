"""How long answering takes beside plain PEFT, and augmenting."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks import baselines
from benchmarks.subjects import PROMPTS, RECIPE, TINY, as_examples, some_passages
from benchmarks.timing import PRODUCTS, Timer, alternate, product, product_rate
from prag_lightning.augment import AugmentSettings, Failures, LLMAugmenter
from prag_lightning.journal import Journal
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.lora.adapters import lora_config, read_adapter, write_adapter
from prag_lightning.lora.merge import merge_all
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.training.encoder import Encoder
from tools.prag_tiny.world import World

ANSWER_BATCHES, TOPK = (16, 64), 3
ADAPTERS = 48


def answer(folder: Path, size: str, rounds: int) -> list[dict[str, Any]]:
    """Seconds a question by method and length: one after the other through PEFT, and in batches."""
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    plain.generation_config.pad_token_id = 0
    llm = load_llm(str(folder))
    directories = save_adapters(llm, folder / "adapters")
    passages = [augmented.passage for augmented in some_passages(ADAPTERS)]
    most = max(ANSWER_BATCHES)
    places = [[(TOPK * i + j) % ADAPTERS for j in range(TOPK)] for i in range(most)]
    chosen = [[directories[place] for place in row] for row in places]
    parameters = sum(p.numel() for p in plain.parameters())
    rows = []
    for method in ("prag", "combine"):
        shown = [[passages[place] for place in row] if method == "combine" else [] for row in places]
        prompts = [PROMPTS.question_ids(llm.tokenizer, f"Where was {i} born?", each) for i, each in enumerate(shown)]
        for length in (20, 128):
            print(f"answer, {size}, {method}, {length} tokens", file=sys.stderr)
            measured = answer_rounds(plain, llm, prompts, chosen, length, rounds)
            prompt = sum(map(len, prompts)) / len(prompts)
            operations = 2 * parameters * (prompt + length)
            for row in measured:
                share = operations / row["ours"]["seconds"] / row.pop("product_rate")
                shown_as = {"model": size, "method": method, "prompt": prompt, "new_tokens": length}
                rows.append(shown_as | row | {"share_of_matmul": share})
    return rows


def answer_rounds(
    plain: PreTrainedModel,
    llm: LLM,
    prompts: Sequence[Sequence[int]],
    chosen: Sequence[Sequence[Path]],
    length: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Both sides' seconds a question, and the share of loading and merging in ours, from disk and from memory."""
    alone, first = 2, ANSWER_BATCHES[0]

    def load(row: Sequence[Path]) -> list[LoraWeights]:
        return [read_adapter(directory, llm.stack, RECIPE.lora_rank, RECIPE.lora_alpha) for directory in row]

    def through_peft() -> object:
        return [baselines.answer(plain, prompts[i], chosen[i], length) for i in range(alone)]

    def ours(batch: int) -> object:
        merged = merge_all([load(row) for row in chosen[:batch]])
        return generate(llm, prompts[:batch], length, adapters=merged, scaling=RECIPE.scaling)

    loaded = [load(row) for row in chosen[:first]]
    work: dict[str, tuple[Timer, int]] = {"PEFT": (through_peft, alone)}
    work |= {f"ours, {batch}": (partial(ours, batch), batch) for batch in ANSWER_BATCHES}
    work["from disk"] = (lambda: merge_all([load(row) for row in chosen[:first]]), first)
    work["from memory"] = (lambda: merge_all(loaded), first)
    work["product"] = product(torch.float32), PRODUCTS
    measured = alternate(work, rounds)
    rows = []
    for batch in ANSWER_BATCHES:
        own = measured[f"ours, {batch}"]
        row: dict[str, Any] = {"batch": batch, "peft": vars(measured["PEFT"]), "ours": vars(own)}
        row["times"] = measured["PEFT"].seconds / own.seconds
        row["product_rate"] = product_rate(measured["product"])
        row |= {f"loading_{name}": measured[f"from {name}"].seconds / own.seconds for name in ("disk", "memory")}
        rows.append(row)
    return rows


def save_adapters(llm: LLM, root: Path) -> list[Path]:
    """Adapters of as many passages as a batch of questions needs."""
    start = read_adapter(root.parent / "base_weight", llm.stack, RECIPE.lora_rank, RECIPE.lora_alpha)
    config = lora_config(llm.name, RECIPE.lora_rank, RECIPE.lora_alpha, llm.stack.targets)
    passages = as_examples(llm, some_passages(ADAPTERS))
    for encoded in Encoder(llm, start, RECIPE).encode(passages):
        write_adapter(root / encoded.key, encoded.weights, config)
    return [root / passage.key for passage in passages]


def augment(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Passages a second that prag-tiny augments, one at a time and in batches."""
    llm = load_llm(str(TINY))
    world = World(1, demo=True)
    passages = [world.passage(world.entity()) for _ in range(32)]
    work: dict[str, tuple[Timer, int]] = {}
    for size in (1, 16):

        def run(size: int = size) -> None:
            with tempfile.TemporaryDirectory(dir=folder) as name:
                journal, failures = Journal(Path(name)), Failures(Path(name) / "failed.jsonl")
                settings = AugmentSettings(augment_batch_size=size)
                count = 4 if size == 1 else len(passages)
                list(LLMAugmenter(llm, PROMPTS, settings, journal, failures).augment(passages[:count]))

        work[str(size)] = (run, 4 if size == 1 else len(passages))
    measured = alternate(work, rounds)
    return [{"batch": int(size), "passages_per_second": 1 / spread.seconds} for size, spread in measured.items()]
