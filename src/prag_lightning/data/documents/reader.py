"""Documents of one's own, cut into the passages of a corpus."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import regex
import sentencex

from prag_lightning.data.scripts import CHARACTERS_A_WORD, UNSPACED, count_words
from prag_lightning.errors import InputError, output_errors, shown
from prag_lightning.files import parse_json, read_text, write_text
from prag_lightning.progress import Progress
from prag_lightning.records import nfc

SUFFIXES = (".txt", ".md", ".markdown", ".jsonl")
_NAMES_SHOWN = 20
_HEADING = regex.compile(r"^#+\s+(.+?)\s*#*\s*$")
_PIECE = regex.compile(rf"\s*(?:(?P<character>{UNSPACED}\p{{Mark}}*)|(?:(?!{UNSPACED})\S)+)|\s+")
"""Where a sentence can be cut: after a word or, where a script puts no spaces between these, after a character."""


@dataclass(frozen=True)
class Document:
    """A text and its title."""

    title: str
    text: str


class DocumentReader:
    """Reads the documents of a folder, searched through and through; what cannot be read is named, and the others go
    on.

    Args:
        path: The folder, or one file.

    Attributes:
        read: Names of the files that were read, within the folder.
        left_out: By reason, names of the files that were not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read: list[str] = []
        self.left_out: dict[str, list[str]] = {}
        self.files: list[Path] = []
        if not path.exists():
            raise InputError("there are no documents", where=str(path), hint="Give a folder or file that exists")
        for file in self._walk() if path.is_dir() else [path]:
            reason = self._reason(file) if path.is_dir() else _reason_by_name(file)
            if reason is None:
                self.files.append(file)
            else:
                self._leave_out(reason, self._name(file))

    def __iter__(self) -> Iterator[Document]:
        """The documents, file by file."""
        for file in self.files:
            yield from self.of_file(file)

    def of_file(self, file: Path) -> Iterator[Document]:
        """The documents of one of the `files`; what it holds is noted in `read` and `left_out`."""
        name, documents = self._name(file), 0
        try:
            for line, document in read_documents(file):
                if isinstance(document, str):
                    self._leave_out(document, f"{name}, line {line}")
                elif document.text.strip():
                    documents += 1
                    yield document
                elif line:
                    self._leave_out("without text", f"{name}, line {line}")
        except InputError as error:
            self._leave_out(error.what, name)
        else:
            if documents:
                self.read.append(name)
            else:
                self._leave_out("without text", name)

    def report(self) -> None:
        """Say on the standard error what became of every file."""
        print(f"read {len(self.read)} files: {_listed(self.read)}" if self.read else "read no file", file=sys.stderr)
        for reason, names in self.left_out.items():
            print(f"left out {len(names)}, {shown(reason)}: {_listed(names)}", file=sys.stderr)

    def _walk(self) -> Iterator[Path]:
        def unreadable(error: OSError) -> None:
            self._leave_out(f"cannot be read, {error.strerror}", self._name(Path(error.filename)))

        for folder, folders, names in os.walk(self.path, onerror=unreadable):
            folders.sort()
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            yield from (Path(folder) / name for name in sorted((*names, *links)))

    def _reason(self, file: Path) -> str | None:
        """Why a file is left out; `None` if it is to be read."""
        if any(part.startswith(".") for part in file.relative_to(self.path).parts):
            return "hidden"
        if not file.is_file():
            return "a link to a folder" if file.is_dir() else "no file"
        return _reason_by_name(file)

    def _leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)

    def _name(self, file: Path) -> str:
        return file.name if file == self.path else file.relative_to(self.path).as_posix()


def _reason_by_name(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        return None
    return f"{suffix} is not read" if suffix else "no suffix says what it is"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(map(shown, names[:_NAMES_SHOWN])) + more


def write_corpus(documents: Path, out: Path, words: int, language: str) -> None:
    """Cut documents into passages and write them as a corpus file; says what became of every file.

    Args:
        documents: A folder of .txt, .md, .markdown and .jsonl files, searched through and through, or one such file.
        out: The .tsv file to write.
        words: About so many in a passage, whole sentences; the paper's passages have 100.
        language: Of the text, as an ISO 639-1 code: it decides where sentences end.

    Raises:
        InputError: if there is no document, or none has text, or the file cannot stand there.
    """
    if words < 1:
        raise InputError(f"words is {words}", where="--words", hint="Give 1 or more")
    if out.suffix != ".tsv":
        raise InputError("a corpus is written as .tsv", where=str(out), hint="Give --out a name that ends so")
    reader, rows, passages = DocumentReader(documents), io.StringIO(), 0
    writer = csv.writer(rows, delimiter="\t", lineterminator="\n")
    writer.writerow(["id", "text", "title"])
    with Progress("cut", len(reader.files), "files") as progress:
        for file in reader.files:
            for document in reader.of_file(file):
                for text in cut(document.text, words, language):
                    passages += 1
                    writer.writerow([passages, text, " ".join(document.title.split())])
            progress.advance(1)
    reader.report()
    if not reader.files:
        kinds = ", ".join(SUFFIXES)
        raise InputError("there is no document", where=str(documents), hint=f"Give files of {kinds}")
    if not passages:
        raise InputError("the documents hold no text", where=str(documents), hint="See above what became of each")
    with output_errors("the corpus", out, "Name another file with --out"):
        write_text(out, rows.getvalue())
    print(f"{passages} passages in {out}", file=sys.stderr)


def read_documents(path: Path) -> Iterator[tuple[int, Document | str]]:
    """The documents of a file: a text or Markdown file is one, titled by its first heading or else its name; a JSONL
    file has one a line, with `text` or `contents`, and `title`.

    Yields:
        The line, 0 where the file is one document, and the document, or what is wrong with that line.

    Raises:
        InputError: if the file cannot be read.
    """
    text = nfc(read_text(path, "document", "Give a file that can be read"))
    suffix = path.suffix.lower()
    if suffix != ".jsonl":
        headings = (_HEADING.match(line) for line in text.splitlines()) if suffix in (".md", ".markdown") else ()
        yield 0, Document(next((found[1] for found in headings if found), nfc(path.stem)), text)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except ValueError:
            yield number, "no JSON"
            continue
        content = row.get("text", row.get("contents")) if isinstance(row, dict) else None
        if isinstance(content, str):
            yield number, Document(nfc(str(row.get("title") or path.stem)), nfc(content))
        else:
            yield number, "no 'text'"


def cut(text: str, words: int, language: str = "en") -> list[str]:
    """Passages of about `words` words: whole sentences, gathered until the next would lead further from it. A sentence
    of more than twice as many, such as a list or a log without full stops, is cut between words."""
    passages: list[str] = []
    gathered, length = "", 0
    for sentence in _not_too_long(sentencex.segment(language, text), words):
        sentence = "\n".join(_HEADING.sub(r"\1.", line) for line in sentence.split("\n"))
        size = count_words(sentence)
        if length and length + size - words > words - length:
            passages.append(gathered)
            gathered, length = "", 0
        gathered, length = gathered + sentence, length + size
    return [" ".join(passage.split()) for passage in (*passages, gathered) if passage.strip()]


def _not_too_long(sentences: Iterable[str], words: int) -> Iterator[str]:
    for sentence in sentences:
        if count_words(sentence) <= 2 * words:
            yield sentence
            continue
        gathered, length = "", 0.0
        for piece in _PIECE.finditer(sentence):
            if length >= words:
                yield gathered
                gathered, length = "", 0.0
            gathered += piece[0]
            length += 1 / CHARACTERS_A_WORD if piece["character"] else 1
        yield gathered
