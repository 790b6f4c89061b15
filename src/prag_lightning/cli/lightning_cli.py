"""The commands that run on Lightning's Trainer, driven by LightningCLI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any, ClassVar

from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from prag_lightning.cli.parser import HelpFormatter, OneLineErrors, add_files
from prag_lightning.lightning.datamodule import PragDataModule
from prag_lightning.lightning.module import PragModule
from prag_lightning.lightning.stage_trainer import TRAINER_DEFAULTS
from prag_lightning.lightning.trainer import PragTrainer
from prag_lightning.lightning.warmup.datamodule import WarmupDataModule
from prag_lightning.lightning.warmup.module import WarmupModule
from prag_lightning.lightning.warmup.trainer import WarmupTrainer


class _Parser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser, with errors of one line."""


class SaveConfigWithLogs(SaveConfigCallback):
    """Keeps the resolved configuration beside a run's logs; a run without logs leaves nothing behind."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it, if there is a place for it."""
        if trainer.logger is not None:
            super().setup(trainer, pl_module, stage)


class StageCLI(LightningCLI, ABC):
    """LightningCLI for one command, a method of the trainer: the project's help and errors, configurations that build
    on others, and one TensorBoard directory a run.

    Args:
        command: Its name on the command line.
        args: What follows it.
        description: For the help.
    """

    options: ClassVar[dict[str, Any]]
    """Classes of model, data and trainer; see `LightningCLI`."""

    def __init__(self, command: str, args: list[str], description: str = "") -> None:
        self.command = command
        super().__init__(
            args=args,
            run=False,
            seed_everything_default=42,
            auto_configure_optimizers=False,
            save_config_callback=SaveConfigWithLogs,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": f"prag {command}", "description": description},
            trainer_defaults=TRAINER_DEFAULTS,
            **self.options,
        )

    def run_command(self) -> None:
        """Do what the command line asks for."""
        getattr(self.trainer, self.command.replace("-", "_"))(self.model, self.datamodule)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """As Lightning's, with errors of one line."""
        parser = _Parser(**kwargs, dump_header=["prag-lightning"], formatter_class=HelpFormatter)
        add_files(parser)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """As Lightning's, once the configuration files are looked through."""
        parser.check_files(args)  # type: ignore[attr-defined]
        super().parse_arguments(parser, args)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Show the method's own settings before the trainer's many."""
        parser.usage = "%(prog)s --config FILE [--model.NAME VALUE] [--data.NAME VALUE] [--trainer.NAME VALUE]"
        groups: list[Any] = parser._action_groups  # type: ignore[assignment]
        groups.sort(key=lambda group: "Trainer" in str(group.title))

    @abstractmethod
    def logged_run(self) -> tuple[str, str] | None:
        """Where the run's logs go below tensorboard/, and what the run is called; `None` keeps no logs."""

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


class PragCLI(StageCLI):
    """The method's stages: augment, fit, test, predict."""

    options: ClassVar[dict[str, Any]] = {
        "model_class": PragModule,
        "datamodule_class": PragDataModule,
        "trainer_class": PragTrainer,
    }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Let data know the model by name: it augments where no other does."""
        super().add_arguments_to_parser(parser)
        parser.link_arguments("model.model_name", "data.model_name")

    def logged_run(self) -> tuple[str, str] | None:
        """Encoding and answering are logged, the latter under its method's name in paths."""
        if self.command not in ("fit", "test"):
            return None
        method = f"-{self.model.settings.method}" if self.command == "test" else ""
        return self.datamodule.settings.dataset, f"{self.command}{method}"


class WarmupCLI(StageCLI):
    """Warm-ups, whose model and data are given by class_path: warmup-data, fit."""

    options: ClassVar[dict[str, Any]] = {
        "model_class": WarmupModule,
        "datamodule_class": WarmupDataModule,
        "subclass_mode_model": True,
        "subclass_mode_data": True,
        "trainer_class": WarmupTrainer,
    }

    def logged_run(self) -> tuple[str, str] | None:
        """Only training is logged."""
        return ("warmup", "fit-warmup") if self.command == "fit" else None
