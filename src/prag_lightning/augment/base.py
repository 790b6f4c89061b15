"""What every augmenter has: a journal of what is finished, and an account of what failed."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prag_lightning.augment.lines import parse_pair, sentences
from prag_lightning.augment.replies import parse_qa_pairs, parse_rewrite, without_thoughts
from prag_lightning.augment.settings import AugmentSettings
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.journal import Journal
from prag_lightning.progress import Progress
from prag_lightning.records import AugmentedPassage, Json, QAPair

FAILED_REPLIES_KEPT = 50


class Augmenter(Protocol):
    """Anything that augments passages."""

    def augment(self, passages: Sequence[str]) -> Iterator[tuple[str, AugmentedPassage | None]]:
        """Give each passage, in any order, with what was written about it; `None` where QA pairs could not be had."""


@dataclass(frozen=True)
class Reply:
    """What a writer replied.

    Args:
        text: As it came.
        failure: Why it is of no use whatever it holds, such as for having been cut; empty if it is not.
    """

    text: str
    failure: str = ""


@dataclass
class Draft:
    """What became of a passage.

    Args:
        passage: Its text.
        rewrite: The passage in other words.
        qa: Pairs about it; `None` if none could be had.
        rejected_replies: Replies that held no valid pairs.
        skipped: Why the model cannot take it at all; empty if it can.
        final: Whether that stands, or is to be tried again by the next run.
    """

    passage: str
    rewrite: str = ""
    qa: list[QAPair] | None = None
    rejected_replies: list[str] = field(default_factory=list)
    skipped: str = ""
    final: bool = True

    def add_pairs(self, pairs: Sequence[QAPair], wanted: int) -> None:
        """Add pairs whose questions are new, up to `wanted` of them."""
        by_question = {pair.question: pair for pair in (*(self.qa or ()), *pairs)}
        self.qa = list(by_question.values())[:wanted]

    def complete(self, wanted: int) -> bool:
        """Whether there are as many pairs as wanted."""
        return len(self.qa or ()) >= wanted


class Failures:
    """Counts what was wrong with replies, and keeps some of them in a file for a person to read.

    Args:
        path: The file; replaced by the first failure of a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reasons: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        """Passages that the model cannot take, by their text, with the reason."""

    def add(self, reason: str, passage: str, reply: str) -> None:
        """Count a reply that was of no use."""
        kept = self.reasons.total()
        self.reasons[reason] += 1
        if kept < FAILED_REPLIES_KEPT:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a" if kept else "w", encoding="utf-8") as file:
                row = {"reason": reason, "passage": passage, "reply": reply}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def report(self) -> None:
        """Say on the standard error what failed, commonest first, and where to read it."""
        if self.reasons:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in self.reasons.most_common())
            print(f"{self.reasons.total()} replies were of no use: {reasons}. See {self.path}", file=sys.stderr)


class JournalledAugmenter(ABC):
    """Augments passages that the journal does not have, and puts each into it at once: never augments the same passage
    twice.

    Args:
        writer: What decides the texts beside prompts, settings and passage, such as the model.
        prompts: The templates `rewrite` and `qa`.
        settings: Attempts and sampling.
        journal: Finished passages of this and earlier runs.
        failures: Counts what failed.

    `passages` and `seconds` say how many it has written about, and how long that took.
    """

    def __init__(
        self, writer: Json, prompts: PromptTemplates, settings: AugmentSettings, journal: Journal, failures: Failures
    ) -> None:
        self.prompts, self.settings, self.journal, self.failures = prompts, settings, journal, failures
        self.passages, self.seconds = 0, 0.0
        self._settings_key = json.dumps([writer, settings.templates(prompts), settings.decisive()])

    @abstractmethod
    def _write(self, passages: Sequence[str]) -> Iterator[Sequence[Draft]]:
        """Write about passages, and give those that are finished as soon as they are."""

    def augment(self, passages: Sequence[str]) -> Iterator[tuple[str, AugmentedPassage | None]]:
        """See `Augmenter`; passages that the journal has come first."""
        missing = []
        for passage in dict.fromkeys(passages):
            entry = self.journal.get(self.key(passage))
            if entry is None:
                missing.append(passage)
            else:
                yield passage, self.from_journal(entry)
        if missing:
            with Progress("augment", len(missing), "passages") as progress:
                started = time.perf_counter()
                for finished in self._write(missing):
                    now = time.perf_counter()
                    self.passages, self.seconds = self.passages + len(finished), self.seconds + now - started
                    started = now
                    entries = [self._entry(written) for written in finished]
                    self.journal.add(entry for entry, written in zip(entries, finished, strict=True) if written.final)
                    for entry in entries:
                        yield str(entry["passage"]), self.from_journal(entry)
                    progress.advance(len(finished))

    def from_journal(self, entry: dict[str, Any]) -> AugmentedPassage | None:
        """The augmented passage of a journal's entry; one that the model cannot take is none, and is counted."""
        if entry.get("skipped"):
            self.failures.skipped[entry["passage"]] = str(entry["skipped"])
        return from_entry(entry)

    def add_rewrite(self, draft: Draft, reply: Reply) -> None:
        """Take the rewrite of a reply into a draft, or count why there is none."""
        rewrite = "" if reply.failure else parse_rewrite(reply.text)
        if not rewrite:
            self.failures.add(reply.failure or "no rewrite in the reply", draft.passage, reply.text)
        draft.rewrite = rewrite

    def sentence(self, passage: str, attempt: int) -> str:
        """The sentence that an attempt asks about, where lines are asked for."""
        found = sentences(passage)
        return found[attempt % len(found)]

    def add_reply(self, draft: Draft, reply: Reply, attempt: int) -> None:
        """Take the QA pairs of a reply into a draft, or count why there are none."""
        try:
            if reply.failure:
                raise InputError(reply.failure)
            if self.settings.format == "lines":
                sentence, text = self.sentence(draft.passage, attempt), without_thoughts(reply.text)
                pairs = [parse_pair(text, draft.passage, sentence, draft.qa or ())]
            else:
                pairs = parse_qa_pairs(reply.text)
            draft.add_pairs(pairs, self.settings.qa_per_passage)
        except InputError as error:
            self.failures.add(error.what.partition(" but ")[0], draft.passage, reply.text)
            draft.rejected_replies.append(reply.text)

    def key(self, passage: str) -> str:
        """What the journal has a passage under: it changes with all that decides the texts."""
        return hashlib.sha256(f"{self._settings_key} {passage}".encode("utf-8", "surrogatepass")).hexdigest()

    def _entry(self, written: Draft) -> dict[str, Any]:
        entry: dict[str, Any] = {"key": self.key(written.passage), "passage": written.passage}
        if written.skipped:
            return entry | {"skipped": written.skipped}
        if written.qa is None:
            return entry | {"failed_replies": written.rejected_replies}
        rewrite = written.rewrite.strip() or written.passage
        return entry | {"rewrite": rewrite, "qa": [pair.to_json() for pair in written.qa]}

    def _seed(self, purpose: str, passage: str) -> int:
        """The seed of one reply about one passage: its own, whatever is written beside it."""
        text = f"{self.settings.seed} {purpose} {passage}"
        return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def from_entry(entry: dict[str, Any]) -> AugmentedPassage | None:
    """The augmented passage of a journal's entry, if it did not fail."""
    if "qa" not in entry:
        return None
    where = f"the journal of augmentation, passage {entry['passage'][:60]!r}"
    if not isinstance(entry["qa"], list) or not isinstance(entry.get("rewrite"), str):
        raise InputError("'qa' or 'rewrite' is damaged", where=where, hint="Delete its line")
    return AugmentedPassage(
        entry["passage"], entry["rewrite"], tuple(QAPair.from_json(pair, where) for pair in entry["qa"])
    )
