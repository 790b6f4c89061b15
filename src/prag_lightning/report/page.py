"""The report as a page of HTML and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from prag_lightning.report import tables
from prag_lightning.report.comparison import Comparison, comparisons, unshared
from prag_lightning.report.gather import Experiment, labels
from prag_lightning.report.plots import comparison_plot, f1_plot
from prag_lightning.report.published import PAPER, has_published, recipe_differences
from prag_lightning.report.runs import Runs
from prag_lightning.report.spending import spending
from prag_lightning.report.statistics import RESAMPLES

NO_PAPER = "The paper has no numbers for this model and data set."


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
    return notes + unshared(compared)


@dataclass(frozen=True)
class Page:
    """All that the report says.

    Args:
        root: The folder of the results.
        sections: What is said of each experiment.
        refused: Of results that are left out, a sentence each.
        runs: Two runs that are compared.
    """

    root: Path
    sections: Sequence[Section]
    refused: Sequence[str] = ()
    runs: Runs | None = None

    def html(self) -> str:
        """One file that refers to no other."""
        return self._rendered("page.html.jinja")

    def markdown(self) -> str:
        """The same without figures, for a repository or an issue."""
        return self._rendered("page.md.jinja", finalize=_markdown_text)

    def _rendered(self, template: str, **options: Any) -> str:
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader(__package__, ""),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            undefined=StrictUndefined,
            **options,
        )
        glance = tables.glance([section.experiment for section in self.sections])
        shown = [glance, *(table for s in self.sections for table in (s.scores, s.compared, s.costs))]
        shown += self.runs.tables if self.runs is not None else []
        return environment.get_template(template).render(
            page=self,
            glance=glance,
            meanings=tables.MEANINGS,
            used={heading for table in shown if table.groups for heading in table.headings},
            paper=PAPER,
            resamples=RESAMPLES,
        )


def _markdown_text(value: object) -> Markup:
    """Text in Markdown that is taken for nothing else: no markup, no HTML, no end of a cell."""
    if isinstance(value, Markup):
        return value
    escaped = re.sub(r"([\\`*_{}\[\]#~|])", r"\\\1", " ".join(str(value).split()))
    return Markup(escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
