"""Speed of encoding and answering beside plain PEFT, on models with random weights, so that nothing is downloaded.

    python -m benchmarks.speed
    python -m benchmarks.speed --only encode --rounds 1     # prints figures, writes nothing
    python -m benchmarks.speed --only encode --update       # writes them beside the others that stand there

Writes `RESULTS.md` and `speed.json` beside this file. Both sides run in one process and take turns; figures are medians
of the rounds with their spread. Takes about half an hour on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from benchmarks import baselines, speed_report
from benchmarks.retrieval import peak_mb
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from prag_lightning.answer import generate
from prag_lightning.augment import AugmentSettings, Failures, LLMAugmenter
from prag_lightning.encode import Encoder, PassageExamples, TrainingRecipe, group_passages
from prag_lightning.examples import ExampleBuilder
from prag_lightning.files import Journal, write_json, write_text
from prag_lightning.layout import Layout
from prag_lightning.library import AdapterLibrary
from prag_lightning.llm import LLM, load_llm
from prag_lightning.lora.adapters import lora_config, read_adapter, write_adapter
from prag_lightning.lora.merge import merge_all
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.prompts import PromptTemplates
from prag_lightning.records import AugmentedPassage
from prag_lightning.tiny.world import World

HERE = Path(__file__).parent
TINY = HERE.parent / "checkpoints" / "prag-tiny"
PROMPTS = PromptTemplates.load(HERE.parent / "configs/prompts/default.yaml")
SHAPES = {
    "2M": {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 3},
    "26M": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8},
}
RECIPE = TrainingRecipe()
PADDED = 3000
PUBLISHED = "as published"
GROUP_TOKENS = {"2M": 16384, "26M": 8192}
ANSWER_BATCHES, TOPK = (16, 64), 3
ADAPTERS = 48
COMPARED = 5
"""Passages whose updates are compared with those of plain PEFT."""
WARMING = 80
"""Passages that a process has encoded before growth is measured."""
WIDTH, PRODUCTS = 2048, 40
"""Of the matrices whose product is what a machine can do at most, and how many such products a round."""
PARTS = ("encode", "answer", "growth", "augment")
SLOW_BFLOAT16 = 0.25
"""Of float32's rate: a CPU without instructions for bfloat16 would take hours, and nobody would ask it to."""
Timer = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some seconds."""

    seconds: float
    least: float
    most: float

    @classmethod
    def of(cls, rounds: Sequence[float], pieces: int = 1) -> Spread:
        """Of rounds that each did so many pieces."""
        each = [value / pieces for value in rounds]
        return cls(median(each), min(each), max(each))


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement")
    parser.add_argument("--many", type=int, default=10_000, help="passages of the long run")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="print these figures, and write nothing")
    parser.add_argument("--update", action="store_true", help="with --only: write them in the place of earlier ones")
    options = parser.parse_args()
    parts = options.only or PARTS
    results: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "padded": PADDED}
    if options.update:
        earlier = json.loads((HERE / "speed.json").read_text(encoding="utf-8"))
        if any(earlier[name] != value for name, value in results.items()):
            parser.error("the earlier figures are of another machine or another number of rounds")
        results = earlier
    results |= {part: [] for part in ("encode", "answer") if part in parts}
    results |= {"exactness": []} if "encode" in parts else {}
    with tempfile.TemporaryDirectory() as name:
        for size in SHAPES:
            folder = make_model(Path(name) / size, size)
            if "encode" in parts:
                results["encode"] += encode(folder, size, options.rounds)
                results["exactness"].append(exactness(folder, size))
            if "answer" in parts:
                results["answer"] += answer(folder, size, options.rounds)
        if "growth" in parts:
            results["growth"] = growth(Path(name) / "2M", (100, options.many))
        if "augment" in parts:
            results["augment"] = augment(Path(name), options.rounds)
    if options.only and not options.update:
        print(json.dumps(results, indent=2))
        return
    write_json(HERE / "speed.json", results)
    write_text(HERE / "RESULTS.md", speed_report.report(results))


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


def timed(work: Timer) -> float:
    """Seconds that something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def product(dtype: torch.dtype, width: int = WIDTH, times: int = PRODUCTS) -> Timer:
    """So many products of two square matrices."""
    left, right = torch.randn(width, width).to(dtype), torch.randn(width, width).to(dtype)

    def run() -> None:
        for _ in range(times):
            left @ right

    return run


def product_rate(spread: Spread) -> float:
    """Floating-point operations a second of products."""
    return 2 * WIDTH**3 / spread.seconds


def precisions() -> list[torch.dtype]:
    """float32, and bfloat16 where the machine is made for it."""
    float32, bfloat16 = (min(timed(product(dtype, 128)) for _ in range(3)) for dtype in (torch.float32, torch.bfloat16))
    return [torch.float32, torch.bfloat16] if SLOW_BFLOAT16 * bfloat16 < float32 else [torch.float32]


def encode(folder: Path, size: str, rounds: int) -> list[dict[str, Any]]:
    """Seconds a passage: as published, without padding, and in groups, in float32 and bfloat16."""
    print(f"encode, {size}", file=sys.stderr)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = folder / "base_weight"
    llms = {dtype: load_llm(str(folder), dtype=dtype) for dtype in precisions()}
    passages = as_examples(llms[torch.float32], some_passages(200))
    (group, *_) = group_passages(passages, RECIPE, GROUP_TOKENS[size])
    examples = [(example.input_ids, example.loss_from) for example in passages[0].examples]
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
    tensors = baselines.train(model, base, [(example.input_ids, example.loss_from) for example in passage.examples])
    names = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in tensors}
    a, b = (f"base_model.model.{{}}.lora_{letter}.weight" for letter in "AB")
    return {name: (tensors[a.format(name)], tensors[b.format(name)]) for name in names}


def alternate(work: dict[str, tuple[Timer, int]], rounds: int) -> dict[str, Spread]:
    """Do every piece of work once a round, after one round that does not count, and give seconds a piece."""
    seconds: dict[str, list[float]] = {how: [] for how in work}
    for number in range(rounds + 1):
        for how, (run, _) in work.items():
            if number:
                seconds[how].append(timed(run))
            elif how != PUBLISHED:
                run()
    return {how: Spread.of(taken, work[how][1]) for how, taken in seconds.items()}


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


def machine() -> str:
    """What it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a CPU")
    return (
        f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )


if __name__ == "__main__":
    main()
