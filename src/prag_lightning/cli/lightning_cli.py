"""What the `prag` commands that run on Lightning share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from prag_lightning.cli.parser import HelpFormatter, OneLineErrors


class _Parser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser, with errors of one line."""


class SaveConfigWithLogs(SaveConfigCallback):
    """Keeps the resolved configuration beside a run's logs; a run without logs leaves nothing behind."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it, if there is a place for it."""
        if trainer.logger is not None:
            super().setup(trainer, pl_module, stage)


class StageCLI(LightningCLI):
    """LightningCLI with the project's help and errors, configurations that build on others, and one TensorBoard
    directory a run."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """As Lightning's, with errors of one line."""
        kwargs |= {"dump_header": ["prag-lightning"], "formatter_class": HelpFormatter}
        parser = _Parser(**kwargs)
        parser.add_argument(
            "-c", "--config", action="config", help="A configuration file; later ones override earlier ones."
        )
        parser.add_argument(
            "--base",
            type=list[str] | str | None,
            help="In a configuration file: files that it builds on, relative to it.",
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Show the method's own settings before the trainer's many."""
        parser.usage = "%(prog)s --config FILE [--model.NAME VALUE] [--data.NAME VALUE] [--trainer.NAME VALUE]"
        groups: list[Any] = parser._action_groups  # type: ignore[assignment]
        groups.sort(key=lambda group: "Trainer" in str(group.title))

    def logged_run(self) -> tuple[str, str] | None:
        """Where the run's logs go below tensorboard/, and what the run is called; `None`, unless a command says
        otherwise, keeps no logs."""
        return None

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Give a run one TensorBoard directory, named so that a person knows it; below trainer.default_root_dir, or
        logs/."""
        run = self.logged_run()
        if run is None:
            kwargs["logger"] = False
        elif self._get(self.config_init, "trainer.logger") in (None, True):
            folder, name = run
            version = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
            root = self._get(self.config_init, "trainer.default_root_dir") or "logs"
            kwargs["logger"] = TensorBoardLogger(
                root, name=f"tensorboard/{folder}", version=version, default_hp_metric=False
            )
        return super().instantiate_trainer(**kwargs)
