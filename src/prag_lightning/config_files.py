"""Configuration files that build on others, so that each states only what differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from prag_lightning.errors import InputError

_FLAGS = ("--config", "-c")


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
    return expanded


def _chain(path: Path, above: tuple[Path, ...]) -> list[Path]:
    if path.resolve() in above:
        raise InputError("the configuration builds on itself", where=str(path), mend="Take it out of its own 'base'")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read the configuration: {error.strerror}",
            where=str(path),
            mend="Give an existing file to --config",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"the configuration is not YAML: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise InputError("the configuration holds no settings", where=str(path), mend="Start from configs/demo.yaml")
    base = data.get("base") or []
    chain: list[Path] = []
    for name in [base] if isinstance(base, str) else base:
        chain += _chain(path.parent / str(name), (*above, path.resolve()))
    return [*chain, path]
