"""Files: written whole or not at all, read in whatever encoding of Unicode they are saved in."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import platform
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import psutil
import yaml

from prag_lightning.errors import InputError
from prag_lightning.records import Json
from prag_lightning.resources import looked_for

TEMP_SUFFIX = ".unfinished"
"""Ends the name of work in progress."""
_NUMBERS = itertools.count()
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_NAME = 200
"""Bytes of a part of a path: what is written beside it has some more, and 255 is all that file systems take."""
READ_ERRORS = (OSError, EOFError, zlib.error)
"""What reading a file raises that is missing or cut short, gzipped or not."""
_GZIP = b"\x1f\x8b"
_FOREIGN = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"(\xb5/\xfd": "a zstd file",
}
"""First bytes of what has to be unpacked by another program."""
_LONGEST_START = 8


def temp_path(path: Path) -> Path:
    """A name beside `path` for work in progress: this process's own; once that is gone, `remove_stale_temp` deletes
    it."""
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}-{next(_NUMBERS)}{TEMP_SUFFIX}")


def remove_stale_temp(folder: Path, name: str = "*") -> None:
    """Delete what killed processes of this machine left unfinished in `folder` for the path of that name."""
    for path in folder.glob(f".{name}.{platform.node()}-*{TEMP_SUFFIX}"):
        pid = path.name.removesuffix(TEMP_SUFFIX).split("-")[-2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def path_in_errors(path: Path) -> Iterator[None]:
    """Let errors of the disk name `path`, which writing does not, and not the work in progress beside it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it into it: readers see the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temp(path.parent, path.name)
    beside = temp_path(path)
    try:
        with path_in_errors(path), beside.open("x", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with path_in_errors(path):
            beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Json) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=4, ensure_ascii=False) + "\n")


def parse_json(text: str) -> Json:
    """Parse JSON; half a character (a lone surrogate), which JSON may hold and no file can, becomes a question mark.

    Raises:
        ValueError: if it is no JSON, or nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if _HALF_CHARACTER.search(text):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def unzipped(file: io.BufferedReader) -> io.BufferedReader:
    """The content of a file that may be gzipped, which its first bytes tell, whatever its name.

    Raises:
        ValueError: if it is of another kind that has to be unpacked.
    """
    start = file.peek(_LONGEST_START)
    for magic, kind in _FOREIGN.items():
        if start.startswith(magic):
            raise ValueError(f"it is {kind}")
    return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file))) if start.startswith(_GZIP) else file


def text_encoding(start: bytes) -> str:
    """The encoding of a text, told by its first four bytes: by a byte order mark, or where the zeros of UTF-16 and
    UTF-32 stand; else UTF-8."""
    return json.detect_encoding(start)


def decode(content: bytes) -> str:
    """Decode a text; see `text_encoding`.

    Raises:
        ValueError: naming the byte that is in no such encoding, and its line.
    """
    encoding = text_encoding(content[:4])
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        name = encoding.removesuffix("-sig").upper()
        raise ValueError(f"it is not {name}: byte 0x{content[error.start]:02x} in line {line}") from error


def read_text(path: Path, what: str, hint: str) -> str:
    """Read a text file, gzipped or not.

    Raises:
        InputError: if it is missing or no text; `what` names its purpose and `hint` says what to do.
    """
    try:
        with path.open("rb") as file:
            content = unzipped(file).read()
    except READ_ERRORS as error:
        raise InputError(f"cannot read the {what}: {read_reason(error)}", where=looked_for(path), hint=hint) from error
    except ValueError as error:
        raise InputError(f"cannot read the {what}: {error}", where=str(path), hint="Unpack it") from error
    try:
        return decode(content)
    except ValueError as error:
        raise InputError(f"cannot read the {what}: {error}", where=str(path), hint="Save it as UTF-8") from error


def read_reason(error: BaseException) -> str:
    """What one of `READ_ERRORS` says."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def read_json(path: Path, hint: str) -> Json:
    """Read a JSON file.

    Raises:
        InputError: if it is missing, or where it stops being JSON; `hint` says what to do.
    """
    try:
        return parse_json(read_text(path, "file", hint))
    except ValueError as error:
        raise InputError(f"the file is not JSON: {error}", where=str(path), hint=hint) from error


def read_yaml(path: Path, what: str, hint: str) -> dict[str, Json]:
    """Read a YAML file that holds a mapping; no tag in it makes an object.

    Raises:
        InputError: if it is missing, no YAML, or holds something else; `what` names its purpose and `hint` says what
            to do.
    """
    text = read_text(path, what, hint)
    try:
        data = yaml.safe_load(text)
    except Exception as error:  # PyYAML's own, or for a scalar such as 2001-99-99 whatever its conversion raises
        raise InputError(f"the {what} is not YAML: {error}", where=str(path), hint=hint) from error
    if not isinstance(data, dict):
        raise InputError(f"the {what} holds no settings", where=str(path), hint=hint)
    return data


def visible(folder: Path, pattern: str) -> list[Path]:
    """What matches in a folder, sorted, but for what is hidden, or in a hidden folder: files of editors, notebooks and
    macOS (`._name`)."""
    found = sorted(folder.glob(pattern))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def safe_name(name: str, what: str) -> str:
    """A name from data or settings, fit to be a part of a path.

    Raises:
        InputError: if it is empty, hidden, or would lead elsewhere.
    """
    stray = any(char in "/\\" or not char.isprintable() for char in name)
    if not name or name.startswith(".") or stray or len(name.encode("utf-8", "replace")) > _LONGEST_NAME:
        raise InputError(
            f"{name!r} cannot be a part of a path",
            where=what,
            hint="Rename it: no slashes, no control characters, no leading dot, no more than 200 bytes",
        )
    return name
