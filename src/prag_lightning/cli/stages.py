"""The commands that run on Lightning's Trainer: augment, fit, test, predict, warmup-data."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from prag_lightning.cli.config_files import is_warmup, with_bases, with_store
from prag_lightning.cli.front import COMMANDS
from prag_lightning.cli.quiet import quiet_libraries
from prag_lightning.cli.settings import print_help
from prag_lightning.cli.usual import USUAL
from prag_lightning.errors import Terminated

if TYPE_CHECKING:
    from prag_lightning.lightning.datamodule import PragDataModule
    from prag_lightning.lightning.module import PragModule
    from prag_lightning.lightning.trainer import PragTrainer


def run_stage(command: str, args: list[str]) -> None:
    """Run one of them.

    Raises:
        PragError: whatever the stage raises.
        Terminated: after SIGTERM.
    """
    if {"-h", "--help"} & set(args) and command in USUAL:
        print_help(command)
        return
    args = with_bases(["--help" if arg == "--help-all" else arg for arg in with_store(args)])
    warmup = is_warmup(command, args)
    quiet_libraries()
    from lightning.pytorch.utilities.exceptions import SIGTERMException
    from transformers.utils.logging import disable_progress_bar

    from prag_lightning.cli.lightning_cli import PragCLI, WarmupCLI

    quiet_libraries()
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        (WarmupCLI if warmup else PragCLI)(command, args, COMMANDS[command].help).run_command()
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
    quiet_libraries()
    from prag_lightning.cli.lightning_cli import PragCLI

    quiet_libraries()
    cli = PragCLI("experiment", with_bases(["--config", config, *overrides]))
    return cast("PragTrainer", cli.trainer), cli.model, cli.datamodule
