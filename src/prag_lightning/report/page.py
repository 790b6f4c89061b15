"""The report as a page of HTML and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from prag_lightning.report import tables
from prag_lightning.report.comparison import Comparison, comparisons
from prag_lightning.report.gather import Experiment, Reply, labels
from prag_lightning.report.plots import comparison_plot, f1_plot
from prag_lightning.report.published import PAPER, has_published, recipe_differences
from prag_lightning.report.runs import Runs
from prag_lightning.report.spending import spending
from prag_lightning.report.statistics import RESAMPLES

NO_PAPER = "The paper has no numbers for this model and data set."


@dataclass(frozen=True)
class RunsSection:
    """What is said of two runs.

    Args:
        runs: The two.
        notes: Sentences that stand below the heading.
        tables: Of comparisons, one an experiment.
        comparisons: With their wins and losses.
    """

    runs: Runs
    notes: Sequence[str]
    tables: Sequence[tables.Table]
    comparisons: Sequence[Comparison]


@dataclass(frozen=True)
class Page:
    """All that the report says.

    Args:
        root: The folder of the results.
        sections: What is said of each experiment.
        refused: Of results that are left out, a sentence each.
        runs: What is said of a comparison with another run, if there is one.
    """

    root: str
    sections: Sequence[Section]
    refused: Sequence[str] = ()
    runs: RunsSection | None = None


@dataclass(frozen=True)
class Section:
    """What is said of an experiment.

    Args:
        label: Its heading.
        experiment: Its results.
        notes: Sentences that stand below the heading.
        scores: The table of scores.
        compared: The table of comparisons.
        costs: The table of costs.
        comparisons: With their wins and losses.
        f1_plots: A figure a split, by split.
        comparison_plots: Likewise.
    """

    label: str
    experiment: Experiment
    notes: Sequence[str]
    scores: tables.Table
    compared: tables.Table
    costs: tables.Table
    comparisons: Sequence[Comparison]
    f1_plots: dict[str, str]
    comparison_plots: dict[str, str]


def sections(experiments: Sequence[Experiment]) -> list[Section]:
    """All that the report says, experiment by experiment."""
    return [_section(*labelled) for labelled in zip(labels(experiments), experiments, strict=True)]


def runs_section(runs: Runs) -> RunsSection:
    """What the report says of two runs."""
    compared = runs.comparisons()
    notes = [f"A is {runs.first}, B is {runs.second}.", *_unshared(compared), *runs.notes()]
    return RunsSection(runs, notes, runs_tables(runs), compared)


def runs_tables(runs: Runs) -> list[tables.Table]:
    """The tables of two runs, one an experiment."""
    by_experiment: dict[str, list[tuple[str, Comparison]]] = {}
    for pair, comparison in zip(runs.pairs, runs.comparisons(), strict=True):
        by_experiment.setdefault(pair.experiment, []).append((pair.method, comparison))
    return [tables.runs_compared(*experiment) for experiment in by_experiment.items()]


def _section(label: str, experiment: Experiment) -> Section:
    compared = comparisons(experiment)
    by_split = {split: [c for c in compared if c.split == split] for split in experiment.splits}
    return Section(
        label,
        experiment,
        _notes(experiment, compared),
        tables.scores(experiment),
        tables.compared(compared),
        tables.costs(spending(experiment)),
        compared,
        {split: f1_plot(experiment, split) for split in by_split},
        {split: comparison_plot(pairs, f"{experiment.name} {split}") for split, pairs in by_split.items() if pairs},
    )


def _notes(experiment: Experiment, compared: Sequence[Comparison]) -> list[str]:
    notes = []
    if experiment.apart:
        settings = ", ".join(f"{name} {value}" for name, value in experiment.apart.items())
        notes.append(f"Results in the same folder have other settings and stand apart; these have {settings}.")
    if not has_published(experiment.model, experiment.dataset):
        notes.append(NO_PAPER)
    elif differences := recipe_differences(experiment.model, experiment.dataset, experiment.settings):
        notes.append(f"The paper's numbers are of another recipe; here: {'; '.join(differences)}.")
    return notes + _unshared(compared)


def _unshared(compared: Sequence[Comparison]) -> list[str]:
    return [
        f"{c.split}: {c.first} and {c.second} were compared on {c.shared} questions; "
        f"{c.unshared} were not asked of both with the same text."
        for c in compared
        if c.unshared
    ]


def html(page: Page) -> str:
    """The page: one file that refers to no other."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    template = environment.from_string(files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8"))
    glance = tables.glance([part.experiment for part in page.sections])
    shown = [glance, *(table for part in page.sections for table in (part.scores, part.compared, part.costs))]
    shown += page.runs.tables if page.runs is not None else []
    used = {heading for table in shown if table.groups for heading in table.headings}
    return template.render(
        page=page,
        sections=page.sections,
        glance=glance,
        meanings={name: text for name, text in tables.MEANINGS.items() if name in used},
        all_meanings=tables.MEANINGS,
        paper=PAPER,
        resamples=RESAMPLES,
    )


def markdown(page: Page) -> str:
    """The same without figures, for a repository or an issue."""
    lines = [
        "# Results",
        "",
        f"Of `{_code(page.root)}`. Intervals are of 95 %, from {RESAMPLES} draws of the questions.",
        "",
    ]
    lines += [line for sentence in page.refused for line in (f"Left out: {_text(sentence)}", "")]
    lines += _table(tables.glance([part.experiment for part in page.sections]))
    if page.runs is not None:
        lines += ["## Two runs compared", "", *(line for note in page.runs.notes for line in (_text(note), ""))]
        for table in page.runs.tables:
            lines += [f"### {_text(table.caption)}", "", *_table(table)]
        for c in page.runs.comparisons:
            lines += _examples(c)
    for part in page.sections:
        lines += [f"## {_text(part.label)}", "", f"`{_code(part.experiment.path)}`", ""]
        lines += [line for note in part.notes for line in (_text(note), "")]
        for table in (part.scores, part.compared, part.costs):
            lines += [f"### {table.caption}", "", *_table(table)] if table.groups else []
        for c in part.comparisons:
            lines += _examples(c)
    lines += ["## What the columns say", ""]
    lines += [f"- **{_text(name)}**: {_text(meaning)}" for name, meaning in tables.MEANINGS.items()]
    return "\n".join(lines) + "\n"


def _table(table: tables.Table) -> list[str]:
    headings = [_text(heading) for heading in table.headings]
    ruler = ["---:" if table.numeric(column) else "---" for column in range(len(headings))]
    rows = [[_text(cell.text) for cell in row] for group in table.groups for row in group]
    return [f"| {' | '.join(row)} |" for row in (headings, ruler, *rows)] + [""]


def _examples(c: Comparison) -> list[str]:
    lines = []
    for best, worse, pairs in ((c.first, c.second, c.wins), (c.second, c.first, c.losses)):
        if pairs:
            lines += [f"### {_text(c.split)}: where {_text(best)} is better than {_text(worse)}", ""]
            lines += [f"| | question | gold | {_text(c.first)} | {_text(c.second)} |", "|---:|---|---|---|---|"]
            lines += [f"| {' | '.join(_example(*pair))} |" for pair in pairs] + [""]
    return lines


def _example(ours: Reply, theirs: Reply) -> list[str]:
    cells = [str(ours.test_id), ours.question, " / ".join(ours.answers), ours.text, theirs.text]
    return [_text(cell) for cell in cells]


def _text(text: str) -> str:
    """Text in Markdown that is taken for nothing else: no markup, no HTML, no end of a cell."""
    escaped = re.sub(r"([\\`*_{}\[\]#~|])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").split())
