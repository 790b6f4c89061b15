"""The libraries of the extra `documents`, imported when a file needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from prag_lightning.errors import InputError

EXTRA = "pip install 'prag-lightning[documents]'"


def library(name: str, path: Path) -> Any:
    """A module of such a library.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        needed = name.partition(".")[0]
        raise InputError(f"{path.suffix.lower()} needs {needed}, which is not installed", hint=EXTRA) from error


@contextmanager
def broken(what: str) -> Iterator[None]:
    """Name a file that a library cannot make sense of; a broken one can raise anything there.

    Raises:
        InputError: for whatever is raised but that.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the {what} is broken: {type(error).__name__} {error}".rstrip()) from error
