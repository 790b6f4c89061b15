"""The documents of a folder, and what became of each of its files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from prag_lightning.data.documents.document import Document, Fault
from prag_lightning.data.documents.docx import read_docx
from prag_lightning.data.documents.html import read_html
from prag_lightning.data.documents.markdown import read_markdown
from prag_lightning.data.documents.pdf import read_pdf
from prag_lightning.data.documents.plain import read_json_lines, read_plain, read_table
from prag_lightning.errors import InputError, shown
from prag_lightning.files import READ_ERRORS, read_reason
from prag_lightning.records import nfc, whole_characters

LARGEST_FILE = 200_000_000
"""Bytes; a larger one is no document that a person wrote, and it is read into memory."""
_READERS: dict[str, Callable[[Path, str], Iterator[Document | Fault]]] = {
    ".txt": read_plain,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".csv": read_table,
    ".jsonl": read_json_lines,
}
SUFFIXES = tuple(_READERS)
_NAMES_SHOWN = 20


class DocumentReader:
    """Reads the documents of a folder, searched through and through; what cannot be read is named, and the others go
    on.

    Args:
        path: The folder, or one file.
        without: A folder that is left out, wherever it stands.

    Attributes:
        files: Those that are to be read, in order.
        read: Names of the files that were read, within the folder.
        skipped: By reason, names of the files, and of rows in them, that were passed over knowingly.
        failed: By reason, names of those that should have been read and could not.

    Raises:
        InputError: if there is no such folder or file.
    """

    def __init__(self, path: Path, without: Path | None = None) -> None:
        self.path = path
        self.files: list[Path] = []
        self.read: list[str] = []
        self.skipped: dict[str, list[str]] = {}
        self.failed: dict[str, list[str]] = {}
        self._file_of: dict[str, Path] = {}
        self._without = without and without.resolve()
        if not path.exists():
            raise InputError("there are no documents", where=str(path), hint="Give a folder or file that exists")
        for file in self._walk() if path.is_dir() else [path]:
            reason = self._reason(file)
            if reason is None:
                self.files.append(file)
            else:
                self.skipped.setdefault(reason, []).append(self.name(file))

    def __iter__(self) -> Iterator[Document]:
        """The documents, file by file."""
        for file in self.files:
            yield from self.of_file(file)

    def of_file(self, file: Path) -> Iterator[Document]:
        """The documents of one of the `files`, each of which has text; what it holds is noted in `read`, `skipped` and
        `failed`."""
        name, documents, faults = self.name(file), 0, 0
        seen: set[str] = set()
        try:
            for found in _READERS[file.suffix.lower()](file, name):
                if isinstance(found, Fault):
                    faults += 1
                    self._note(self.skipped if found.skipped else self.failed, found.reason, f"{name}, {found.part}")
                elif found.id in seen or self._file_of.setdefault(found.id, file) != file:
                    faults += 1
                    self._note(self.skipped, "its id is that of an earlier document", found.id)
                elif found.blocks:
                    documents += 1
                    seen.add(found.id)
                    yield found
        except InputError as error:
            self._note(self.failed, f"{error.what}: {error.hint}" if error.hint else error.what, name)
        except READ_ERRORS as error:
            self._note(self.failed, f"cannot be read, {read_reason(error)}", name)
        else:
            if documents:
                self.read.append(name)
            elif not faults:
                self._note(self.skipped, "without text", name)

    def report(self) -> None:
        """Say on the standard error what became of every file."""
        print(f"read {len(self.read)} files: {_listed(self.read)}" if self.read else "read no file", file=sys.stderr)
        for became, by_reason in (("skipped", self.skipped), ("failed", self.failed)):
            for reason, names in by_reason.items():
                print(f"{became} {len(names)}, {shown(reason)}: {_listed(names)}", file=sys.stderr)

    def name(self, file: Path) -> str:
        """A file's name within the folder, with / on every system and composed characters; the documents' ids begin
        with it."""
        return whole_characters(nfc(file.name if file == self.path else file.relative_to(self.path).as_posix()))

    def _walk(self) -> Iterator[Path]:
        def unreadable(error: OSError) -> None:
            self._note(self.failed, f"cannot be read, {error.strerror}", self.name(Path(error.filename)))

        for folder, folders, names in os.walk(self.path, onerror=unreadable):
            folders[:] = sorted(name for name in folders if (Path(folder) / name).resolve() != self._without)
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            yield from (Path(folder) / name for name in sorted((*names, *links)))

    def _reason(self, file: Path) -> str | None:
        """Why a file is skipped; `None` if it is to be read."""
        if file != self.path and any(part.startswith(".") for part in file.relative_to(self.path).parts):
            return "hidden"
        if not file.is_file():
            return "a link to a folder" if file.is_dir() else "no file"
        suffix = file.suffix.lower()
        if suffix not in _READERS:
            return f"{suffix} is not read" if suffix else "no suffix says what it is"
        return "larger than 200 MB" if file.stat().st_size > LARGEST_FILE else None

    def _note(self, notes: dict[str, list[str]], reason: str, name: str) -> None:
        notes.setdefault(reason, []).append(name)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(map(shown, names[:_NAMES_SHOWN])) + more
