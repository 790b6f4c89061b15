"""Whether the stages survive being killed, and whether a long run stays flat in memory and open files.

    python -m benchmarks.soak

Kills `prag augment`, `plan`, `fit`, `test`, `predict` and a warm-up with SIGKILL at random moments, in float32 and in
bfloat16, runs them again, and compares every file with an uninterrupted run's; then encodes and answers thousands in
one process. Writes `SOAK.md` and `soak.json` beside this file. Run again, it goes on with the kills; `--part` does one
of the two, and leaves what soak.json has of the other.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from benchmarks.subjects import PROMPTS, TINY
from benchmarks.timing import machine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from killing import MORE_STAGES, command, differences, kill_often, run
from prag_lightning.files import read_json, write_json, write_text
from prag_lightning.inference.answerer import Adapters, Answerer
from prag_lightning.journal import Journal
from prag_lightning.llm.loading import load_llm
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Question
from prag_lightning.training.examples import ExampleBuilder
from prag_lightning.training.layout import Layout
from prag_lightning.training.library import AdapterLibrary
from prag_lightning.training.recipe import TrainingRecipe
from tools.prag_tiny.world import World

HERE = Path(__file__).parent
QUESTIONS, KILLS_A_STAGE, CHAINS, LONGEST = 6, 6, 2, 0.7
PRECISIONS = ("32-true", "bf16-true")
POINTS = 20
"""Of the curves of memory and open files."""
MOST_GROWTH = 0.05
"""Of memory, after the first tenth of a stage, in which buffers grow to their sizes."""


def main() -> None:
    """Kill, then soak, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500, help="how often to kill, over all stages")
    parser.add_argument("--minutes", type=float, default=60, help="after which no more are killed")
    parser.add_argument("--pieces", type=int, default=2000, help="passages to encode and questions to answer")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--part", choices=("kills", "curve"), help="which of the two; both if it is not given")
    parser.add_argument("--out", type=Path, default=Path("soak-out"), help="where the stages write")
    options = parser.parse_args()
    path = HERE / "soak.json"
    results = read_json(path, "Delete it") if path.exists() and options.part else {}
    results["machine"] = machine()
    if options.part != "curve":
        results["kills"], results["differences"] = kill(options.out, options.kills, options.minutes, options.seed)
    if options.part != "kills":
        results["curve"] = soak(options.pieces)
    write_json(path, results)
    write_text(HERE / "SOAK.md", report(results))
    if results["differences"]:
        sys.exit(f"{len(results['differences'])} files differ after kills, such as {results['differences'][0]}")
    for stage, (memory, files) in growth(results["curve"]).items():
        if memory > MOST_GROWTH or files > 0:
            sys.exit(f"{stage}: memory grew by {memory:.1%} and open files by {files}")


def kill(out: Path, kills: int, minutes: float, seed: int) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Kill stages until they were killed often enough, in chains beside each other, every other one in bfloat16; gives
    how often each was, by precision, and the files that differ from an uninterrupted run's.

    Args:
        out: Takes a journal of the chains that came to their end, and what those left that differ.
        kills: How often is enough.
        minutes: Begin no chain after these.
        seed: Of the moments.
    """
    ends, journal = time.monotonic() + 60 * minutes, Journal(out)
    for precision in PRECISIONS:
        if journal.get(precision) is None:
            whole = out / precision
            shutil.rmtree(whole, ignore_errors=True)
            journal.add([{"key": precision, "seconds": {s: run(c) for s, c in _commands(whole, precision).items()}}])

    def counts() -> dict[str, Counter[str]]:
        found = {precision: Counter[str](dict.fromkeys(MORE_STAGES, 0)) for precision in PRECISIONS}
        for chain in chains():
            found[chain["precision"]].update(chain["kills"])
        return found

    def chains() -> list[dict[str, Any]]:
        return list(itertools.takewhile(bool, (journal.get(f"chain {i}") for i in itertools.count())))

    def chain(number: int) -> None:
        if journal.get(f"chain {number}") or time.monotonic() > ends:
            return
        if sum(counter.total() for counter in counts().values()) >= kills:
            return
        rng, precision = random.Random(seed + number), PRECISIONS[number % len(PRECISIONS)]
        killed, times = out / f"chain-{number}", journal.get(precision)
        shutil.rmtree(killed, ignore_errors=True)
        found = {}
        for stage, line in _commands(killed, precision).items():
            most = KILLS_A_STAGE if stage in MORE_STAGES else 0
            found[stage] = kill_often(line, most, times["seconds"][stage], rng, LONGEST)
        different = [f"{killed}/{name}" for name in differences(out / precision, killed)]
        if not different:
            shutil.rmtree(killed)
        journal.add([{"key": f"chain {number}", "precision": precision, "kills": found, "differences": different}])
        print(f"chain {number}, {precision}: {found}, {len(different)} files differ", file=sys.stderr)

    with ThreadPoolExecutor(CHAINS) as pool:
        list(pool.map(chain, range(kills)))
    return counts(), [name for chain in chains() for name in chain["differences"]]


def _commands(out: Path, precision: str) -> dict[str, list[str]]:
    """The commands of a chain by stage."""
    commands = {}
    for stage in ("warmup-data", *MORE_STAGES):
        settings = [f"--trainer.precision={precision}"]
        if stage not in ("warmup-data", "warmup"):
            settings += ["--model.group_tokens=256", "--data.per_device_eval_batch_size=1"]
            settings += ["--data.augment.augment_batch_size=2"]
        commands[stage] = command(stage, out.resolve(), QUESTIONS, *settings)
    return commands


def soak(pieces: int) -> list[dict[str, Any]]:
    """Memory and open files while so many passages are encoded, and then as many questions answered."""
    llm, world = load_llm(str(TINY)), World(7, demo=True)
    recipe = TrainingRecipe(learning_rate=1e-3)
    with tempfile.TemporaryDirectory() as name:
        layout = Layout(Path(name), Path(name), "prag-tiny", "soak", "nobody", recipe, with_cot=False)
        library = AdapterLibrary(llm, ExampleBuilder(PROMPTS, llm.tokenizer), recipe, layout, create=True)
        answerer = Answerer(llm, PROMPTS, "prag", 20, Adapters(library))
        journal, curve, step = Journal(Path(name)), [_now("start", 0)], max(1, pieces // POINTS)
        passages: list[AugmentedPassage] = [world.augmented(world.entity()) for _ in range(pieces)]
        for start in range(0, pieces, step):
            for group in library.groups(library.missing(passages[start : start + step]), 8192):
                library.encode(group)
            curve.append(_now("encode", start + step))
        for start in range(0, pieces, step):
            batch = [AugmentedQuestion(Question(i, f"Who is {i}?"), (passages[i],)) for i in range(start, start + step)]
            answerer.answer(batch, journal)
            curve.append(_now("answer", start + step))
    return curve


def growth(curve: Sequence[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    """By stage, the share by which memory has grown since the first tenth of it, and by how many the open files."""
    grown = {}
    for stage in dict.fromkeys(point["stage"] for point in curve[1:]):
        points = [point for point in curve if point["stage"] == stage]
        early, late = points[len(points) // 10], points[-1]
        grown[stage] = (late["mb"] / early["mb"] - 1, late["files"] - early["files"])
    return grown


def _now(stage: str, done: int) -> dict[str, Any]:
    gc.collect()
    process = psutil.Process()
    print(f"{stage} {done}", file=sys.stderr)
    return {"stage": stage, "done": done, "mb": process.memory_info().rss / 1e6, "files": process.num_fds()}


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    counts = results["kills"]
    rows = "".join(
        f"| {'a warm-up' if stage == 'warmup' else f'`prag {stage}`'} | "
        + " | ".join(str(counts[precision].get(stage, 0)) for precision in PRECISIONS)
        + " |\n"
        for stage in MORE_STAGES
    )
    total, differ = sum(sum(found.values()) for found in counts.values()), results["differences"]
    verdict = "every file was the same" if not differ else f"{len(differ)} files differed, such as {differ[0]}"
    grown = "; ".join(
        f"{stage}: {memory:+.1%} and {n:+d} files" for stage, (memory, n) in growth(results["curve"]).items()
    )
    curve = "".join(f"| {p['stage']} | {p['done']:,} | {p['mb']:,.0f} | {p['files']} |\n" for p in results["curve"])
    pieces = results["curve"][-1]["done"]
    return f"""# Killed and run for long

`make soak` on {results["machine"]}. `python -m benchmarks.soak --part kills` kills alone, and goes on where it was
interrupted.

## Killed

Stages of the demo (its first {QUESTIONS} questions) and a warm-up were killed with SIGKILL at random moments of their
work and run again, up to {KILLS_A_STAGE} times each before they were let to the end: {total} kills, in chains of all
stages, every other one with `--trainer.precision bf16-true`. Compared with an uninterrupted run of the same precision,
byte by byte but for recorded times: {verdict}.

| stage | {" | ".join(PRECISIONS)} |
|---|---:|---:|
{rows}
## Run for long

{pieces:,} passages encoded and {pieces:,} questions answered with prag-tiny in one process. Growth from the end of a
stage's first tenth to its end: {grown}.

| stage | done | memory, MB | open files |
|---|---:|---:|---:|
{curve}"""


if __name__ == "__main__":
    main()
