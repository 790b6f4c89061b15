"""The stages of the `prag` command: augment, fit, test, predict, ask, plan, check, export, report."""

from __future__ import annotations

import logging
import warnings
from datetime import datetime
from typing import Any, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from transformers.utils.logging import disable_progress_bar

from prag_lightning.command_line import DESCRIPTION, HelpFormatter, OneLineErrors
from prag_lightning.config_files import with_bases
from prag_lightning.datamodule import PragDataModule
from prag_lightning.errors import Terminated
from prag_lightning.module import PragModule
from prag_lightning.trainer import TRAINER_DEFAULTS, PragTrainer

_QUIET = (
    ".*does not have many workers.*",
    ".*`LightningModule.configure_optimizers` returned `None`.*",
    ".*Total length of .* across ranks is zero.*",
    ".*is smaller than the logging interval.*",
    ".*is_gradient_checkpointing.*",
    ".*defined a `validation_step`.*",
    ".*using multiple devices.*",
    ".*LeafSpec.*",
    ".*in eval mode at the start of training.*",
    ".*LightningCLI's args parameter.*",
)


class _Parser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser, with errors of one line."""


class _SaveConfigWithLogs(SaveConfigCallback):
    """Keeps the resolved configuration beside a run's logs; a run without logs leaves nothing behind."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it, if there is a place for it."""
        if trainer.logger is not None:
            super().setup(trainer, pl_module, stage)


class PragCLI(LightningCLI):
    """LightningCLI with the method's stages as subcommands."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Methods of `PragTrainer`, and those of their arguments that are no options of the same name."""
        stages = ("augment", "fit", "test", "predict", "ask", "plan", "check", "export", "report")
        own = {"ask": {"question", "json"}}
        return {stage: {"model", "datamodule"} | own.get(stage, set()) for stage in stages}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if subcommand == "ask":
            parser.add_argument("question", nargs="?", help="Unset: typed at a prompt, or lines of the standard input.")
            parser.add_argument("--json", action="store_true", help="Print a line of JSON an answer, for programs.")
            self._subcommand_method_arguments["ask"] += ["question", "json"]
        return parser

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

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Give a run one TensorBoard directory, named so that a person knows it; below
        trainer.default_root_dir, or logs/."""
        if self._get(self.config_init, "trainer.logger") in (None, True) and self.subcommand in ("fit", "test"):
            method = f"-{self.model.inference_method}" if self.subcommand == "test" else ""
            run = f"{self.subcommand}{method}-{datetime.now():%Y%m%d-%H%M%S}"
            root = self._get(self.config_init, "trainer.default_root_dir") or "logs"
            kwargs["logger"] = TensorBoardLogger(
                root, name=f"tensorboard/{self.datamodule.dataset}", version=run, default_hp_metric=False
            )
        elif self.subcommand not in ("fit", "test"):
            kwargs["logger"] = False
        return super().instantiate_trainer(**kwargs)


def run_stage(args: list[str]) -> None:
    """Do what a command line asks for.

    Raises:
        Terminated: after SIGTERM.
    """
    try:
        _cli(with_bases(args))
    except SIGTERMException as error:
        raise Terminated from error


def experiment(config: str, *overrides: str) -> tuple[PragTrainer, PragModule, PragDataModule]:
    """What a configuration file describes, for use from Python: `experiment("configs/demo.yaml", "--data.sample=8")`.

    Args:
        config: The file.
        overrides: Settings as on the command line.

    Raises:
        InputError: if the file is missing or no configuration.
    """
    cli = _cli(with_bases(["--config", config, *overrides]), run=False)
    return cast(PragTrainer, cli.trainer), cli.model, cli.datamodule


def _cli(args: list[str], *, run: bool = True) -> PragCLI:
    for message in _QUIET:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    return PragCLI(
        PragModule,
        PragDataModule,
        trainer_class=PragTrainer,
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=42,
        auto_configure_optimizers=False,
        save_config_callback=_SaveConfigWithLogs,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"prog": "prag", "description": DESCRIPTION},
        args=args,
        run=run,
    )
