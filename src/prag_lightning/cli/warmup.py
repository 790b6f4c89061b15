"""The `prag` command for configurations whose model is a warm-up's."""

from __future__ import annotations

from lightning.pytorch.cli import LightningArgumentParser

from prag_lightning.cli.lightning_cli import StageCLI


class WarmupCLI(StageCLI):
    """LightningCLI whose model and data are given by class_path; its stages are `warmup-data` and `fit`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Methods of `WarmupTrainer`, and those of their arguments that are no options of the same name."""
        return {stage: {"model", "datamodule"} for stage in ("warmup_data", "fit")}

    def logged_run(self) -> tuple[str, str] | None:
        """Only training is logged."""
        return ("warmup", "fit-warmup") if self.subcommand == "fit" else None

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: object) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.prog = parser.prog.replace("warmup_data", "warmup-data")
        return parser
