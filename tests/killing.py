"""Stages of the `prag` command killed at random moments, and whether what they leave in the end is the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

ROOT = Path(__file__).parent.parent
STAGES = ("augment", "fit", "test")
_WITH_TIMES = ("journal-*.jsonl", "result.txt")
"""Files that say how long something took."""
_OF_RUNS = "costs.jsonl"
"""Has a line a run, and so differs with the number of runs."""


def command(stage: str, out: Path, questions: int) -> list[str]:
    """A stage of the demo on its first questions, in small batches, with one thread, below `out`."""
    line = [stage, "--config", "configs/demo.yaml", "--trainer.logger=false"]
    line += [f"--data.sample={questions}", f"--data.augment_root={out / 'aug'}", "--data.augment.augment_batch_size=4"]
    line += [f"--model.offline_root={out / 'adapters'}", f"--model.output_root={out / 'results'}"]
    return [*line, "--model.group_tokens=1024", "--data.per_device_eval_batch_size=4"]


def run(line: Sequence[str]) -> float:
    """Run a command to its end; gives seconds."""
    started = time.monotonic()
    assert not run_killed(line, None)
    return time.monotonic() - started


def run_killed(line: Sequence[str], after: float | None) -> bool:
    """Start a command and kill it with SIGKILL after so many seconds; gives whether it was still running.

    Each is a process of its own, forked from one that has loaded the libraries and nothing else: so the moments fall
    into the work.
    """
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        process = start(line, log.name)
        process.join(after)
        if process.is_alive():
            process.kill()
            process.join()
            return True
        assert process.exitcode == 0, log.read()
        return False


def start(line: Sequence[str], log: str) -> BaseProcess:
    """Start a command whose output goes to an existing file."""
    process = _CONTEXT.Process(target=_main, args=(list(line), log))
    process.start()
    return process


def _main(line: list[str], log: str) -> None:
    import torch

    from prag_lightning.cli.entry import main

    torch.set_num_threads(1)
    os.chdir(ROOT)
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os._exit(main(line))


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["prag_lightning.cli.stages"])


def kill_often(stage: str, out: Path, questions: int, kills: int, seconds: float, rng: random.Random) -> int:
    """Start a stage until it has ended by itself, killing it up to `kills` times at random moments of the
    `seconds` that it takes; gives how often it was killed."""
    killed = 0
    while killed < kills and run_killed(command(stage, out, questions), rng.uniform(0.05, 0.4) * seconds):
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
