"""The report's numbers for other programs: CSV, JSON, and a LaTeX table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence

from prag_lightning.records import Json
from prag_lightning.report import tables
from prag_lightning.report.gather import Experiment, Result
from prag_lightning.report.published import published_f1
from prag_lightning.report.statistics import mean_interval

_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def score_rows(experiments: Sequence[Experiment]) -> list[dict[str, Json]]:
    """A row a result: where it is from, its scores in 0..1 with the ends of their intervals, and counts."""
    return [_row(experiment, result) for experiment in experiments for result in experiment.results]


def _row(experiment: Experiment, result: Result) -> dict[str, Json]:
    row: dict[str, Json] = {
        "experiment": experiment.name,
        "model": experiment.model,
        "dataset": experiment.dataset,
        "method": result.method,
        "split": result.split,
        "questions": len(result.replies),
    }
    for score in ("em", "f1"):
        interval = mean_interval(result.values(score))
        ends = (None, None) if interval is None else (interval.low, interval.high)
        row |= {score: result.mean(score), f"{score}_low": ends[0], f"{score}_high": ends[1]}
    return {
        **row,
        "paper_f1": published_f1(experiment.model, experiment.dataset, result.split, result.method),
        "prec": result.mean("prec"),
        "recall": result.mean("recall"),
        "presence": result.summary.get("presence"),
        "seconds_per_question": result.summary.get("seconds_per_question"),
        "unanswered": result.count("unanswered"),
        "out_of_reach": result.count("out_of_reach"),
    }


def as_json(experiments: Sequence[Experiment]) -> str:
    """The rows as a list of objects, each with what decided the result and what made it."""
    results = [result for experiment in experiments for result in experiment.results]
    rows = [
        {**row, "settings": result.deciding_settings(named=True), "made_by": dict(result.made_by)}
        for row, result in zip(score_rows(experiments), results, strict=True)
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def as_csv(rows: Iterable[Mapping[str, Json]]) -> str:
    """Rows of the same keys as CSV, with a heading; nothing stands for what is not known."""
    rows = list(rows)
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def as_latex(labelled: Iterable[tuple[str, tables.Table]]) -> str:
    """Tables of scores for a paper, by label.

    Needs the package booktabs.
    """
    return "% \\usepackage{booktabs}\n" + "\n".join(_latex_table(label, table) for label, table in labelled)


def _latex_table(label: str, table: tables.Table) -> str:
    columns = "".join("r" if table.numeric(column) else "l" for column in range(len(table.headings)))
    groups = [[_latex_row(cell.text for cell in row) for row in group] for group in table.groups]
    body = "\\midrule\n".join("".join(rows) for rows in groups)
    heading = _latex_row(table.headings)
    return (
        f"% {' '.join(label.split())}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{heading}\\midrule\n{body}"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _latex_row(cells: Iterable[str]) -> str:
    escaped = ("".join(_LATEX.get(char, char) for char in " ".join(cell.split())) for cell in cells)
    return " & ".join(escaped) + r" \\" + "\n"
