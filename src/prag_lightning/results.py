"""Results of a run: the published files, and the table that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from prag_lightning.errors import InputError
from prag_lightning.files import write_json, write_text
from prag_lightning.records import Json

RESULT_FILE = "result.txt"
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
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, _, value = line.partition("\t")
        try:
            scores[name] = float(value)
        except ValueError as error:
            where = f"{path}, line {number}"
            raise InputError(
                f"{line!r} is not a name and a number", where=where, mend="Run 'prag test' again"
            ) from error
    return scores


def find_results(output_root: Path) -> list[Path]:
    """Directories of results below `output_root`.

    Raises:
        InputError: if there are none.
    """
    found = sorted(path.parent for path in output_root.rglob(RESULT_FILE))
    if not found:
        raise InputError("there are no results", where=str(output_root), mend="Run 'prag test' first")
    return found


def print_results(directories: Iterable[Path]) -> None:
    """Print a table of results: a row a method and split, with the means over its questions."""
    rows = [(directory, read_scores(directory)) for directory in directories]
    rows.sort(key=lambda row: (row[0].parent.parent, row[0].name, _place(row[0].parent.name), row[0].parent.name))
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
        percentages = [f"{100 * scores[name]:.1f}" for name in ("em", "f1", "prec", "recall", "presence")]
        seconds = f"{scores['seconds_per_question']:.3f}"
        table.add_row(directory.parent.name, directory.name, f"{scores['questions']:.0f}", *percentages, seconds)
    console = Console()
    if not console.is_terminal:
        console.width = 100
    console.print(table)


def _place(method: str) -> int:
    return _METHOD_ORDER.index(method) if method in _METHOD_ORDER else len(_METHOD_ORDER)
