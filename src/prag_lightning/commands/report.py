"""`prag report`: all results below a folder, as tables on the console, as a page, and for other programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from prag_lightning.errors import output_errors
from prag_lightning.files import write_text
from prag_lightning.inference.console import print_table
from prag_lightning.inference.results import COUNTS, print_results
from prag_lightning.report.exports import as_csv, as_json, as_latex, score_rows
from prag_lightning.report.gather import SCORES, Experiment, Result, gather
from prag_lightning.report.page import Page, sections
from prag_lightning.report.runs import Runs, pair_runs
from prag_lightning.report.tables import half_widths

_LEFT_OUT_FIRST = ("both right", "neither", "EM, A − B", "shared", "p")


def report(results: str | Path, out: str | Path | None = None, compare: str | Path | None = None) -> list[Path]:
    """Print all results below a folder, and write them with intervals, the paper's numbers, comparisons and costs.

    Results that cannot be read are left out, with a line for each.

    Args:
        results: The folder.
        out: A folder for report.html, .md, .csv, .json and .tex; unset means the same one.
        compare: A folder of another run's results, to be compared question by question; the questions go into
            comparison.csv.

    Returns:
        The files.

    Raises:
        InputError: if there are no results that can be read, the two runs have nothing in common, or the folder cannot
            be written to.
    """
    root = Path(results)
    found = gather(root)
    refused, runs = [*found.refused], None
    if compare is not None:
        others = gather(Path(compare))
        refused += others.refused
        runs = pair_runs(root, found, Path(compare), others)
    _print(found.experiments)
    if runs is not None:
        _print_runs(runs)
    for sentence in refused:
        print(f"prag: warning: left out: {sentence}", file=sys.stderr)
    page = Page(root, sections(found.experiments), refused, runs)
    texts = {
        "report.html": page.html(),
        "report.md": page.markdown(),
        "report.csv": as_csv(score_rows(found.experiments)),
        "report.json": as_json(found.experiments),
        "report.tex": as_latex((part.label, part.scores) for part in page.sections),
    }
    if runs is not None:
        texts["comparison.csv"] = as_csv(runs.questions())
    paths = [(root if out is None else Path(out)) / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        with output_errors("the report", path, "Name another folder with --out"):
            write_text(path, text)
        print(path)
    return paths


def _print(experiments: Sequence[Experiment]) -> None:
    for experiment in experiments:
        widths = {result.directory: half_widths(result) for result in experiment.results}
        scores = {result.directory: _scores(result) for result in experiment.results}
        print_results(scores, widths, experiment.name if len(experiments) > 1 else "")


def _scores(result: Result) -> dict[str, float]:
    """What the console says of a result: the means as the page has them, and what else is known."""
    means = {score: result.mean(score) for score in SCORES}
    counts = {name: result.count(name) for name in COUNTS}
    return {**result.summary, "questions": len(result.replies), **means, **counts}


def _print_runs(runs: Runs) -> None:
    for table in runs.tables:
        rows = [row for group in table.groups for row in group]
        columns = {heading: [row[place].text for row in rows] for place, heading in enumerate(table.headings)}
        names = {"method": columns.pop("method"), "split": columns.pop("split")}
        print_table(names, columns, names["split"], _LEFT_OUT_FIRST, table.caption)
    for note in runs.notes:
        print(note)
