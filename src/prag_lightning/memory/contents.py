"""What a store holds: its passages in one file, which is the truth about it, and what a change makes of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from prag_lightning.errors import InputError
from prag_lightning.files import parse_json, read_text, write_text
from prag_lightning.records import Json, Passage, Source

CORPUS_FILE = "corpus.jsonl"
_HINT = "Delete the file and run prag sync with all documents: adapters that are there are used again"


@dataclass(frozen=True)
class StoredPassage:
    """A passage of a store; the file that has it is a corpus like any other, with some keys more.

    Args:
        passage: With its id and source.
        file: The file that its document is, or is one of several in; empty for a text that came from none.
        file_hash: Of the content that its document was read from, and of how it was cut: another one is read again.
        adapter: Directory of its adapter within the store; empty where it has none.
        failure: Why it has none; empty if it has one.
    """

    passage: Passage
    file: str
    file_hash: str
    adapter: str = ""
    failure: str = ""

    @property
    def document(self) -> str:
        """The id of its document."""
        assert self.passage.source is not None
        return self.passage.source.document


@dataclass(frozen=True)
class Contents:
    """The passages of a store, ordered by document, and within one as it has them: whatever came first, stores of the
    same documents are the same."""

    passages: tuple[StoredPassage, ...] = ()

    @classmethod
    def of_documents(cls, documents: Mapping[str, Sequence[StoredPassage]]) -> Contents:
        """Those of documents, by id."""
        return cls(tuple(passage for key in sorted(documents) for passage in documents[key]))

    @classmethod
    def read(cls, folder: Path) -> Contents:
        """Those of a store; none where nothing has been stored.

        Raises:
            InputError: naming the line that is damaged.
        """
        path = folder / CORPUS_FILE
        if not path.exists():
            return cls()
        text = read_text(path, "passages of the store", _HINT)
        lines = [line for line in text.split("\n") if line]
        return cls(tuple(_stored(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)))

    def write(self, folder: Path) -> None:
        """Put them in the place of those that the store had, at once."""
        write_text(folder / CORPUS_FILE, self._text)

    @property
    def _text(self) -> str:
        return "".join(_line(passage) + "\n" for passage in self.passages)

    @property
    def hash(self) -> str:
        """Hex SHA-256 of the file that holds them."""
        return hashlib.sha256(self._text.encode("utf-8", "replace")).hexdigest()

    def by_document(self) -> dict[str, list[StoredPassage]]:
        """Each document's passages."""
        return {key: list(group) for key, group in groupby(self.passages, lambda passage: passage.document)}

    @property
    def texts(self) -> list[str]:
        """What is encoded, each once."""
        return list(dict.fromkeys(passage.passage.text for passage in self.passages))

    @property
    def adapters(self) -> set[str]:
        """Where the passages' adapters are."""
        return {passage.adapter for passage in self.passages} - {""}


@dataclass(frozen=True)
class Changes:
    """What becomes of a store.

    Args:
        before: What it holds.
        after: What it will hold; passages that it does not hold yet have no adapters.
        added: Ids of documents that are new,
        changed: of those whose passages are others than before,
        removed: and of those that are no more.
    """

    before: Contents
    after: Contents
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    @classmethod
    def between(cls, before: Contents, documents: Mapping[str, Sequence[StoredPassage]]) -> Changes:
        """What takes a store from what it holds to these documents, by id. Passages that it holds keep their
        adapters.

        Raises:
            InputError: if two passages have one id.
        """
        old = before.by_document()
        held = {p.passage.text: p for p in before.passages}
        after = Contents.of_documents(
            {key: [_with_adapter(p, held) for p in passages] for key, passages in documents.items()}
        )
        _check_ids(after.passages)
        now = after.by_document()
        same = {key: [p.passage for p in old.get(key, ())] == [p.passage for p in now[key]] for key in now}
        return cls(
            before,
            after,
            tuple(key for key in now if key not in old),
            tuple(key for key in now if key in old and not same[key]),
            tuple(key for key in old if key not in now),
        )

    @property
    def to_encode(self) -> list[str]:
        """The texts of passages that have no adapter yet, each once; what could not be encoded is tried again."""
        return list(dict.fromkeys(p.passage.text for p in self.after.passages if not p.adapter))

    @property
    def dropped(self) -> list[str]:
        """The texts that the store will not hold any longer."""
        kept = set(self.after.texts)
        return [text for text in self.before.texts if text not in kept]

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return self.before != self.after or bool(self.to_encode)

    def __str__(self) -> str:
        """For people: ``+12 ~3 −5 documents, 41 passages to encode, 17 to drop``."""
        counts = f"+{len(self.added)} ~{len(self.changed)} −{len(self.removed)} documents"
        return f"{counts}, {len(self.to_encode)} passages to encode, {len(self.dropped)} to drop"


def _with_adapter(new: StoredPassage, held: Mapping[str, StoredPassage]) -> StoredPassage:
    old = held.get(new.passage.text)
    return new if old is None else replace(new, adapter=old.adapter, failure=old.failure)


def _check_ids(passages: Iterable[StoredPassage]) -> None:
    taken: dict[str, str] = {}
    for stored in passages:
        other = taken.setdefault(stored.passage.id, stored.document)
        if other != stored.document:
            raise InputError(
                f"two passages have the id {stored.passage.id!r}",
                where=f"{other} and {stored.document}",
                hint="Give each an id of its own",
            )


def _line(stored: StoredPassage) -> str:
    passage, source = stored.passage, stored.passage.source
    assert source is not None
    row: dict[str, Json] = {"id": passage.id, "text": passage.text, "title": passage.title}
    row |= {"document": source.document, "page": source.page, "line": source.line, "heading": source.heading}
    row |= {"file": stored.file, "file_hash": stored.file_hash, "adapter": stored.adapter}
    if stored.failure:
        row["failure"] = stored.failure
    return json.dumps(row, ensure_ascii=False)


def _stored(line: str, where: str) -> StoredPassage:
    try:
        row = parse_json(line)
        source = Source(row["document"], row["page"], row["line"], row["heading"])
        passage = Passage(row["text"], row["id"], row["title"], source)
        return StoredPassage(passage, row["file"], row["file_hash"], row["adapter"], row.get("failure", ""))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("a line of the store is damaged", where=where, hint=_HINT) from error
