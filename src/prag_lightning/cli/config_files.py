"""Configuration files that build on others, so that each states only what differs."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from prag_lightning.errors import InputError
from prag_lightning.files import read_yaml
from prag_lightning.memory.settings import CONFIG_FILE, PROMPTS_FILE, arguments, config_of
from prag_lightning.records import Json
from prag_lightning.resources import AUGMENTED, locate

_FLAGS = ("--config", "-c")
_EXPERIMENTS = ("--model.model_name", "--data.corpus", "--data.retriever")
"""Settings that name an experiment where there is no configuration."""
_WARMUP_STAGES = ("warmup-data", "fit")
_MOST_FILES = 100
DOCUMENTS = "configs/documents.yaml"
"""What stores are made with where no configuration says otherwise."""
_INPUTS = ("model_name", "augment_model", "base_weight", "data_path", "corpus", "prompts")
"""Settings that may be paths of what is there already; all others are names, or places of outputs."""


def with_bases(args: Sequence[str]) -> list[str]:
    """The command line with each configuration file preceded by those that its key `base` names, relative to it.

    Raises:
        InputError: if a file is missing, is not YAML, or builds on itself.
    """
    expanded: list[str] = []
    waiting = list(args)
    while waiting:
        arg = waiting.pop(0)
        flag, equals, value = arg.partition("=")
        if flag not in _FLAGS or (not equals and not waiting):
            expanded.append(arg)
            continue
        for path in _chain(Path(value if equals else waiting.pop(0)), ()):
            expanded += ["--config", str(path)]
            if len(expanded) > 2 * _MOST_FILES + len(args):
                raise InputError(
                    f"the configuration builds on more than {_MOST_FILES} files",
                    where=value or str(path),
                    hint="Name each once under 'base'",
                )
    return expanded


def with_store(args: Sequence[str], default: str | None = None, *, keep: bool = False, new: bool = False) -> list[str]:
    """The command line with the store that `--store` names turned into its configuration, before all others, and into
    the places of what it holds.

    Args:
        args: The command line.
        default: The store where none is named, and no experiment; one that may be made is this whatever is named.
        keep: Leave the option in, for a parser that has it.
        new: Whether the store may still have to be made, by the configuration that is given or else by the default.

    Raises:
        InputError: if there is no such store.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--store", type=Path)
    found, others = parser.parse_known_args(args)
    given = any(arg.partition("=")[0] in _FLAGS for arg in others)
    stands_alone = given or any(arg.partition("=")[0] in _EXPERIMENTS for arg in others)
    if found.store is None and default is not None and (new or not stands_alone):
        found.store = Path(default)
    if found.store is None:
        return list(args)
    own = [f"--store={found.store}"] if keep else []
    if new and not (found.store / CONFIG_FILE).exists():
        return [*([] if given else ["--config", DOCUMENTS]), *others, *arguments(found.store), *own]
    prompts = f"--data.prompts={found.store / PROMPTS_FILE}"
    return ["--config", str(config_of(found.store)), *others, *arguments(found.store), prompts, *own]


def config_files(args: Sequence[str]) -> list[Path]:
    """The configuration files of a command line, as `with_bases` gives it."""
    return [Path(value) for flag, value in pairwise(args) if flag == "--config"]


def read_config(path: Path) -> dict[str, Json]:
    """A configuration file, whose inputs are found wherever the command is run: see `resources.locate`.

    Raises:
        InputError: if it is missing or no YAML.
    """
    data = read_yaml(path, "configuration", "Give an existing file to --config, such as configs/demo.yaml")
    located: dict[str, Json] = _with_inputs_located(data, path.parent)
    return located


def _with_inputs_located(value: Json, folder: Path, name: str = "") -> Json:
    if isinstance(value, dict):
        return {key: _with_inputs_located(item, folder, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_inputs_located(item, folder, name) for item in value]
    is_path = name in _INPUTS and isinstance(value, str) and (name, value) != ("base_weight", "warmup")
    is_path = is_path or (name, value) == ("augment_root", AUGMENTED)
    return str(locate(value, folder)) if is_path else value


def _chain(path: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    path = locate(path)
    if path.resolve() in above:
        raise InputError("the configuration builds on itself", where=str(path), hint="Take it out of its own 'base'")
    data = read_yaml(path, "configuration", "Give an existing file to --config, such as configs/demo.yaml")
    base = data.get("base") or []
    names = [base] if isinstance(base, str) else base
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("'base' is no file's name", where=str(path), hint="Give a name or a list of names")
    for name in names:
        yield from _chain(path.parent / name, (*above, path.resolve()))
    yield path


def is_warmup(command: str, args: Sequence[str]) -> bool:
    """Whether a command is one about a warm-up: its configuration gives the model by a class_path.

    Args:
        command: Its name.
        args: What follows it, as `with_bases` gives it.

    Raises:
        InputError: for a stage that a warm-up does not have, or that only a warm-up has.
    """
    files = config_files(args)
    models = [(path, read_yaml(path, "configuration", "").get("model")) for path in files]
    described = [path for path, model in models if isinstance(model, dict) and "class_path" in model]
    if described and command not in _WARMUP_STAGES:
        raise InputError(
            f"a warm-up has no stage {command!r}",
            where=str(described[0]),
            hint=f"It has {' and '.join(_WARMUP_STAGES)}; for others give the experiment's own configuration, with "
            "--model.base_weight warmup",
        )
    if files and not described and command == "warmup-data":
        raise InputError(
            "the configuration describes no warm-up", where=str(files[-1]), hint="Give one like configs/warmup.yaml"
        )
    return bool(described) or command == "warmup-data"
