"""The `prag` command: every stage from one configuration file."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from argparse import RawDescriptionHelpFormatter
from datetime import datetime
from typing import Any, NoReturn

from jsonargparse import DefaultHelpFormatter
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from transformers.utils.logging import disable_progress_bar

from prag_lightning.config_files import with_bases
from prag_lightning.datamodule import PragDataModule
from prag_lightning.errors import PragError
from prag_lightning.module import PragModule
from prag_lightning.trainer import TRAINER_DEFAULTS, PragTrainer

DESCRIPTION = """Parametric RAG: passages become LoRA adapters, questions are answered from weights.

The stages, in order, each with the same configuration file:
  prag augment --config configs/demo.yaml   the LLM rewrites passages and asks itself questions about them
  prag fit     --config configs/demo.yaml   passages become adapters
  prag test    --config configs/demo.yaml   questions are answered and scored
Any value of the file can be overridden, as in: prag test --config configs/demo.yaml --model.inference_method combine
"""

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


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """jsonargparse's help, with the line breaks of descriptions kept."""


class _Parser(LightningArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, *_: Any, **__: Any) -> NoReturn:
        """Print the message in the shape of all errors, and end with exit code 2."""
        _print_error(" ".join(message.split()) + " (see --help)")
        sys.exit(2)


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
        """Methods of `PragTrainer`, and those of their arguments that are not set on the command line."""
        return {stage: {"model", "datamodule"} for stage in ("augment", "fit", "test", "predict", "report")}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """As Lightning's, with errors of one line."""
        kwargs |= {"dump_header": ["prag-lightning"], "formatter_class": _HelpFormatter}
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
        """Give a run one TensorBoard directory under logs/, named so that a person knows it."""
        if self._get(self.config_init, "trainer.logger") in (None, True) and self.subcommand in ("fit", "test"):
            method = f"-{self.model.inference_method}" if self.subcommand == "test" else ""
            run = f"{self.subcommand}{method}-{datetime.now():%Y%m%d-%H%M%S}"
            kwargs["logger"] = TensorBoardLogger("logs", name=f"tensorboard/{self.datamodule.dataset}", version=run)
        elif self.subcommand not in ("fit", "test"):
            kwargs["logger"] = False
        return super().instantiate_trainer(**kwargs)


def main(args: list[str] | None = None) -> int:
    """Run `prag`; gives 0, 2 for the user's mistake, 1 for a failure, 130 and 143 when interrupted and terminated."""
    for message in _QUIET:
        warnings.filterwarnings("ignore", message)
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        PragCLI(
            PragModule,
            PragDataModule,
            trainer_class=PragTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=42,
            auto_configure_optimizers=False,
            save_config_callback=_SaveConfigWithLogs,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "prag", "description": DESCRIPTION},
            args=with_bases(sys.argv[1:] if args is None else args),
        )
    except PragError as error:
        return _failed(error, error.exit_code, str(error))
    except SIGTERMException as error:
        return _failed(error, 143, "terminated. Run the same command again to go on from here")
    except (KeyboardInterrupt, SystemExit) as error:
        if not isinstance(error, KeyboardInterrupt) and not isinstance(error.__context__, KeyboardInterrupt):
            raise
        return _failed(error, 130, "interrupted. Run the same command again to go on from here")
    except OSError as error:
        return _failed(error, 1, f"{error.strerror or error} ({error.filename or 'while writing or reading'})")
    except Exception as error:
        reason = " ".join(str(error).split())
        return _failed(error, 1, f"{type(error).__name__}: {reason}. Set PRAG_DEBUG=1 to see where")
    return 0


def _failed(error: BaseException, exit_code: int, message: str) -> int:
    if os.environ.get("PRAG_DEBUG") == "1":
        traceback.print_exception(error)
    _print_error(message)
    return exit_code


def _print_error(message: str) -> None:
    print(f"prag: error: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
