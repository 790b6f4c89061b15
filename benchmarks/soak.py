"""Whether the stages survive being killed, and whether a long run stays flat in memory and open files.

    python -m benchmarks.soak

Kills `prag augment`, `fit` and `test` with SIGKILL at random moments, runs them again, and compares every file with an
uninterrupted run's; then encodes and answers thousands in one process. Writes `SOAK.md` and `soak.json` beside this
file.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from benchmarks.subjects import PROMPTS, TINY
from benchmarks.timing import machine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from killing import STAGES, command, differences, kill_often, run
from prag_lightning.files import write_json, write_text
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
QUESTIONS, KILLS_A_STAGE, CHAINS = 12, 6, 2
POINTS = 20
"""Of the curves of memory and open files."""
MOST_GROWTH = 0.05
"""Of memory, after the first tenth of a stage, in which buffers grow to their sizes."""


def main() -> None:
    """Kill, then soak, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how often to kill, over the three stages")
    parser.add_argument("--minutes", type=float, default=40, help="after which no more are killed")
    parser.add_argument("--pieces", type=int, default=2000, help="passages to encode and questions to answer")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    results = {"machine": machine(), **kill(options.kills, options.minutes, options.seed)}
    results["curve"] = soak(options.pieces)
    write_json(HERE / "soak.json", results)
    write_text(HERE / "SOAK.md", report(results, options.pieces))
    if results["differences"]:
        sys.exit(f"{len(results['differences'])} files differ after kills, such as {results['differences'][0]}")
    for stage, (memory, files) in growth(results["curve"]).items():
        if memory > MOST_GROWTH or files > 0:
            sys.exit(f"{stage}: memory grew by {memory:.1%} and open files by {files}")


def kill(kills: int, minutes: float, seed: int) -> dict[str, Any]:
    """Kill stages until they were killed often enough, in chains beside each other; gives how often each was, and the
    files that differ from an uninterrupted run's."""
    ends = time.monotonic() + 60 * minutes
    counts, seconds, different = dict.fromkeys(STAGES, 0), {}, []
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        for stage in STAGES:
            seconds[stage] = run(command(stage, whole, QUESTIONS))

        def chain(number: int) -> None:
            rng, rounds = random.Random(seed + number), 0
            while sum(counts.values()) < kills and time.monotonic() < ends:
                killed = Path(name) / f"{number}-{rounds}"
                for stage in STAGES:
                    counts[stage] += kill_often(stage, killed, QUESTIONS, KILLS_A_STAGE, seconds[stage], rng)
                different.extend(differences(whole, killed))
                rounds += 1
                print(f"killed {sum(counts.values())} times, {len(different)} files differ", file=sys.stderr)

        with ThreadPoolExecutor(CHAINS) as pool:
            list(pool.map(chain, range(CHAINS)))
    return {"kills": counts, "differences": different}


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


def report(results: dict[str, Any], pieces: int) -> str:
    """The results as Markdown."""
    kills = "".join(f"| `prag {stage}` | {count} |\n" for stage, count in results["kills"].items())
    total, differ = sum(results["kills"].values()), results["differences"]
    verdict = "every file was the same" if not differ else f"{len(differ)} files differed, such as {differ[0]}"
    grown = "; ".join(
        f"{stage}: {memory:+.1%} and {n:+d} files" for stage, (memory, n) in growth(results["curve"]).items()
    )
    curve = "".join(f"| {p['stage']} | {p['done']:,} | {p['mb']:,.0f} | {p['files']} |\n" for p in results["curve"])
    return f"""# Killed and run for long

`make soak` on {results["machine"]}.

## Killed

Stages of the demo (its first {QUESTIONS} questions) were killed with SIGKILL at random moments of their work and run
again, up to {KILLS_A_STAGE} times each before they were let to the end: {total} kills. Compared with an uninterrupted
run, byte by byte but for recorded times: {verdict}.

| stage | kills |
|---|---:|
{kills}
## Run for long

{pieces:,} passages encoded and {pieces:,} questions answered with prag-tiny in one process. Growth from the end of a
stage's first tenth to its end: {grown}.

| stage | done | memory, MB | open files |
|---|---:|---:|---:|
{curve}"""


if __name__ == "__main__":
    main()
