"""The stages of the `prag` command: augment, fit, test, predict, ask, plan, check, export, report."""

from __future__ import annotations

import logging
import warnings
from typing import Any, cast

from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import SIGTERMException
from transformers.utils.logging import disable_progress_bar

from prag_lightning.cli.config_files import is_warmup, with_bases
from prag_lightning.cli.lightning_cli import SaveConfigWithLogs, StageCLI
from prag_lightning.cli.parser import DESCRIPTION
from prag_lightning.errors import PragError, Terminated
from prag_lightning.lightning.datamodule import PragDataModule
from prag_lightning.lightning.module import PragModule
from prag_lightning.lightning.trainer import TRAINER_DEFAULTS, PragTrainer

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


class PragCLI(StageCLI):
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

    def logged_run(self) -> tuple[str, str] | None:
        """Encoding and answering are logged, the latter under its method's name in paths."""
        if self.subcommand not in ("fit", "test"):
            return None
        method = f"-{self.model.method}" if self.subcommand == "test" else ""
        return self.datamodule.dataset, f"{self.subcommand}{method}"


def run_stage(args: list[str]) -> None:
    """Do what a command line asks for.

    Raises:
        PragError: whatever the stage raises.
        Terminated: after SIGTERM.
    """
    args = with_bases(args)
    try:
        if is_warmup(args):
            _run_warmup(args)
        else:
            _experiment(args)
    except SIGTERMException as error:
        raise Terminated from error
    except ValueError as error:
        if isinstance(error.__cause__, PragError):  # jsonargparse wraps what a class given by class_path raises
            raise error.__cause__ from None
        raise


def experiment(config: str, *overrides: str) -> tuple[PragTrainer, PragModule, PragDataModule]:
    """What a configuration file describes, for use from Python: `experiment("configs/demo.yaml", "--data.sample=8")`.

    Args:
        config: The file.
        overrides: Settings as on the command line.

    Raises:
        InputError: if the file is missing or no configuration.
    """
    cli = _experiment(with_bases(["--config", config, *overrides]), run=False)
    return cast(PragTrainer, cli.trainer), cli.model, cli.datamodule


def _experiment(args: list[str], *, run: bool = True) -> PragCLI:
    shared = _shared(args)
    return PragCLI(
        PragModule, PragDataModule, trainer_class=PragTrainer, trainer_defaults=TRAINER_DEFAULTS, run=run, **shared
    )


def _run_warmup(args: list[str]) -> None:
    from prag_lightning.cli.warmup import WarmupCLI
    from prag_lightning.lightning.warmup.datamodule import WarmupDataModule
    from prag_lightning.lightning.warmup.module import WarmupModule
    from prag_lightning.lightning.warmup.trainer import WARMUP_TRAINER_DEFAULTS, WarmupTrainer

    WarmupCLI(
        WarmupModule,
        WarmupDataModule,
        trainer_class=WarmupTrainer,
        trainer_defaults=WARMUP_TRAINER_DEFAULTS,
        subclass_mode_model=True,
        subclass_mode_data=True,
        **_shared([args[0].replace("-", "_"), *args[1:]]),
    )


def _shared(args: list[str]) -> dict[str, Any]:
    """What every command line is run with, once the libraries below are quiet."""
    for message in _QUIET:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    return {
        "seed_everything_default": 42,
        "auto_configure_optimizers": False,
        "save_config_callback": SaveConfigWithLogs,
        "save_config_kwargs": {"overwrite": True},
        "parser_kwargs": {"prog": "prag", "description": DESCRIPTION},
        "args": args,
    }
