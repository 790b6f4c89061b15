"""Results of a run: the published files, and the table that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prag_lightning.errors import InputError
from prag_lightning.files import visible, write_json, write_text
from prag_lightning.records import Json

RESULT_FILE = "result.txt"
MISSING = "–"
"""Stands where there is no number."""
_PERCENTAGES = ("em", "f1", "prec", "recall", "presence")
_PREDICTION_KEYS = ("test_id", "question", "answer", "text", "eval_predict", "em", "f1", "prec", "recall")
_METHOD_ORDER = ("vanilla", "icl", "prag", "prag-other", "combine", "combine-other")


def write_results(
    directory: Path, config: Mapping[str, Json], rows: Sequence[Mapping[str, Json]], scores: Mapping[str, float] | None
) -> None:
    """Write `config.json`, `predict.json` and, where there are scores, `result.txt`: a name, a tab and a value a
    line."""
    write_json(directory / "config.json", config)
    write_json(directory / "predict.json", [{key: row[key] for key in _PREDICTION_KEYS if key in row} for row in rows])
    if scores is not None:
        write_text(directory / RESULT_FILE, "".join(f"{name}\t{value:.6g}\n" for name, value in scores.items()))


def read_scores(directory: Path) -> dict[str, float]:
    """The scores of a `result.txt`.

    Raises:
        InputError: naming the line that is not a name, a tab and a number.
    """
    path = directory / RESULT_FILE
    scores = {}
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError("the file is not text", where=str(path), hint="Run 'prag test' again") from error
    for number, line in enumerate(text.splitlines(), 1):
        name, _, value = line.partition("\t")
        try:
            scores[name] = float(value)
        except ValueError as error:
            where = f"{path}, line {number}"
            raise InputError(
                f"{line!r} is not a name and a number", where=where, hint="Run 'prag test' again"
            ) from error
    return scores


def find_results(output_root: Path) -> list[Path]:
    """Directories of results below `output_root`, but for hidden ones.

    Raises:
        InputError: if there are none.
    """
    found = [path.parent for path in visible(output_root, f"**/{RESULT_FILE}")]
    if not found:
        raise InputError("there are no results", where=str(output_root), hint="Run 'prag test' first")
    return found


def print_results(
    results: Mapping[Path, Mapping[str, float]],
    half_widths: Mapping[Path, Mapping[str, float]] | None = None,
    title: str = "",
    console: Console | None = None,
) -> None:
    """Print a table of results: a row a method and split, with the means over its questions.

    Args:
        results: The scores of each split's answers, by the directory that they are kept in.
        half_widths: By directory and score, what to show after "±".
        title: Stands above the table.
        console: Takes it, in place of the standard output.
    """
    rows = sorted(
        results.items(), key=lambda row: (row[0].parent.parent, row[0].name, method_order(row[0].parent.name))
    )
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in ("method", "split"):
        table.add_column(heading, no_wrap=True)
    for heading in ("n", "EM", "F1", "prec", "recall", "present", "s/question"):
        table.add_column(heading, justify="right", no_wrap=True)
    previous = None
    for directory, scores in rows:
        group = (directory.parent.parent, directory.name)
        if previous not in (None, group):
            table.add_section()
        previous = group
        own_widths = (half_widths or {}).get(directory, {})
        percentages = [_percent(scores.get(name), own_widths.get(name)) for name in _PERCENTAGES]
        cells = [_number(scores.get("questions"), ".0f"), *percentages]
        table.add_row(
            escape(directory.parent.name),
            escape(directory.name),
            *cells,
            _number(scores.get("seconds_per_question"), ".3f"),
        )
    if console is None:
        console = Console()
        if not console.is_terminal:
            console.width = 120
    if title:
        console.print(title, markup=False, highlight=False, soft_wrap=True)
    console.print(table)


def method_order(method: str) -> tuple[int, str]:
    """Sorts methods as a person expects them: without passages first, both ways last."""
    return (_METHOD_ORDER.index(method) if method in _METHOD_ORDER else len(_METHOD_ORDER), method)


def _percent(value: float | None, half_width: float | None) -> str:
    return _number(value, ".1f", 100) + ("" if half_width is None else f"±{100 * half_width:.1f}")


def _number(value: float | None, form: str, factor: float = 1) -> str:
    return MISSING if value is None else format(factor * value, form)
