"""Killed at random moments and run again, the stages leave what they leave uninterrupted. `make soak` kills more."""

import os
import random
import signal
import time

import pytest

from killing import STAGES, command, differences, kill_often, run, start
from prag_lightning.cli import entry

QUESTIONS, KILLS_A_STAGE, KILLS = 8, 3, 6


def test_killed_stages_end_in_the_same_files(tmp_path):
    killed, rng = 0, random.Random(0)
    for stage in STAGES:
        seconds = run(command(stage, tmp_path / "whole", QUESTIONS))
        killed += kill_often(command(stage, tmp_path / "killed", QUESTIONS), KILLS_A_STAGE, seconds, rng)
        assert differences(tmp_path / "whole", tmp_path / "killed") == []
    assert killed >= KILLS


def test_a_signal_that_comes_in_a_finaliser_is_not_lost(monkeypatch, capsys):
    class Interrupted:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    def run(args, received):
        Interrupted()
        time.sleep(20)

    monkeypatch.setattr(entry, "_run", run)
    assert entry.main(["fit"]) == 143
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "term")]
)
def test_asked_to_end_a_stage_says_how_to_go_on(tmp_path, number, code, word):
    signs = ("aug/**/journal-*.jsonl", "adapters/**/adapters/*/*", "results/**/journal-*.jsonl")
    log = tmp_path / "log"
    for stage, sign in zip(STAGES, signs, strict=True):
        line = [*command(stage, tmp_path, 40), "--data.per_device_eval_batch_size=1", "--model.group_tokens=100"]
        log.write_text("", encoding="utf-8")
        process = start(line, str(log))
        while not any(tmp_path.glob(sign)):
            assert process.is_alive(), log.read_text(encoding="utf-8")
            time.sleep(0.01)
        os.kill(process.pid, number)
        process.join(60)
        text = log.read_text(encoding="utf-8")
        assert process.exitcode == code, text
        last = text.strip().splitlines()[-1]
        assert last.startswith("prag: error:")
        assert word in last
        assert "Run the same command again" in last
        assert "Traceback" not in text
        run(line)
