"""Of several processes none goes on when another has failed, and the command ends with that one's exit code."""

import re
import subprocess
import sys
import time

import psutil
import pytest

SCRIPT = """
import os, sys, time
from lightning import Trainer
from prag_lightning.lightning.processes import IndependentProcesses, LinkedProcesses

failing, strategy = sys.argv[1], {"linked": LinkedProcesses, "own": IndependentProcesses}[sys.argv[2]]()
trainer = Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False, enable_progress_bar=False)

def work():
    trainer.strategy.setup_environment()
    print(f"rank {trainer.global_rank} is {os.getpid()}", flush=True)
    trainer.strategy.barrier()
    if str(trainer.global_rank) in failing:
        raise ValueError("it failed")
    if failing == "none":
        time.sleep(60)
    if failing:
        trainer.strategy.barrier()

try:
    trainer.strategy.launcher.launch(work, trainer=trainer)
except ValueError as error:
    print(f"{error} on {trainer.global_rank}", file=sys.stderr)
    sys.exit(2)
"""


@pytest.fixture
def start(tmp_path):
    def start(failing: str, strategy: str = "own") -> subprocess.Popen[str]:
        (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
        command = [sys.executable, str(tmp_path / "script.py"), failing, strategy]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.parametrize(("failing", "strategy"), [("0", "own"), ("1", "linked")])
def test_all_end_with_the_code_of_the_one_that_failed(start, failing, strategy):
    process = start(failing, strategy)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2, err
    assert set(re.findall(r"it failed on (\d)", err)) == set(failing)
    pids = re.findall(r"rank \d is (\d+)", out)
    assert len(pids) == 2
    deadline = time.monotonic() + 5
    while any(psutil.pid_exists(int(pid)) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(int(pid)) for pid in pids)


@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_is_killed_the_other_ends(start, killed):
    process = start("none")
    assert process.stdout is not None
    pids = dict(re.findall(r"rank (\d) is (\d+)", process.stdout.readline() + process.stdout.readline()))
    processes = [psutil.Process(int(pids[rank])) for rank in "01"]
    processes[killed].kill()
    process.wait(60)
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive
    assert process.returncode == (-9 if killed == 0 else 1)
