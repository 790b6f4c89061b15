"""What a stage has cost: a line a run, beside what the run made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import inf
from pathlib import Path

from prag_lightning.files import path_in_errors

COSTS_FILE = "costs.jsonl"


@dataclass(frozen=True)
class Cost:
    """What one process spent in one run of a stage.

    Args:
        stage: `augment` or `fit`.
        passages: How many it finished.
        seconds: That it worked on them, without the start of the command.
        device: What it worked on.
        processes: How many worked at the same time, each with a line of its own.
        finished_at: When it ended, in UTC.
    """

    stage: str
    passages: int
    seconds: float
    device: str
    processes: int = 1
    finished_at: str = ""

    @property
    def wall_seconds(self) -> float:
        """Its part of the time that went by."""
        return self.seconds / self.processes


def record_cost(directory: Path, cost: Cost) -> None:
    """Append a cost to `costs.jsonl`; one of no passages is none.

    The line goes to the file in one write, so that processes do not mix theirs, and starts afresh where a killed
    process has left a part of one.
    """
    if not cost.passages:
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({**asdict(cost), "seconds": round(cost.seconds, 4), "finished_at": now}) + "\n"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / COSTS_FILE
    with path_in_errors(path), path.open("a+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode())


def read_costs(directory: Path) -> list[Cost]:
    """The costs beside what a stage made, oldest first; none if there is no record. Torn lines are left out."""
    try:
        lines = (directory / COSTS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [cost for line in lines if (cost := _cost(line)) is not None]


def _cost(line: str) -> Cost | None:
    try:
        row = json.loads(line)
        if not isinstance(row, Mapping):
            return None
        cost = Cost(
            str(row["stage"]),
            int(row["passages"]),
            float(row["seconds"]),
            str(row["device"]),
            int(row.get("processes", 1)),
            str(row.get("finished_at", "")),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return cost if cost.passages > 0 and 0 <= cost.seconds < inf and cost.processes > 0 else None
