"""Documents on their way into a store: read, cut, and known by ids that do not depend on where a command is run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from prag_lightning.data.corpus import CorpusReader
from prag_lightning.data.documents import SUFFIXES, Document, DocumentReader, document_of_text, split
from prag_lightning.errors import InputError
from prag_lightning.memory.contents import Contents, StoredPassage
from prag_lightning.pipeline.settings import SplitterSettings
from prag_lightning.progress import Progress
from prag_lightning.records import Passage, Source, nfc, whole_characters

_LONGEST_PATH = 1000
_VERSION = 1
"""Of how documents are read and cut: those that another version has read are read again."""


@dataclass
class Incoming:
    """Documents that are to be held.

    Args:
        store: The store's folder; ids of files are their paths from where it stands.
        held: What the store holds: files that have not changed are not read again.
        settings: How documents are cut.

    Attributes:
        documents: By id.
        readers: Know what became of files.
    """

    store: Path
    held: Contents
    settings: SplitterSettings
    documents: dict[str, list[StoredPassage]] = field(default_factory=dict)
    readers: list[DocumentReader] = field(default_factory=list)
    _replaced: set[str] = field(default_factory=set)
    _folders: list[str] = field(default_factory=list)
    _unread: list[str] = field(default_factory=list)
    _kept: set[str] = field(default_factory=set)
    _files: dict[str, Path] = field(default_factory=dict)

    def all(self) -> dict[str, list[StoredPassage]]:
        """What the store is to hold: these documents, and those that it holds and nobody spoke of."""
        held = self.held.by_document().items()
        return {key: stored for key, stored in held if not self._is_replaced(stored[0])} | self.documents

    def _is_replaced(self, stored: StoredPassage) -> bool:
        """Whether its document is another now, or gone: files and texts that were given, and whole folders."""
        if stored.file in self._kept:
            return False
        if (stored.file or stored.document) in self._replaced:
            return True
        return self._is_in(stored.file, self._folders) and not self._is_in(stored.file, self._unread)

    def _is_in(self, name: str, folders: Sequence[str]) -> bool:
        """Whether a file is in one of some folders, all named as documents are."""
        base = self.store.absolute().parent.resolve()
        file = Path(os.path.normpath(base / name))
        return bool(name) and any(file.is_relative_to(os.path.normpath(base / folder)) for folder in folders)

    def report(self) -> None:
        """Say on the standard error what became of every file."""
        for reader in self.readers:
            reader.report()

    # What they come from

    def add_files(self, path: Path, *, removes: bool) -> None:
        """Take the documents of a file, or of the files of a folder. One that cannot be read stays as it was.

        Args:
            path: The file or folder.
            removes: Whether documents of the folder that the store holds and that are no more are to go.

        Raises:
            InputError: if there is nothing, it is of the store itself, or a folder holds no document and the store none
                of it.
        """
        if path.resolve().is_relative_to(self.store.resolve()):
            raise InputError("a store does not hold itself", where=str(path), hint="Give documents outside of it")
        reader = DocumentReader(path, without=self.store)
        self.readers.append(reader)
        self._unread += [document_id(path / name, self.store) for names in reader.failed.values() for name in names]
        held = _by_file(self.held)
        with Progress("read", len(reader.files), "files") as progress:
            for file in reader.files:
                self._add_file(reader, file, held)
                progress.advance(1)
        folder = document_id(path, self.store)
        if removes and path.is_dir():
            self._folders.append(folder)
        if path.is_dir() and not reader.files and not any(self._is_in(name, [folder]) for name in held):
            raise InputError("there is no document", where=str(path), hint="Give a folder with documents")

    def _add_file(self, reader: DocumentReader, file: Path, held: Mapping[str, Sequence[StoredPassage]]) -> None:
        name = document_id(file, self.store)
        if self._files.setdefault(name, file).resolve() != file.resolve():
            reader.skipped.setdefault("its id is that of another file", []).append(reader.name(file))
            return
        self._replaced.add(name)
        file_hash = self._hash(file)
        before = held.get(name, ())
        if file_hash and before and all(stored.file_hash == file_hash for stored in before):
            self._kept.add(name)
            reader.read.append(reader.name(file))
            return
        within = len(reader.name(file))
        documents = [replace(document, id=name + document.id[within:]) for document in reader.of_file(file)]
        if not documents and _has_failed(reader, file):
            self._kept.add(name)
            return
        for document in documents:
            self._add(document, name, file_hash)

    def add_text(self, key: str, text: str, title: str = "") -> None:
        """Take a text as a document.

        Raises:
            InputError: if it holds nothing, or the id is empty.
        """
        if not key.strip() or not text.strip():
            raise InputError("a document has no id or no text", where=repr(key), hint="Give both")
        content = json.dumps([_VERSION, asdict(self.settings), key, title, text]).encode()
        self._replaced.add(key)
        self._add(document_of_text(key, text, title), "", hashlib.sha256(content).hexdigest())

    def add_corpus(self, path: Path) -> None:
        """Take each passage of a corpus file as a document of its own, uncut; those of the file that are no more go.

        Raises:
            InputError: if it cannot be read.
        """
        name, reader = document_id(path, self.store), CorpusReader(path)
        with Progress("read", reader.megabytes, "MB") as progress:
            for passage in reader.with_progress(progress):
                key = f"{name}#{passage.id}"
                source = replace(passage.source or Source(key), document=key)
                content = json.dumps([passage.text, passage.title, asdict(source)]).encode()
                stored = Passage(passage.text, key, passage.title, source)
                self._hold(key, [StoredPassage(stored, name, hashlib.sha256(content).hexdigest())])
        reader.report_bad_rows()
        self._replaced.add(name)

    def _add(self, document: Document, file: str, file_hash: str) -> None:
        passages = split(document, self.settings.words, self.settings.overlap, self.settings.language)
        if passages:
            self._hold(document.id, [StoredPassage(passage, file, file_hash) for passage in passages])

    def _hold(self, key: str, passages: list[StoredPassage]) -> None:
        if self.documents.setdefault(key, passages) != passages:
            raise InputError(f"the document {key!r} is given twice", hint="Give it once, or give each an id of its own")

    @property
    def failed(self) -> dict[str, list[str]]:
        """By reason, the files that could not be read."""
        return _joined(reader.failed for reader in self.readers)

    @property
    def skipped(self) -> dict[str, list[str]]:
        """By reason, the files that were left out."""
        return _joined(reader.skipped for reader in self.readers)

    def _hash(self, file: Path) -> str:
        """Of a file's content and how it is cut; empty if it cannot be read."""
        content = hashlib.sha256(json.dumps([_VERSION, asdict(self.settings)]).encode())
        try:
            with file.open("rb") as opened:
                for piece in iter(lambda: opened.read(2**20), b""):
                    content.update(piece)
        except OSError:
            return ""
        return content.hexdigest()


def _joined(reports: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for report in reports:
        for reason, names in report.items():
            found.setdefault(reason, []).extend(names)
    return found


def _has_failed(reader: DocumentReader, file: Path) -> bool:
    """Whether a file, or a part of it, could not be read."""
    name = reader.name(file)
    failed = (each for names in reader.failed.values() for each in names)
    return any(each == name or each.startswith(f"{name}, ") for each in failed)


def document_id(path: Path, store: Path) -> str:
    """The id of a file's document: its path from where the store stands, whatever links lead there, with / on every
    system; its whole path where there is no way from there."""
    whole = Path(os.path.abspath(path))
    whole = whole.parent.resolve() / whole.name
    try:
        found = Path(os.path.relpath(whole, store.absolute().parent.resolve()))
    except ValueError:  # another drive of Windows
        found = whole
    return whole_characters(nfc(found.as_posix()))


def hashed_id(text: str) -> str:
    """The id of a text that comes with none."""
    return f"text-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def looks_like_path(text: str) -> bool:
    """Whether a text is meant for a path: something is there, or it is one word that could be one's name."""
    if len(text) > _LONGEST_PATH or "\n" in text or "\0" in text:
        return False
    return os.path.exists(text) or Path(text).suffix.lower() in SUFFIXES or not any(char.isspace() for char in text)


def _by_file(contents: Contents) -> dict[str, list[StoredPassage]]:
    found: dict[str, list[StoredPassage]] = {}
    for stored in contents.passages:
        found.setdefault(stored.file, []).append(stored)
    return found
