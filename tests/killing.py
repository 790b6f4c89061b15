"""Stages of the `prag` command killed at random moments, and whether what they leave in the end is the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
STAGES = ("augment", "fit", "test")
MORE_STAGES = ("augment", "plan", "fit", "test", "predict", "warmup")
"""All that work, in an order in which each finds something to do."""
_WITH_TIMES = ("journal-*.jsonl", "result.txt")
"""Files that say how long something took."""
_OF_RUNS = "costs.jsonl"
"""Has a line a run, and so differs with the number of runs."""
_PERIOD = 0.02
"""Seconds between two looks at a command."""


def command(stage: str, out: Path, questions: int, *more: str) -> list[str]:
    """A stage of the demo on its first questions, in small batches, with one thread, below `out`; `predict` answers
    by another method than `test` does, and `warmup` is a training of 20 steps.

    Args:
        stage: One of `MORE_STAGES`.
        out: Where it writes.
        questions: How many.
        more: Settings, after the others.
    """
    if stage == "warmup":
        line = ["fit", "--config", "configs/warmup.yaml", "--trainer.max_steps=20", "--model.resume_every_n_steps=2"]
        line += [
            "--data.validation_rows=0",
            f"--data.rows_root={out / 'rows'}",
            f"--model.warmup_root={out / 'warmup'}",
        ]
    elif stage == "warmup-data":
        line = [stage, "--config", "configs/warmup.yaml", f"--data.rows_root={out / 'rows'}"]
    else:
        line = [stage, "--config", "configs/demo.yaml", f"--data.sample={questions}"]
        line += [f"--data.augment_root={out / 'aug'}", "--data.augment.augment_batch_size=4"]
        line += [f"--model.offline_root={out / 'adapters'}", f"--model.output_root={out / 'results'}"]
        line += ["--model.group_tokens=1024", "--data.per_device_eval_batch_size=4"]
    if stage == "predict":
        line += ["--model.inference_method=combine"]
    return [*line, *([] if stage == "plan" else ["--trainer.logger=false"]), *more]


def run(line: Sequence[str]) -> float:
    """Run a command to its end; gives the processor's seconds that it took."""
    killed, seconds = run_killed(line, None)
    assert not killed
    return seconds


def run_killed(line: Sequence[str], after: float | None) -> tuple[bool, float]:
    """Start a command and kill it with SIGKILL when the processor has spent so many seconds on it; gives whether it was
    still running, and the seconds.

    Each is a process of its own, forked from one that has loaded the libraries and nothing else: so the moments fall
    into the work. On a busy machine they do too, since the time is the processor's.
    """
    seconds = 0.0
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        process = start(line, log.name)
        watched = psutil.Process(process.pid)
        while process.is_alive():
            with suppress(psutil.Error):  # it has ended
                times = watched.cpu_times()
                seconds = max(seconds, times.user + times.system)
            if after is not None and seconds >= after:
                process.kill()
            process.join(_PERIOD)
        assert process.exitcode in ((0,) if after is None else (0, -signal.SIGKILL)), log.read()
        return process.exitcode != 0, seconds


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
_CONTEXT.set_forkserver_preload(
    [
        "prag_lightning.cli.lightning_cli",
        "prag_lightning.cli.settings",
        "prag_lightning.cli.experiments",
        "prag_lightning.commands.plan",
        "transformers.models.llama.modeling_llama",
        "peft.utils.transformers_weight_conversion",
    ]
)


def kill_often(line: Sequence[str], kills: int, seconds: float, rng: random.Random, longest: float = 0.4) -> int:
    """Start a command until it has ended by itself, killing it up to `kills` times at random moments of the `seconds`
    that it takes; gives how often it was killed.

    Args:
        line: The command.
        kills: How often at most.
        seconds: Of the processor, that it takes undisturbed.
        rng: Says when.
        longest: The latest moment, as a share of the seconds.
    """
    killed = 0
    while killed < kills and run_killed(line, rng.uniform(0.05, longest) * seconds)[0]:
        killed += 1
    run(line)
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
