"""What a trained base_weight gives: adapters that start from it beside those that start at random, on the demo.

Runs the stages of `prag` below `--work`, where an interrupted comparison goes on; writes a Markdown table to `--out`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prag_lightning.cli.entry import main as prag
from prag_lightning.files import write_text
from prag_lightning.report.gather import Result, read_result
from prag_lightning.report.statistics import mean_interval

METHODS = ("prag", "combine")
HEAD = """# What a trained base_weight gives

`python -m tools.compare_warmup`: adapters of the demo's passages, trained from a base_weight that is random and from
one that a warm-up has trained (`configs/warmup.yaml`, one epoch: 898 questions of prag-tiny's world without passages,
or the chains of thought to 496 questions of two hops). The warm-up's entities and wordings are none of the demo's, and
its questions none of those that are asked here: `prag test` looks. Per cent; the gain has the interval of the paired
bootstrap.

| questions | adapters | method | EM, random | F1 | EM, warm-up | F1 | gain in EM (95 %) |
|---|---|---|---:|---:|---:|---:|---:|
"""


@dataclass(frozen=True)
class Task:
    """Questions of the demo, and the warm-up for them.

    Args:
        name: As the table calls it.
        data: Settings of the experiment's data.
        warmup: Settings of the warm-up.
        recipes: Settings of the experiment's model, by what the table calls them.
    """

    name: str
    data: tuple[str, ...]
    warmup: tuple[str, ...]
    recipes: dict[str, tuple[str, ...]]


PUBLISHED = ("--model.objective=published", "--model.include_text=none", "--model.num_train_epochs=8")
TASKS = (
    Task(
        "single questions, one passage",
        ("--data.data_type=single", "--data.sample=150", "--data.topk=1"),
        (),
        {
            **{f"closed_book + rewrite, {n} epochs": (f"--model.num_train_epochs={n}",) for n in (1, 2, 4, 8)},
            "published, 8 epochs": PUBLISHED,
        },
    ),
    Task(
        "bridge questions, chain of thought, two passages",
        ("--data.data_type=bridge", "--data.sample=-1", "--data.topk=2", "--data.with_cot=true"),
        (
            "--data.with_cot=true",
            "--data.sources=[{dataset: demo, data_path: data/demo/warmup, data_type: bridge}]",
            "--data.max_new_tokens=60",
        ),
        {"closed_book + rewrite, 8 epochs": ("--model.num_train_epochs=8",)},
    ),
)


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("demo-out/warmup-comparison"), help="folder to work in")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/prag-tiny/WARMUP.md"), help="file to write")
    options = parser.parse_args()
    rows = [row for task in TASKS for row in compare(task, options.work)]
    write_text(options.out, report(rows))
    print(f"written to {options.out}")


def compare(task: Task, work: Path) -> list[str]:
    """The table's rows of a task."""
    warmup = ["--config=configs/warmup.yaml", f"--model.warmup_root={work / 'warmup'}", *task.warmup]
    warmup += [f"--data.rows_root={work / 'rows'}"]
    experiment = ["--config=configs/demo.yaml", f"--model.warmup_root={work / 'warmup'}", *task.data]
    experiment += [f"--data.augment_root={work / 'aug'}", f"--model.offline_root={work / 'adapters'}"]
    run("warmup-data", warmup)
    run("fit", warmup)
    run("augment", experiment)
    rows = []
    for recipe, settings in task.recipes.items():
        results = {}
        for base in ("null", "warmup"):
            root = work / "results" / base
            stage = [*experiment, *settings, f"--model.base_weight={base}", f"--model.output_root={root}"]
            run("fit", stage)
            for method in METHODS:
                run("test", [*stage, f"--model.inference_method={method}"])
                results[base, method] = newest(root, method)
        for method in METHODS:
            rows.append(row(task.name, recipe, method, results["null", method], results["warmup", method]))
            print(rows[-1], file=sys.stderr)
    return rows


def run(stage: str, settings: Sequence[str]) -> None:
    """Run a stage, and end if it fails."""
    code = prag([stage, *settings, "--trainer.logger=false"])
    if code:
        sys.exit(code)


def newest(root: Path, method: str) -> Result:
    """The result of a method that was written last."""
    written = [path for path in root.rglob("result.txt") if path.parent.parent.name == method]
    return read_result(max(written, key=lambda path: path.stat().st_mtime_ns).parent)


def row(task: str, recipe: str, method: str, cold: Result, warm: Result) -> str:
    """A method's scores with both starts, and the paired difference in EM."""
    differences = [after - before for after, before in zip(warm.values("em"), cold.values("em"), strict=True)]
    interval = mean_interval(differences)
    gain = f"{100 * (warm.mean('em') - cold.mean('em')):+.1f}" + (
        f" ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})" if interval else ""
    )
    scores = [f"{100 * result.mean(score):.1f}" for result in (cold, warm) for score in ("em", "f1")]
    return f"| {' | '.join([task, recipe, method, *scores, gain])} |"


def report(rows: Sequence[str]) -> str:
    """The table, and what it shows."""
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
