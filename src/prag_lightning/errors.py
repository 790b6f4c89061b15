"""The one family of errors: each says what is wrong, where, and what to do about it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GO_ON = "run the same command again: what is finished is kept"
_HINTS = {
    errno.ENOSPC: f"Make room on the disk and {_GO_ON}",
    errno.EDQUOT: f"Make room in your quota and {_GO_ON}",
    errno.EFBIG: f"Lift the limit on the size of files and {_GO_ON}",
    errno.EROFS: "Name a place that can be written to",
    errno.EACCES: "Change its permissions, or name another place",
    errno.EPERM: "Change its permissions, or name another place",
    errno.ENOENT: f"It is not there, or no longer: put it back and {_GO_ON}",
    errno.ESTALE: f"It is no longer there: put it back and {_GO_ON}",
    errno.ENOTDIR: "A file stands where a folder should: move it away",
    errno.EEXIST: "It is in the way: move it away",
    errno.EISDIR: "A folder stands where a file should: move it away",
    errno.ENAMETOOLONG: "Choose shorter names",
    errno.EMFILE: f"Raise the limit on open files (ulimit -n) and {_GO_ON}",
    errno.EIO: f"Look after the disk and {_GO_ON}",
}
_WRONG_PLACE = (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
_LONGEST = 1000
"""Characters of a message's part: a value of megabytes that was found is of no use to a reader."""


class PragError(Exception):
    """A failure while running: what went wrong, where, and what to do about it.

    Args:
        what: What is wrong, in a few words, quoting the value that was found.
        where: The file, row, key or setting it was found in.
        hint: What the reader can do, as a sentence.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = (shown(part) for part in (what, where, hint))
        message = self.what + (f" ({self.where})" if where else "")
        if hint:
            message += f". {self.hint}" if self.hint.endswith("?") else f". {self.hint.rstrip('.')}."
        super().__init__(message)


class InputError(PragError):
    """A mistake in what the user gave: a setting, a path or a file's content. Ends a command with exit code 2."""

    exit_code = 2


class Terminated(PragError):
    """The process was asked to end."""

    exit_code = 143

    def __init__(self) -> None:
        super().__init__("terminated", hint="Run the same command again to go on from here")


def check_least(settings: object, group: str, least: int, *names: str) -> None:
    """See that settings are no smaller than they may be; what is no number passes.

    Args:
        settings: Has them as attributes.
        group: What stands before their names in a configuration.
        least: The smallest value.
        names: Theirs.

    Raises:
        InputError: naming the first that is smaller.
    """
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, (int, float)) and value < least:
            raise InputError(f"{name} is {value}", where=f"{group}.{name}", hint=f"Give {least} or more")


def print_error(message: str) -> None:
    """Print an error to the standard error, in the shape of all."""
    print(f"prag: error: {message}", file=sys.stderr)


def shown(text: str) -> str:
    """A text as a terminal may be given it: of one line, without control characters, the middle of a long one left
    out."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.split()))


def explained(error: BaseException) -> PragError:
    """Any other exception in the shape of ours: a disk that is full or gone, or a mistake of this program's own."""
    if isinstance(error, OSError) and error.strerror:
        where = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        hint = _HINTS.get(error.errno or 0, "Set PRAG_DEBUG=1 to see where")
        return PragError(error.strerror, where=where or "while reading or writing", hint=hint)
    return PragError(f"{type(error).__name__}: {error}".rstrip(": "), hint="Set PRAG_DEBUG=1 to see where")


@contextmanager
def output_errors(what: str, path: Path, hint: str) -> Iterator[None]:
    """Tell what cannot be written, where, and why.

    Raises:
        InputError: if the place is wrong.
        PragError: if it is another failure, such as a full disk.
    """
    try:
        yield
    except OSError as error:
        kind = InputError if error.errno in _WRONG_PLACE else PragError
        raise kind(f"cannot write {what}: {error.strerror or error}", where=str(path), hint=hint) from error
