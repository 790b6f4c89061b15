"""Means of scores over questions, on any number of processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from prag_lightning.records import Json

SCORES = ("em", "f1", "prec", "recall", "presence")


class AnswerScores(Metric):
    """Means of EM, F1, precision, recall and answer presence over questions, reducible across processes.

    It adds and divides; `prag_lightning.metrics` scores. Its sums are float32 whatever the default.
    """

    full_state_update = False
    higher_is_better = True
    sums: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(len(SCORES), dtype=torch.float32), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, scored: Sequence[Mapping[str, Json]]) -> None:
        """Add answers, each with its scores in 0..1 by name."""
        if scored:
            rows = [[float(row[name]) for name in SCORES] for row in scored]
            self.sums += torch.tensor(rows, dtype=self.sums.dtype, device=self.sums.device).sum(0)
            self.count += len(rows)

    def compute(self) -> dict[str, Tensor]:
        """The means, in 0..1, by name; 0 before any question."""
        return dict(zip(SCORES, self.sums / self.count.clamp(min=1), strict=True))
