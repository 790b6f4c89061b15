"""What is written where the user says, and cannot be."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prag_lightning.errors import InputError, PragError

_WRONG_PLACE = (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


@contextmanager
def writing(what: str, path: Path, mend: str) -> Iterator[None]:
    """Tell what cannot be written, where, and why.

    Raises:
        InputError: if the place is wrong.
        PragError: if it is another failure, such as a full disk.
    """
    try:
        yield
    except OSError as error:
        kind = InputError if error.errno in _WRONG_PLACE else PragError
        raise kind(f"cannot write {what}: {error.strerror or error}", where=str(path), mend=mend) from error
