"""What the stages of an experiment cost: time as recorded, bytes as they stand on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prag_lightning.costs import Cost, read_costs
from prag_lightning.report.gather import Experiment


@dataclass(frozen=True)
class Spending:
    """A stage's cost.

    Args:
        stage: With the device, format, method or split that it is of.
        pieces: How many passages or questions it is of.
        unit: Which of the two.
        seconds: Time that went by over them; unset where nothing is recorded.
        size: Bytes of what was made; unset where nothing is found.
        device: What it ran on; empty where that is not recorded.
    """

    stage: str
    pieces: int
    unit: str
    seconds: float | None = None
    size: int | None = None
    device: str = ""


def spending(experiment: Experiment) -> list[Spending]:
    """The stages of an experiment in order, as far as their traces are found."""
    augment, adapters = _augment_folder(experiment), _adapter_folder(experiment)
    rows = []
    if augment is not None:
        size = _size(augment.glob("*.json"))
        rows += _recorded(read_costs(augment), "augment", size)
    if adapters is not None:
        rows += _recorded(read_costs(adapters), "fit", None)
        rows += [_stored(folder) for folder in sorted(adapters.glob("adapters*")) if folder.is_dir()]
    for result in experiment.results:
        seconds = result.summary.get("seconds_per_question")
        total = None if seconds is None else seconds * len(result.replies)
        rows.append(Spending(f"test: {result.method}, {result.split}", len(result.replies), "questions", total))
    return rows


def _recorded(costs: Iterable[Cost], stage: str, size: int | None) -> list[Spending]:
    """A row a device, of the runs of a stage."""
    by_device: dict[str, list[Cost]] = {}
    for cost in costs:
        if cost.stage == stage:
            by_device.setdefault(cost.device, []).append(cost)
    if not by_device and size:
        return [Spending(stage, 0, "passages", None, size)]
    return [
        Spending(
            stage,
            sum(cost.passages for cost in runs),
            "passages",
            sum(cost.wall_seconds for cost in runs),
            size or None,
            device,
        )
        for device, runs in by_device.items()
    ]


def _stored(folder: Path) -> Spending:
    """The adapters of one format."""
    files = [path for path in folder.glob("*/*/*.safetensors") if path.is_file()]
    adapter_format = folder.name.partition("-")[2] or "float32"
    return Spending(f"adapters on disk, {adapter_format}", len(files), "passages", None, _size(files))


def _size(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _adapter_folder(experiment: Experiment) -> Path | None:
    root = experiment.settings.get("offline_root")
    return Path(root, *experiment.path.split("/")[-5:]) if isinstance(root, str) else None


def _augment_folder(experiment: Experiment) -> Path | None:
    root, parts = experiment.settings.get("augment_root"), experiment.path.split("/")
    if not isinstance(root, str) or not parts[-1].startswith("aug_model="):
        return None
    return Path(root) / experiment.dataset / parts[-1].removeprefix("aug_model=")
