"""Documents of one's own, cut into the passages of a corpus."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sentencex

from prag_lightning.errors import InputError, output_errors
from prag_lightning.files import parse_json, write_text
from prag_lightning.progress import Progress

SUFFIXES = (".txt", ".md", ".jsonl")
_HEADING = re.compile(r"^#+\s+(.+?)\s*#*\s*$")
_FIRST_CJK, _CJK_CHARACTERS_A_WORD = "\u2e80", 2
"""From this character on lie the scripts of China, Japan and Korea, in which spaces do not tell words apart."""


@dataclass(frozen=True)
class Document:
    """A text and its title."""

    title: str
    text: str


def write_corpus(documents: Path, out: Path, words: int, language: str) -> None:
    """Cut documents into passages and write them as a corpus file.

    Args:
        documents: A folder of .txt, .md and .jsonl files, searched through and through, or one such file.
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
    files = _files(documents)
    rows, empty = io.StringIO(), 0
    writer = csv.writer(rows, delimiter="\t", lineterminator="\n")
    writer.writerow(["id", "text", "title"])
    passages = 0
    with Progress("cut", len(files), "files") as progress:
        for file in files:
            for document in read_documents(file):
                texts = cut(document.text, words, language)
                empty += not texts
                for text in texts:
                    passages += 1
                    writer.writerow([passages, text, " ".join(document.title.split())])
            progress.advance(1)
    if not passages:
        raise InputError("the documents hold no text", where=str(documents))
    with output_errors("the corpus", out, "Name another file with --out"):
        write_text(out, rows.getvalue())
    note = f"; {empty} documents hold no text" if empty else ""
    print(f"{passages} passages in {out}{note}", file=sys.stderr)


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a file: a text or Markdown file is one, titled by its first heading or else its name; a JSONL
    file has one a line, with `text` or `contents`, and `title`.

    Raises:
        InputError: naming the file and line that is malformed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the document: {error}", where=str(path), hint="Give UTF-8 text") from error
    if path.suffix != ".jsonl":
        headings = (_HEADING.match(line) for line in text.splitlines()) if path.suffix == ".md" else ()
        yield Document(next((found[1] for found in headings if found), path.stem), text)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the line is no JSON: {error}", where=f"{path}, line {number}") from error
        content = row.get("text", row.get("contents")) if isinstance(row, dict) else None
        if not isinstance(content, str):
            raise InputError("no 'text'", where=f"{path}, line {number}", hint="Give each document a text")
        yield Document(str(row.get("title") or path.stem), content)


def cut(text: str, words: int, language: str = "en") -> list[str]:
    """Passages of about `words` words: whole sentences, gathered until the next would lead further from it. A sentence
    of more than twice as many, such as a list or a log without full stops, is cut between words."""
    passages: list[str] = []
    gathered, length = "", 0
    for sentence in _not_too_long(sentencex.segment(language, text), words):
        sentence = "\n".join(_HEADING.sub(r"\1.", line) for line in sentence.split("\n"))
        size = max(len(sentence.split()), sum(char >= _FIRST_CJK for char in sentence) // _CJK_CHARACTERS_A_WORD)
        if length and length + size - words > words - length:
            passages.append(gathered)
            gathered, length = "", 0
        gathered, length = gathered + sentence, length + size
    return [" ".join(passage.split()) for passage in (*passages, gathered) if passage.strip()]


def _not_too_long(sentences: Iterable[str], words: int) -> Iterator[str]:
    for sentence in sentences:
        parts = sentence.split()
        if len(parts) <= 2 * words:
            yield sentence
        else:
            yield from (" ".join(parts[i : i + words]) + " " for i in range(0, len(parts), words))


def _files(documents: Path) -> list[Path]:
    if not documents.exists():
        raise InputError("there are no documents", where=str(documents), hint="Give a folder or file that exists")
    found = sorted(documents.rglob("*")) if documents.is_dir() else [documents]
    files = [path for path in found if path.is_file() and path.suffix in SUFFIXES]
    if not files:
        raise InputError("there is no document", where=str(documents), hint=f"Give files of {', '.join(SUFFIXES)}")
    return files
