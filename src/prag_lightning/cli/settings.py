"""The settings of an experiment from configuration files and command line, without Lightning."""

from __future__ import annotations

import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from prag_lightning.cli.config_files import is_warmup, with_bases, with_store
from prag_lightning.cli.front import COMMANDS
from prag_lightning.cli.parser import HelpFormatter, OneLineErrors, add_files, show_usual
from prag_lightning.cli.usual import USUAL
from prag_lightning.errors import InputError
from prag_lightning.pipeline.settings import DataSettings, ModelSettings

if TYPE_CHECKING:
    from prag_lightning.llm.compute import Compute
    from prag_lightning.memory.memory import Memory
    from prag_lightning.pipeline.pipeline import Pipeline

STORE = "memory"
"""The store of commands that are given neither one nor a configuration."""
TRAINER_SETTINGS = (
    "accelerator strategy devices num_nodes precision logger callbacks fast_dev_run max_epochs min_epochs max_steps "
    "min_steps max_time limit_train_batches limit_val_batches limit_test_batches limit_predict_batches "
    "overfit_batches val_check_interval check_val_every_n_epoch num_sanity_val_steps log_every_n_steps "
    "enable_checkpointing enable_progress_bar enable_model_summary accumulate_grad_batches gradient_clip_val "
    "gradient_clip_algorithm deterministic benchmark inference_mode use_distributed_sampler profiler detect_anomaly "
    "barebones plugins sync_batchnorm reload_dataloaders_every_n_epochs default_root_dir enable_autolog_hparams "
    "model_registry"
).split()
"""Of Lightning's trainer; these commands use accelerator, devices and precision, and take the others as they come."""


class Parser(OneLineErrors, ArgumentParser):
    """jsonargparse's parser, with errors of one line."""


def experiment_parser(command: str, description: str = "") -> Parser:
    """A parser of the settings of an experiment."""
    parser = Parser(prog=f"prag {command}", description=description, formatter_class=HelpFormatter)
    add_files(parser)
    parser.add_argument("--seed_everything", type=bool | int, default=42, help="Of commands that train.")
    parser.add_class_arguments(ModelSettings, "model")
    parser.add_class_arguments(DataSettings, "data")
    parser.link_arguments("model.model_name", "data.model_name")
    add_trainer(parser, shares=command in ("augment", "fit", "test", "predict"))
    return parser


def add_trainer(parser: ArgumentParser, *, shares: bool = False, show: Sequence[str] = TRAINER_SETTINGS) -> None:
    """Take the settings of a trainer.

    Args:
        parser: Takes them.
        shares: Whether several devices share the work of its command.
        show: Those that its help has.
    """
    one = "This command takes one; a list of one number says which GPU."
    helps = {
        "accelerator": "cpu, gpu, mps, or auto: the best there is.",
        "devices": "How many share the work, or a list of their numbers." if shares else one,
        "precision": "32-true, bf16-true, 16-true, bf16-mixed or 16-mixed.",
    }
    for name in TRAINER_SETTINGS:
        default = "auto" if name in ("accelerator", "devices") else None
        text = helps.get(name, "See prag fit --help-all.") if name in show else SUPPRESS
        parser.add_argument(f"--trainer.{name}", type=Any, default=default, help=text)


def parse(parser: Parser, args: Sequence[str]) -> Namespace:
    """The settings of a command line, those of classes made into objects.

    Raises:
        InputError: for a file, a setting or a value that cannot be.
    """
    _prepare_help(parser, args)
    command = parser.prog.removeprefix("prag ")
    has_store = any(action.dest == "store" for action in parser._actions)
    if not {"-h", "--help", "--help-all"} & set(args):
        args = with_store(args, STORE if has_store else None, keep=has_store, new=command == "sync")
    args = with_bases(["--help" if arg == "--help-all" else arg for arg in args])
    is_warmup(command, args)
    parser.check_files(args)
    settings: Namespace = parser.instantiate(parser.parse_args(args))
    return settings


def print_help(command: str) -> None:
    """Print the help of a command that runs on a trainer with its usual settings, and without Lightning."""
    parser = experiment_parser(command, COMMANDS[command].help)
    _prepare_help(parser, ["--help"])
    parser.print_help()


def _prepare_help(parser: Parser, args: Sequence[str]) -> None:
    command = parser.prog.removeprefix("prag ")
    parser.usage = f"{parser.prog} {COMMANDS[command].example} [--NAME VALUE ...]"
    if "--help-all" not in args:
        show_usual(parser, USUAL[command].split())


def pipeline_of(settings: Namespace, command: str) -> Pipeline:
    """The experiment that settings describe, on one device."""
    from prag_lightning.pipeline.data import ExperimentData
    from prag_lightning.pipeline.pipeline import Pipeline

    return Pipeline(settings.model, ExperimentData(settings.data), compute_of(settings.trainer, command))


def memory_of(settings: Namespace, command: str) -> Memory:
    """The store that settings name, and the pipeline that it works with.

    Raises:
        InputError: if something else stands there, or the settings are others than it was made with.
    """
    from prag_lightning.llm.compute import precision_name
    from prag_lightning.memory.memory import Memory
    from prag_lightning.memory.settings import CONFIG_FILE, check_place, check_settings

    folder = Path(settings.store)
    check_place(folder)
    trainer = {"precision": precision_name(settings.trainer.precision)}
    if (folder / CONFIG_FILE).exists():
        check_settings(folder, settings.model, settings.data, trainer if command == "sync" else {})
    return Memory(folder, pipeline_of(settings, command), trainer)


def open_memory(store: Path, args: Sequence[str]) -> Memory:
    """A store, for use from Python; it is made with the first documents, where it is not yet.

    Args:
        store: The folder.
        args: Settings as on the command line.

    Raises:
        InputError: as for a command.
    """
    parser = experiment_parser("sync")
    parser.add_argument("--store", type=str)
    return memory_of(parse(parser, [f"--store={store}", *args]), "sync")


def load_pipeline(config: str, *overrides: str) -> Pipeline:
    """What a configuration file describes, for use from Python: `load_pipeline("configs/demo.yaml", "--data.topk=2")`.

    Args:
        config: The file.
        overrides: Settings as on the command line.

    Raises:
        InputError: if the file is missing or no configuration.
    """
    return pipeline_of(parse(experiment_parser("ask"), ["--config", config, *overrides]), "ask")


def compute_of(trainer: Namespace, command: str) -> Compute:
    """The one device that a command works on, as a trainer's settings name it; of several it takes the first, and says
    so.

    Raises:
        InputError: if there is no such device.
    """
    from prag_lightning.llm.compute import Compute

    index, count = _device(trainer.devices)
    count *= int(trainer.num_nodes or 1)
    if count > 1:
        print(f"prag {command} takes one device: {count} are for augment, fit, test and predict", file=sys.stderr)
    return Compute.choose(str(trainer.accelerator), index, trainer.precision)


def _device(devices: Any) -> tuple[int, int]:
    """The number of the first device, and how many are meant; a number counts them, a list or a comma names them."""
    if isinstance(devices, str) and "," in devices:
        devices = [part for part in devices.split(",") if part.strip()]
    try:
        if isinstance(devices, list):
            return int(devices[0]), len(devices)
        count = 1 if devices in ("auto", None) else int(devices)
    except (ValueError, TypeError, IndexError):
        count = 0
    if count == 0 or count < -1:
        raise InputError(f"devices is {devices!r}", where="trainer.devices", hint="Give a number, a list, or auto")
    return 0, max(1, count)
