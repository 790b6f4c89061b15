"""What `prag report` does: tables on the console; a page, Markdown, CSV, JSON and LaTeX in a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from prag_lightning.errors import output_errors
from prag_lightning.files import write_text
from prag_lightning.inference.console import print_table
from prag_lightning.inference.results import COUNTS, print_results
from prag_lightning.report import tables
from prag_lightning.report.exports import as_csv, as_json, as_latex, score_rows
from prag_lightning.report.gather import SCORES, Experiment, Result, gather
from prag_lightning.report.page import Page, html, markdown, runs_section, runs_tables, sections
from prag_lightning.report.runs import Runs, pair_runs

PAGE, MARKDOWN, CSV, JSON, LATEX = (f"report.{ending}" for ending in ("html", "md", "csv", "json", "tex"))
QUESTIONS = "comparison.csv"
_LEFT_OUT_FIRST = ("both right", "neither", "EM, A − B", "shared", "p")


def report(output_root: Path, folder: Path, compare: Path | None = None) -> list[Path]:
    """Print the results below a folder, and write them as `report.html`, `.md`, `.csv`, `.json` and `.tex`.

    Results that cannot be read are left out, with a line for each.

    Args:
        output_root: Root of the results.
        folder: Where the files go.
        compare: Root of another run's results, to be compared question by question; the questions go into
            `comparison.csv`.

    Returns:
        The files.

    Raises:
        InputError: if there are no results that can be read, the two runs have nothing in common, or the folder cannot
            be written to.
    """
    found = gather(output_root)
    others = None if compare is None else gather(compare)
    runs = None if compare is None or others is None else pair_runs(output_root, found, compare, others)
    refused = [*found.refused, *(others.refused if others is not None else ())]
    _print(found.experiments)
    if runs is not None:
        _print_runs(runs)
    for sentence in refused:
        print(f"prag: warning: left out: {sentence}", file=sys.stderr)
    parts = sections(found.experiments)
    page = Page(str(output_root), parts, refused, None if runs is None else runs_section(runs))
    texts = {
        PAGE: html(page),
        MARKDOWN: markdown(page),
        CSV: as_csv(score_rows(found.experiments)),
        JSON: as_json(found.experiments),
        LATEX: as_latex((part.label, part.scores) for part in parts),
    }
    if runs is not None:
        texts[QUESTIONS] = as_csv(runs.questions())
    return [_write(folder / name, text) for name, text in texts.items()]


def _print(experiments: Sequence[Experiment]) -> None:
    for experiment in experiments:
        widths = {result.directory: tables.half_widths(result) for result in experiment.results}
        scores = {result.directory: _scores(result) for result in experiment.results}
        print_results(scores, widths, experiment.name if len(experiments) > 1 else "")


def _scores(result: Result) -> dict[str, float]:
    """What the console says of a result: the means as the page has them, and what else is known."""
    means = {score: result.mean(score) for score in SCORES}
    return {
        **result.summary,
        "questions": len(result.replies),
        **means,
        **{name: result.count(name) for name in COUNTS},
    }


def _print_runs(runs: Runs) -> None:
    for table in runs_tables(runs):
        rows = [row for group in table.groups for row in group]
        columns = {heading: [row[place].text for row in rows] for place, heading in enumerate(table.headings)}
        names = {"method": columns.pop("method"), "split": columns.pop("split")}
        print_table(names, columns, names["split"], _LEFT_OUT_FIRST, table.caption)
    print(f"A is {runs.first}\nB is {runs.second}")
    for note in runs.notes():
        print(note)


def _write(path: Path, text: str) -> Path:
    """Write a file; half a character, which JSON may hold, becomes a question mark."""
    with output_errors("the report", path, "Name another folder with --out"):
        write_text(path, text.encode("utf-8", "replace").decode("utf-8"))
    return path
