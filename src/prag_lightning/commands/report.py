"""`prag report`: all results below a folder, as a table, as a page, and for other programs."""

from __future__ import annotations

from pathlib import Path

from prag_lightning.report import write


def report(results: str | Path, out: str | Path | None = None, compare: str | Path | None = None) -> list[Path]:
    """Print all results below a folder, and write them as a page with intervals, the paper's numbers, comparisons and
    costs.

    Args:
        results: The folder.
        out: A folder for report.html, .md, .csv, .json and .tex; unset means the same one.
        compare: A folder of another run's results, to be compared question by question.

    Returns:
        The files.

    Raises:
        InputError: if there are no results, or the two runs have nothing in common.
    """
    folder = Path(results)
    paths = write.report(folder, folder if out is None else Path(out), None if compare is None else Path(compare))
    for path in paths:
        print(path)
    return paths
