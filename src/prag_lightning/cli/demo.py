"""`prag demo`: every stage of the shipped experiment, one after the other."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

CONFIG = "configs/demo.yaml"
RESULTS = "demo-out/results"
_METHODS = ("vanilla", "icl", "prag", "combine")


def run_demo(command: str, args: Sequence[str]) -> None:
    """Augment, encode, answer by every method and by another question's adapters, and report, below `demo-out/`.

    Args:
        command: `demo`.
        args: Settings in place of those of the configuration, for every stage but the report.

    Raises:
        PragError: whatever a stage raises; those before it are not done again.
    """
    parser = ArgumentParser(
        f"prag {command}",
        f"prag {command} [--NAME VALUE ...]",
        description=f"Run every stage of {CONFIG}; outputs go to demo-out/. Settings are those of the stages, such as "
        "--data.sample 20.",
    )
    _, settings = parser.parse_known_args(args)
    from prag_lightning.cli.experiments import run_experiment_command
    from prag_lightning.cli.stages import run_stage

    stages = [("augment", []), ("fit", []), *(("test", [f"--model.inference_method={name}"]) for name in _METHODS)]
    stages.append(("test", ["--model.inference_method=prag", "--model.adapters_from=other"]))
    for stage, own in stages:
        run_stage(stage, ["--config", CONFIG, *settings, *own])
    run_experiment_command("report", [RESULTS])
