"""The folder of a store: one change at a time, and nothing left in it that no passage needs."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from prag_lightning.augment.base import from_entry
from prag_lightning.costs import COSTS_FILE
from prag_lightning.errors import InputError, PragError
from prag_lightning.files import parse_json, write_text
from prag_lightning.memory.contents import Contents
from prag_lightning.memory.settings import ADAPTERS, AUGMENTED, CONFIG_FILE, LOCK, PROMPTS_FILE
from prag_lightning.records import AugmentedPassage

_CHANGED_BY, _DELETING = ".changed-by.json", ".deleting"
_JOURNALS, _FAILURES = f"{AUGMENTED}/**/journal-*.jsonl", f"{AUGMENTED}/**/failed-replies-*.jsonl"
_ADAPTERS = f"{ADAPTERS}/**/adapters*/[0-9a-f][0-9a-f]/*"
_WITHOUT_WORDS = (_CHANGED_BY, CONFIG_FILE, PROMPTS_FILE, COSTS_FILE)
"""Files that hold nothing of documents."""


@dataclass(frozen=True)
class StoreFolder:
    """A store's passages on disk, what was written about them, and their adapters.

    Args:
        path: The folder.
    """

    path: Path

    @contextmanager
    def changing(self) -> Iterator[Contents]:
        """Keep the store from every other change, with what it holds.

        Raises:
            InputError: if another process is changing it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        by = self.path / _CHANGED_BY
        try:
            with FileLock(self.path / LOCK, timeout=0):
                write_text(by, json.dumps({"pid": os.getpid(), "since": time.strftime("%H:%M:%S")}))
                try:
                    contents = Contents.read(self.path)
                    if self._unused_are_left(contents):
                        self._delete_unused(contents)
                    yield contents
                finally:
                    by.unlink(missing_ok=True)
                    if not any(path.name != LOCK for path in self.path.iterdir()):
                        shutil.rmtree(self.path)  # nothing came of the store
        except Timeout as error:
            raise InputError(
                f"{_who(by)} is changing the store", where=str(self.path), hint="Wait until it has ended"
            ) from error

    def written(self) -> dict[str, AugmentedPassage]:
        """What was written about passages, by their texts, those of an interrupted change among them.

        Raises:
            InputError: naming the line of a journal that is damaged.
        """
        found = {}
        for path in sorted(self.path.glob(_JOURNALS)):
            for number, line in enumerate(_lines(path), 1):
                text = _passage(line)
                if text is None:
                    raise InputError(
                        "a line of the journal is damaged",
                        where=f"{path}, line {number}",
                        hint="Delete that line, and run prag sync",
                    )
                found[text] = from_entry(parse_json(line))
        return {text: passage for text, passage in found.items() if passage is not None}

    def hold(self, contents: Contents) -> None:
        """Hold these passages from now on, and delete what they do not need; call it while `changing`.

        A process that is killed in between leaves word of it. Without such word, what stands here unused is the work of
        a change that will go on.
        """
        write_text(self.path / _DELETING, contents.hash)
        contents.write(self.path)
        self._delete_unused(contents)

    def _unused_are_left(self, contents: Contents) -> bool:
        word = self.path / _DELETING
        return word.exists() and word.read_text(encoding="utf-8") == contents.hash

    def _delete_unused(self, contents: Contents) -> None:
        texts, adapters = set(contents.texts), contents.adapters
        for directory in self.path.glob(_ADAPTERS):
            if directory.relative_to(self.path).as_posix() not in adapters:
                shutil.rmtree(directory)
                if not any(directory.parent.iterdir()):
                    directory.parent.rmdir()
        for journals in {path.parent for path in self.path.glob(_JOURNALS)}:
            _rewrite(journals, texts)
        for path in self.path.glob(_FAILURES):
            rows = [line for line in _lines(path) if _passage(line) in texts]
            if rows:
                write_text(path, "".join(f"{row}\n" for row in rows))
            else:
                path.unlink()
        (self.path / _DELETING).unlink(missing_ok=True)

    def see_gone(self, gone: Contents, kept: Contents) -> int:
        """See that nothing is left of passages.

        Args:
            gone: They.
            kept: What the store holds, which may have the same words, and adapters.

        Returns:
            How many files were looked through: all that may hold words of documents.

        Raises:
            PragError: naming a file that holds a text, or an adapter that is there.
        """
        texts = set(kept.texts)
        lost = [text for text in gone.texts if text not in texts]
        needles = [form.encode() for text in lost for form in {json.dumps(text, ensure_ascii=False)[1:-1], text}]
        files = [path for path in sorted(self.path.rglob("*")) if path.is_file() and self._may_hold_words(path)]
        for path in files:
            lines = path.read_bytes().split(b"\n")
            content = b"\n".join(line for line in lines if _passage(line.decode("utf-8", "replace")) not in texts)
            if not any(needle in content for needle in needles):
                continue
            if path.suffix == ".json" and path.is_relative_to(self.path / AUGMENTED):
                path.unlink()  # questions with their passages, of prag augment, which makes the file again
            else:
                raise PragError("a forgotten passage still stands in a file", where=str(path), hint="Delete the file")
        for place in gone.adapters - kept.adapters:
            if (self.path / place).exists():
                raise PragError("a forgotten passage's adapter is still there", where=place, hint="Delete it")
        return len(files)

    def _may_hold_words(self, path: Path) -> bool:
        return path.name not in _WITHOUT_WORDS and not path.is_relative_to(self.path / ADAPTERS)


def _who(by: Path) -> str:
    try:
        row = json.loads(by.read_text(encoding="utf-8"))
        return f"process {row['pid']}, since {row['since']},"
    except (OSError, ValueError, KeyError):
        return "another process"


def _lines(path: Path) -> list[str]:
    """The whole lines of a file, without one that is torn, or is being written."""
    return path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]


def _passage(line: str) -> str | None:
    """The text of the passage that a line of the corpus or a journal is about."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    text = row.get("passage", row.get("text")) if isinstance(row, dict) else None
    return text if isinstance(text, str) else None


def _rewrite(folder: Path, texts: set[str]) -> None:
    """Leave in journals what was written about these texts, in an order that does not depend on when."""
    files = sorted(folder.glob("journal-*.jsonl"))
    lines = [line for path in files for line in _lines(path)]
    kept = {passage: line for line in lines if (passage := _passage(line)) in texts and passage is not None}
    content = "".join(f"{kept[text]}\n" for text in sorted(kept))
    first = folder / "journal-0.jsonl"
    if files != [first] or first.read_bytes() != content.encode():
        write_text(first, content)
    for path in files:
        if path != first:
            path.unlink()
