"""How long encoding takes beside plain PEFT, how exact it is, and how it grows with the number of passages."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks import baselines
from benchmarks.retrieval import peak_mb
from benchmarks.subjects import GROUP_TOKENS, PROMPTS, RECIPE, as_examples, some_passages
from benchmarks.timing import PRODUCTS, PUBLISHED, Timer, alternate, precisions, product, product_rate, timed
from prag_lightning.llm.loading import load_llm
from prag_lightning.lora.adapters import read_adapter
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.records import AugmentedPassage
from prag_lightning.training.encoder import Encoder, PassageExamples
from prag_lightning.training.examples import ExampleBuilder
from prag_lightning.training.groups import group_passages
from prag_lightning.training.layout import Layout
from prag_lightning.training.library import AdapterLibrary

PADDED = 3000
COMPARED = 5
"""Passages whose updates are compared with those of plain PEFT."""
WARMING = 80
"""Passages that a process has encoded before growth is measured."""


def encode(folder: Path, size: str, rounds: int) -> list[dict[str, Any]]:
    """Seconds a passage: as published, without padding, and in groups, in float32 and bfloat16."""
    print(f"encode, {size}", file=sys.stderr)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = folder / "base_weight"
    llms = {dtype: load_llm(str(folder), dtype=dtype) for dtype in precisions()}
    passages = as_examples(llms[torch.float32], some_passages(200))
    (group, *_) = group_passages(passages, RECIPE, GROUP_TOKENS[size])
    examples = [(example.input_ids, example.first_target) for example in passages[0].examples]
    encoders = {
        dtype: Encoder(llm, read_adapter(base, llm.stack, RECIPE.lora_rank, RECIPE.lora_alpha), RECIPE)
        for dtype, llm in llms.items()
    }
    work: dict[str, tuple[Timer, int]] = {
        PUBLISHED: (lambda: baselines.train(plain, base, examples, pad_to=PADDED), 1),
        "without padding": (lambda: baselines.train(plain, base, examples), 1),
    }
    for dtype, encoder in encoders.items():
        work[f"ours, {dtype}".replace("torch.", "")] = (partial(encoder.encode, group), len(group))
    products = {f"product, {dtype}".replace("torch.", ""): (product(dtype), PRODUCTS) for dtype in llms}
    measured = alternate(work | products, rounds)
    tokens = sum(len(example.input_ids) for passage in group for example in passage.examples) / len(group)
    parameters = sum(p.numel() for p in plain.parameters())
    rows = []
    for name in work:
        spread = measured[name]
        row: dict[str, Any] = {"model": size, "how": name, **vars(spread)}
        row["times_published"] = measured[PUBLISHED].seconds / spread.seconds
        row["times_without_padding"] = measured["without padding"].seconds / spread.seconds
        if name.startswith("ours"):
            rate = 4 * parameters * tokens / spread.seconds
            row |= {"passages_at_once": len(group), "tokens": tokens, "gflops": rate / 1e9}
            row["share_of_matmul"] = rate / product_rate(measured[name.replace("ours", "product")])
        rows.append(row)
    if torch.bfloat16 in encoders:
        rows[-1]["change"] = change(encoders[torch.float32], encoders[torch.bfloat16], group[:8])
    return rows


def change(exact: Encoder, other: Encoder, group: Sequence[PassageExamples]) -> float:
    """How far one encoder's updates are from another's: median over passages."""
    pairs = zip(exact.encode(group), other.encode(group), strict=True)
    return median(distance(right.weights, left.weights, exact.base_weight) for left, right in pairs)


def distance(weights: LoraWeights, reference: LoraWeights, start: LoraWeights) -> float:
    """How far an adapter is from another, relative to how far that one has come from where both started."""
    gap = came = 0.0
    for name, pair in start.items():
        for got, wanted, began in zip(weights[name], reference[name], pair, strict=True):
            gap += float((got.double() - wanted.double()).norm() ** 2)
            came += float((wanted.double() - began.double()).norm() ** 2)
    return float((gap / came) ** 0.5)


def exactness(folder: Path, size: str) -> dict[str, Any]:
    """How far ours and plain PEFT are from each other in float32, and both from plain PEFT in float64: the greatest
    distance of some passages' updates."""
    base, llm = folder / "base_weight", load_llm(str(folder))
    start = read_adapter(base, llm.stack, RECIPE.lora_rank, RECIPE.lora_alpha)
    passages = as_examples(llm, some_passages(COMPARED))
    ours = [encoded.weights for encoded in Encoder(llm, start, RECIPE).encode(passages)]
    models = (AutoModelForCausalLM.from_pretrained(folder, dtype=dtype) for dtype in (torch.float32, torch.float64))
    plain, exact = ([plainly_trained(model, base, passage) for passage in passages] for model in models)
    pairs = {"ours_plain": (ours, plain), "ours_exact": (ours, exact), "plain_exact": (plain, exact)}
    worst = {name: max(distance(*pair, start) for pair in zip(*both, strict=True)) for name, both in pairs.items()}
    return {"model": size, "passages": COMPARED, **worst}


def plainly_trained(model: PreTrainedModel, base: Path, passage: PassageExamples) -> LoraWeights:
    """A passage's adapter by plain PEFT."""
    tensors = baselines.train(model, base, [(example.input_ids, example.first_target) for example in passage.examples])
    names = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in tensors}
    a, b = (f"base_model.model.{{}}.lora_{letter}.weight" for letter in "AB")
    return {name: (tensors[a.format(name)], tensors[b.format(name)]) for name in names}


def growth(folder: Path, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Seconds a passage and peak memory of fitting few passages and many, from examples to files, each in a process of
    its own that has encoded some before: the first group of a process takes longer."""
    rows = []
    for count in counts:
        print(f"fit {count} passages", file=sys.stderr)
        with get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(fit, (folder, count)))
    return rows


def fit(folder: Path, count: int) -> dict[str, Any]:
    """Encode and store so many passages."""
    llm = load_llm(str(folder))
    passages = some_passages(WARMING + count)
    with tempfile.TemporaryDirectory(dir=folder) as root:
        layout = Layout(Path(root), Path(root), "random", "bench", "nobody", RECIPE, with_cot=False)
        library = AdapterLibrary(llm, ExampleBuilder(PROMPTS, llm.tokenizer), RECIPE, layout, create=True)

        def encode_all(some: Sequence[AugmentedPassage]) -> None:
            for group in library.groups(library.missing(some), GROUP_TOKENS["2M"]):
                library.encode(group)

        encode_all(passages[:WARMING])
        seconds = timed(lambda: encode_all(passages[WARMING:]))
    return {"passages": count, "seconds": seconds / count, "peak_mb": peak_mb()}
