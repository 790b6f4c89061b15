"""What `prag report` does: a table on the console, a page and a Markdown file in a folder."""

from __future__ import annotations

from pathlib import Path

from prag_lightning.errors import output_errors
from prag_lightning.files import write_text
from prag_lightning.inference.results import print_results
from prag_lightning.report.gather import Experiment, gather
from prag_lightning.report.page import html, markdown, sections
from prag_lightning.report.tables import half_widths

PAGE, MARKDOWN = "report.html", "report.md"


def report(output_root: Path, folder: Path) -> list[Path]:
    """Print the results below a folder, and write them as `report.html` and `report.md`.

    Args:
        output_root: Root of the results.
        folder: Where the two files go.

    Returns:
        The files.

    Raises:
        InputError: if there are no results, one is damaged, or the folder cannot be written to.
    """
    experiments = gather(output_root)
    _print(experiments)
    parts = sections(experiments)
    return [
        _write(folder / PAGE, html(str(output_root), parts)),
        _write(folder / MARKDOWN, markdown(str(output_root), parts)),
    ]


def _print(experiments: list[Experiment]) -> None:
    for experiment in experiments:
        widths = {result.directory: half_widths(result) for result in experiment.results}
        scores = {result.directory: result.summary for result in experiment.results}
        print_results(scores, widths, experiment.name if len(experiments) > 1 else "")


def _write(path: Path, text: str) -> Path:
    """Write a file; half a character, which JSON may hold, becomes a question mark."""
    with output_errors("the report", path, "Name another folder with --out"):
        write_text(path, text.encode("utf-8", "replace").decode("utf-8"))
    return path
