"""Stages of the `prag` command killed at random moments, and whether what they leave in the end is the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
STAGES = ("augment", "fit", "test")
_WITH_TIMES = ("journal-*.jsonl", "result.txt")
"""Files that say how long something took."""
_OF_RUNS = "costs.jsonl"
"""Has a line a run, and so differs with the number of runs."""


def command(stage: str, out: Path, questions: int) -> list[str]:
    """A stage of the demo on its first questions, in small batches, with one thread, below `out`."""
    line = [
        sys.executable,
        "-m",
        "prag_lightning.cli",
        stage,
        "--config",
        "configs/demo.yaml",
        "--trainer.logger=false",
    ]
    line += [f"--data.sample={questions}", f"--data.augment_root={out / 'aug'}", "--data.augment.augment_batch_size=4"]
    line += [f"--model.offline_root={out / 'adapters'}", f"--model.output_root={out / 'results'}"]
    return [*line, "--model.group_tokens=1024", "--data.per_device_eval_batch_size=4"]


def run(line: Sequence[str]) -> float:
    """Run a command to its end; gives seconds."""
    started = time.monotonic()
    done = subprocess.run(line, cwd=ROOT, env=one_thread(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started


def run_killed(line: Sequence[str], after: float) -> bool:
    """Start a command and kill it with SIGKILL after so many seconds; gives whether it was still running."""
    process = subprocess.Popen(
        line, cwd=ROOT, env=one_thread(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _, stderr = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, stderr
    return False


def kill_often(stage: str, out: Path, questions: int, kills: int, seconds: float, rng: random.Random) -> int:
    """Start a stage until it has ended by itself, killing it up to `kills` times at random moments of its second half
    of `seconds`, which is when it works rather than starts; gives how often it was killed."""
    killed = 0
    while killed < kills and run_killed(command(stage, out, questions), rng.uniform(0.5, 1.0) * seconds):
        killed += 1
    run(command(stage, out, questions))
    return killed


def differences(left: Path, right: Path) -> list[str]:
    """The files and links below two folders that are in one alone or hold something else; times are left out, as are
    the folders' own names."""
    held = [{str(path.relative_to(root)): _content(path, root) for path in _files(root)} for root in (left, right)]
    return sorted(name for name in held[0].keys() | held[1].keys() if held[0].get(name) != held[1].get(name))


def _files(root: Path) -> list[Path]:
    files = [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]
    return [path for path in files if path.name != _OF_RUNS]


def _content(path: Path, root: Path) -> object:
    if path.is_symlink():
        return os.readlink(path)
    if not any(path.match(pattern) for pattern in _WITH_TIMES):
        return path.read_bytes().replace(str(root).encode(), b"")
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return sorted(json.dumps({key: row[key] for key in row if key != "seconds"}) for row in rows)
    return [line for line in path.read_text(encoding="utf-8").splitlines() if "seconds" not in line]


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
