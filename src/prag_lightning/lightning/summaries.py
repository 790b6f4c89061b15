"""What TensorBoard shows of a run beside Lightning's own curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from prag_lightning.lora.stack import LoraWeights
from prag_lightning.records import Json
from prag_lightning.training.encoder import EncodedPassage

PREDICTIONS_SHOWN = 50
COMPARED_SETTINGS = (
    "inference_method",
    "model_name",
    "lora_a",
    "null_space",
    "objective",
    "include_text",
    "locality",
    "distill_samples",
    "merge",
    "topk",
    "adapters_from",
    "adapter_format",
    "base_weight",
    "augment_model",
    "lora_rank",
    "lora_alpha",
    "learning_rate",
    "num_train_epochs",
    "dataset",
    "with_cot",
)
"""What the HPARAMS tab has of an experiment's settings."""


class Summaries(Callback):
    """Curves and distributions of `fit`; running scores, predictions and comparable settings of `test`.

    Of several processes each encodes its share; what the first encodes is shown.
    """

    def __init__(self) -> None:
        self._by_step: dict[int, list[float]] = defaultdict(list)
        self._last: list[float] = []
        self._moved: list[float] = []
        self._norms: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take in a group's losses, how far its adapters have moved, and how large their updates are."""
        if not outputs:
            return
        encoded: Sequence[EncodedPassage] = outputs["encoded"]
        start: LoraWeights = outputs["base_weight"]
        for passage in encoded:
            for step, loss in enumerate(passage.losses):
                self._by_step[step].append(loss)
            self._last.append(passage.losses[-1])
            self._moved.append(_distance(passage.weights, start))
            self._norms.append(update_norm(passage.weights, pl_module.settings.recipe.scaling))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Write the loss over the recipe's steps, and the distributions of last losses and of adapters' norms."""
        logger = _logger(trainer)
        if logger is None or not self._last:
            return
        writer = logger.experiment
        for step, losses in sorted(self._by_step.items()):
            writer.add_scalar("recipe/loss_by_step", sum(losses) / len(losses), step)
        writer.add_histogram("adapters/last_loss", torch.tensor(self._last))
        writer.add_histogram("adapters/distance_from_base_weight", torch.tensor(self._moved))
        writer.add_histogram("adapters/update_norm", torch.tensor(self._norms))
        writer.flush()
        self._last = []

    on_exception = on_train_end

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the scores of this process up to now."""
        logger = _logger(trainer)
        if logger is not None and isinstance(outputs, Mapping):
            logger.log_metrics({f"{outputs['split']}/so_far/{k}": v for k, v in outputs["scores"].items()}, batch_idx)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the first predictions, and the settings with their EM and F1 for the HPARAMS tab."""
        logger = _logger(trainer)
        results: Mapping[str, tuple[Sequence[Mapping[str, Json]], Mapping[str, float]]]
        results = getattr(pl_module, "results", {})
        if logger is None or not results:
            return
        metrics: dict[str, float] = {}
        for split, (rows, scores) in results.items():
            logger.experiment.add_text(f"predictions/{split}", predictions_table(rows[:PREDICTIONS_SHOWN]))
            prefix = "hparams" if len(results) == 1 else f"hparams/{split}"
            metrics |= {f"{prefix}/{score}": scores[score] for score in ("em", "f1")}
        settings = {**trainer.datamodule.hparams, **pl_module.hparams}  # type: ignore[attr-defined]
        logger.log_hyperparams({name: settings[name] for name in COMPARED_SETTINGS}, metrics)


def predictions_table(rows: Sequence[Mapping[str, Json]]) -> str:
    """Predictions as a Markdown table: question, gold answers, what was extracted, EM, the reply and the passages."""
    lines = ["| question | gold | answer | EM | reply | passages |", "|---|---|---|---:|---|---|"]
    for row in rows:
        gold = row["answer"] if isinstance(row["answer"], str) else " / ".join(row["answer"])
        cells = [row["question"], gold, row["eval_predict"], f"{row['em']:.0f}", row["text"]]
        cells.append(" · ".join(row.get("passage_texts", ())))
        lines.append("| " + " | ".join(_cell(str(cell)) for cell in cells) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _distance(weights: LoraWeights, start: LoraWeights) -> float:
    squares = (
        float((tensor - origin).square().sum())
        for name in weights
        for tensor, origin in zip(weights[name], start[name], strict=True)
    )
    return float(sum(squares) ** 0.5)


def update_norm(weights: LoraWeights, scaling: float) -> float:
    """Frobenius norm of what an adapter adds to the model's weights, scaling · B A over all modules."""
    squares = (float(((b.T @ b) * (a @ a.T)).sum()) for a, b in weights.values())
    return float(scaling * max(0.0, sum(squares)) ** 0.5)


def _logger(trainer: Trainer) -> TensorBoardLogger | None:
    """TensorBoard's logger, if this process has one."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return loggers[0] if loggers and trainer.is_global_zero else None
