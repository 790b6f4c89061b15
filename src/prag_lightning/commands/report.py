"""`prag report`: all results below a folder, as a table and as a page."""

from __future__ import annotations

from pathlib import Path

from prag_lightning.report import write


def report(results: str | Path, out: str | Path | None = None) -> list[Path]:
    """Print all results below a folder, and write them as a page with intervals, the paper's numbers, comparisons and
    costs.

    Args:
        results: The folder.
        out: A folder for report.html and report.md; unset means the same one.

    Returns:
        The two files.

    Raises:
        InputError: if there are no results.
    """
    paths = write.report(Path(results), Path(results if out is None else out))
    for path in paths:
        print(path)
    return paths
