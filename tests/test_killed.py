"""Killed at random moments and run again, the stages leave what they leave uninterrupted. `make soak` kills more."""

import random
import signal
import subprocess
import sys
import time

import pytest

from killing import ROOT, STAGES, command, differences, kill_often, one_thread, run

QUESTIONS, KILLS_A_STAGE = 8, 2


def test_killed_stages_end_in_the_same_files(tmp_path):
    killed, rng = 0, random.Random(0)
    for stage in STAGES:
        seconds = run(command(stage, tmp_path / "whole", QUESTIONS))
        killed += kill_often(stage, tmp_path / "killed", QUESTIONS, KILLS_A_STAGE, seconds, rng)
        assert differences(tmp_path / "whole", tmp_path / "killed") == []
    assert killed >= len(STAGES)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "term")]
)
def test_asked_to_end_a_stage_says_how_to_go_on(tmp_path, number, code, word):
    for stage in STAGES[:2]:
        line = [sys.executable, "-m", "prag_lightning.cli", *command(stage, tmp_path, 40)]
        process = subprocess.Popen(
            line, cwd=ROOT, env=one_thread(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        sign = tmp_path / "aug" if stage == "augment" else tmp_path / "adapters"
        while not any(sign.rglob("journal-*.jsonl" if stage == "augment" else "adapter_model.safetensors")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == code, stderr
        last = stderr.strip().splitlines()[-1]
        assert last.startswith("prag: error:")
        assert word in last
        assert "Run the same command again" in last
        assert "Traceback" not in stderr
        run(line[3:])
