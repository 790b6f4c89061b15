"""Results of a run: the published files, and the table that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from prag_lightning.data.benchmarks import TOTAL
from prag_lightning.errors import InputError
from prag_lightning.files import visible, write_json, write_text
from prag_lightning.inference.console import print_table
from prag_lightning.inference.identity import CONFIG_FILE, PREDICTIONS, RESULT_FILE, answers_file, method_settings
from prag_lightning.records import Json

MISSING = "–"
"""Stands where there is no number."""
COUNTS = {"unanswered": "unanswered", "out_of_reach": "out of reach", "abstained": "abstained"}
"""Of questions, by name in `result.txt`, what a table calls them; one has the column only where there are some."""
OF_ANSWERED = {"answered_em": "EM, answered", "answered_f1": "F1, answered"}
"""Means over the questions that the model did not abstain from, likewise."""
_PERCENTAGES = {"em": "EM", "f1": "F1", "prec": "prec", "recall": "recall", "presence": "present"}
_LEFT_OUT_FIRST = ("prec", "recall", "present", "s/question")
_PREDICTION_KEYS = (
    *("test_id", "question", "answer", "text", "eval_predict", "em", "f1", "prec", "recall"),
    *("log_probability", "abstained", "passages"),
)
_METHOD_ORDER = ("vanilla", "icl", "prag", "prag-other", "combine", "combine-other")


def write_results(
    directory: Path, config: Mapping[str, Json], rows: Sequence[Mapping[str, Json]], scores: Mapping[str, float]
) -> None:
    """Write `config.json`, `predict.json`, and `result.txt`: a name, a tab and a value a line.

    The latter goes first and comes last, so that there never are scores beside other answers than theirs.
    """
    (directory / RESULT_FILE).unlink(missing_ok=True)
    write_json(directory / CONFIG_FILE, config)
    write_json(directory / PREDICTIONS, _predictions(rows))
    write_text(directory / RESULT_FILE, "".join(f"{name}\t{value:.6g}\n" for name, value in scores.items()))


def write_predictions(directory: Path, config: Mapping[str, Json], rows: Sequence[Mapping[str, Json]]) -> Path:
    """Write answers that have no scores; where `prag test` has left some with scores, beside them.

    Returns:
        The file: `predict.json`, or else `answers.json`.
    """
    path = answers_file(directory, scored=False)
    if path.name == PREDICTIONS:
        write_json(directory / CONFIG_FILE, config)
    write_json(path, _predictions(rows))
    return path


def _predictions(rows: Sequence[Mapping[str, Json]]) -> list[dict[str, Json]]:
    return [{key: row[key] for key in _PREDICTION_KEYS if key in row} for row in rows]


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
    """Directories of results below `output_root`, but for hidden ones; itself one of them if it holds one.

    Raises:
        InputError: if there are none.
    """
    found = [path.parent for path in visible(output_root, f"**/{RESULT_FILE}")]
    if not found:
        hint = "Run 'prag test' first, or give the folder that it wrote to"
        raise InputError("there are no results", where=str(output_root), hint=hint)
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
    directories = sorted(results, key=_order)
    names = {"method": [path.parent.name for path in directories], "split": [path.name for path in directories]}
    columns = _columns([(results[path], (half_widths or {}).get(path, {})) for path in directories])
    groups = [(path.parent.parent, path.name) for path in directories]
    print_table(names, columns, groups, _LEFT_OUT_FIRST, title, console)


def _order(directory: Path) -> tuple[Path, bool, str, tuple[int, str]]:
    method, split = directory.parent, directory.name
    return (method.parent, split != TOTAL, split, method_order(method.name))


def _columns(rows: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> dict[str, list[str]]:
    """The columns of numbers by heading, of scores and their half widths a row."""
    columns = {"n": [_number(scores.get("questions"), ".0f") for scores, _ in rows]}
    for name, heading in _PERCENTAGES.items():
        columns[heading] = [_percent(scores.get(name), widths.get(name)) for scores, widths in rows]
    columns["s/question"] = [_number(scores.get("seconds_per_question"), ".3f") for scores, _ in rows]
    for name, heading in COUNTS.items():
        if any(scores.get(name) for scores, _ in rows):
            columns[heading] = [_number(scores.get(name, 0), ".0f") for scores, _ in rows]
    for name, heading in OF_ANSWERED.items():
        if any(name in scores for scores, _ in rows):
            columns[heading] = [_percent(scores.get(name), None) for scores, _ in rows]
    return columns


def method_order(name: str) -> tuple[int, str]:
    """Sorts methods, as their folders are called, as a person expects them: without passages first, both ways last; one
    with other settings after its like."""
    method, _ = method_settings(name)
    return (_METHOD_ORDER.index(method) if method in _METHOD_ORDER else len(_METHOD_ORDER), name)


def _percent(value: float | None, half_width: float | None) -> str:
    return _number(value, ".1f", 100) + ("" if half_width is None else f"±{100 * half_width:.1f}")


def _number(value: float | None, form: str, factor: float = 1) -> str:
    return MISSING if value is None else format(factor * value, form)
