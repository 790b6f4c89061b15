"""What flows through the pipeline: questions, passages and what an LLM wrote about them, and their JSON."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from prag_lightning.errors import InputError

Json = Any
"""Whatever `json.loads` returns."""
Answer = str | tuple[str, ...]
"""A gold answer as its dataset has it: a text, or a list of aliases, which is empty where none is known."""


@dataclass(frozen=True)
class Source:
    """Where a passage stands in a document.

    Args:
        document: The document's name: its path within the folder that was read, with / on every system.
        page: From 1, where the document has pages.
        line: The line of the file that it begins in, from 1, where the document has lines.
        heading: The headings that it stands under, from the outermost, joined by " > ".
    """

    document: str
    page: int | None = None
    line: int | None = None
    heading: str = ""
    NAMES: ClassVar = ("document", "page", "line", "heading")
    """What its parts are called in files."""

    @classmethod
    def from_json(cls, row: Mapping[str, Json]) -> Source | None:
        """Of a row that has its parts among others, numbers maybe as text; `None` if it names no document.

        Raises:
            ValueError: naming what has a wrong type.
        """
        if row.get("document") in (None, ""):
            return None
        document, heading = (scalar_text(row.get(name) or "") for name in ("document", "heading"))
        page, line = (_number_from_1(row.get(name)) for name in ("page", "line"))
        for name, value in zip(cls.NAMES, (document, page, line, heading), strict=True):
            if value is None and row.get(name) not in (None, ""):
                raise ValueError(f"its {name} is {row[name]!r}")
        return cls(nfc(document or ""), page, line, nfc(heading or ""))

    def to_json(self) -> dict[str, Json]:
        """What is known of it, by name."""
        return {name: value for name in self.NAMES if (value := getattr(self, name))}

    def __str__(self) -> str:
        """For people: ``travel.md, line 12, Travel > Days``."""
        place = f", page {self.page}" if self.page else f", line {self.line}" if self.line else ""
        return f"{self.document}{place}{', ' * bool(self.heading)}{self.heading}"


@dataclass(frozen=True)
class Passage:
    """A piece of a corpus.

    Args:
        text: What stands in a prompt and is encoded into an adapter.
        id: The corpus's own id, as text; empty for a passage that comes from no corpus.
        title: The title of the document, searched beside the text but not put in prompts.
        source: Where it stands in a document, as far as the corpus says.
    """

    text: str
    id: str = ""
    title: str = ""
    source: Source | None = None

    @property
    def holds_title(self) -> bool:
        """Whether the text begins with the title, as that of a document's passage does."""
        return bool(self.title) and self.text.startswith((f"{self.title}: ", f"{self.title} > "))

    @property
    def searched(self) -> str:
        """What retrieval compares with a question: title and text, the title once."""
        return self.text if self.holds_title else f"{self.title} {self.text}"

    def place_json(self) -> dict[str, Json]:
        """Where it comes from: id and title, and of its source what is known."""
        return {"id": self.id, "title": self.title, **(self.source.to_json() if self.source else {})}


@dataclass(frozen=True)
class Question:
    """A question of a dataset.

    Args:
        test_id: Its place in the dataset's file, from 0; a question keeps it in the split of its type.
        question: The question's text, as the dataset has it.
        answer: The gold answer, or a list of its aliases; empty where none is known.
        qid: The dataset's own id, if it has one.
        type: The dataset's own question type, if it has one.
        golden_passages: The passages that the dataset names as sufficient, if it does.
        golden_sentences: Of those passages, the sentences that the dataset names, a text a passage.
    """

    test_id: int
    question: str
    answer: Answer = ()
    qid: str | None = None
    type: str | None = None
    golden_passages: tuple[str, ...] = ()
    golden_sentences: tuple[str, ...] = field(default=(), compare=False)

    @property
    def answers(self) -> tuple[str, ...]:
        """The gold answer's aliases."""
        return (self.answer,) if isinstance(self.answer, str) else self.answer

    @property
    def answer_json(self) -> str | list[str]:
        """The gold answer as JSON has it: a list stays a list, of however many."""
        return self.answer if isinstance(self.answer, str) else list(self.answer)


@dataclass(frozen=True)
class QAPair:
    """A question about a passage, its short answer and its answer as a sentence."""

    question: str
    answer: str
    full_answer: str

    @classmethod
    def from_json(cls, value: Json, where: str) -> QAPair:
        """Read `{"question", "answer", "full_answer"}`; numbers and lists become strings, as the method does.

        Raises:
            InputError: if a field is missing, of another kind, or empty.
        """
        if not isinstance(value, Mapping):
            raise InputError(f"a QA pair is not an object but {type(value).__name__}", where=where)
        return cls(*(_text(value, key, where) for key in ("question", "answer", "full_answer")))

    def to_json(self) -> dict[str, str]:
        """The pair in the published format."""
        return {"question": self.question, "answer": self.answer, "full_answer": self.full_answer}


@dataclass(frozen=True)
class AugmentedPassage:
    """A passage with the rewrite and the QA pairs that an LLM wrote about it (paper section 3.2.1).

    Args:
        passage: Its text.
        rewrite: The same in other words.
        qa: About it.
        pid: Its place among a question's passages.
        origin: The corpus's passage of this text that was found, if that is known.
        score: What it scored then.
    """

    passage: str
    rewrite: str
    qa: tuple[QAPair, ...]
    pid: int = field(default=0, compare=False)
    origin: Passage | None = field(default=None, compare=False)
    score: float | None = field(default=None, compare=False)

    @property
    def content_hash(self) -> str:
        """Hex SHA-256 of passage, rewrite and QA pairs: the same content is trained once, wherever it occurs."""
        content = [self.passage, self.rewrite, [list(pair.to_json().values()) for pair in self.qa]]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()

    @classmethod
    def from_json(cls, value: Json, augment_model: str, where: str, place: int = 0) -> AugmentedPassage:
        """Read one element of a record's `augment` list; keys it does not know are left alone, and one without `pid`
        is numbered by its place.

        Raises:
            InputError: naming the key that is missing or wrong.
        """
        if not isinstance(value, Mapping):
            raise InputError(f"an augmented passage is not an object but {type(value).__name__}", where=where)
        qa_key = f"{augment_model}_qa"
        rewrite_key = f"{augment_model}_rewrite"
        for key in (qa_key, rewrite_key):
            if key not in value:
                others = sorted({name.rsplit("_", 1)[0] for name in value if name.endswith(("_qa", "_rewrite"))})
                held = (
                    f"it was augmented by {', '.join(others)}: set data.augment_model" if others else "augment it again"
                )
                raise InputError(f"no key {key!r}", where=where, hint=f"{held[0].upper()}{held[1:]}")
        if not isinstance(value[qa_key], list) or not value[qa_key]:
            raise InputError(f"{qa_key!r} is not a list of QA pairs", where=where, hint="Augment this passage again")
        text = _text(value, "passage", where)
        return cls(
            passage=text,
            rewrite=_text(value, rewrite_key, where),
            qa=tuple(QAPair.from_json(pair, f"{where}, {qa_key}[{i}]") for i, pair in enumerate(value[qa_key])),
            pid=value["pid"] if isinstance(value.get("pid"), int) else place,
            origin=_origin(text, value),
        )

    def to_json(self, augment_model: str) -> dict[str, Json]:
        """The passage in the published format."""
        return {
            "pid": self.pid,
            "passage": self.passage,
            f"{augment_model}_rewrite": self.rewrite,
            f"{augment_model}_qa": [pair.to_json() for pair in self.qa],
            **(self.origin.place_json() if self.origin else {}),
        }


@dataclass(frozen=True)
class AugmentedQuestion:
    """A question with its retrieved and augmented passages, best first."""

    question: Question
    passages: tuple[AugmentedPassage, ...]

    @classmethod
    def from_json(cls, value: Json, augment_model: str, where: str) -> AugmentedQuestion:
        """Read one record of an augmented file.

        Raises:
            InputError: naming the record's key that is missing or wrong.
        """
        if not isinstance(value, Mapping):
            raise InputError(f"a record is not an object but {type(value).__name__}", where=where)
        test_id = value.get("test_id")
        if not isinstance(test_id, int) or isinstance(test_id, bool):
            raise InputError(f"'test_id' is not a whole number but {test_id!r}", where=where)
        golden = value.get("golden_passages") or []
        if not isinstance(golden, list):
            raise InputError(f"'golden_passages' is not a list but {golden!r}", where=where)
        if not isinstance(value.get("augment"), list):
            raise InputError("no list 'augment'", where=where, hint="Write the file with 'prag augment'")
        return cls(
            question=Question(
                test_id=test_id,
                question=_text(value, "question", where),
                answer=answer_from_json(value.get("answer"), where),
                qid=None if value.get("qid") is None else str(value["qid"]),
                type=None if value.get("type") is None else str(value["type"]),
                golden_passages=tuple(map(str, golden)),
            ),
            passages=tuple(
                AugmentedPassage.from_json(item, augment_model, f"{where}, augment[{i}]", i)
                for i, item in enumerate(value["augment"])
            ),
        )

    def to_json(self, augment_model: str) -> dict[str, Json]:
        """The record in the published format."""
        question = self.question
        record: dict[str, Json] = {"test_id": question.test_id}
        if question.qid is not None:
            record["qid"] = question.qid
        if question.type is not None:
            record["type"] = question.type
        record["question"] = question.question
        record["answer"] = question.answer_json
        if question.golden_passages:
            record["golden_passages"] = list(question.golden_passages)
        record["passages"] = [item.passage for item in self.passages]
        record["augment"] = [item.to_json(augment_model) for item in self.passages]
        return record


def _origin(text: str, value: Mapping[str, Json]) -> Passage | None:
    """The corpus's passage that an augmented one says it is; other software may have something else there."""
    key, title = scalar_text(value.get("id")), scalar_text(value.get("title"))
    if key is None:
        return None
    try:
        return Passage(text, key, title or "", Source.from_json(value))
    except ValueError:
        return Passage(text, key, title or "")


def answer_from_json(value: Json, where: str) -> Answer:
    """A gold answer as JSON has it: a text, or a list of aliases; `None` and `[]` are no answer.

    Raises:
        InputError: if it is neither, or holds an empty alias.
    """
    if isinstance(value, list):
        return tuple(_alias(alias, where) for alias in value)
    return () if value is None else _alias(value, where)


def answers_from_json(value: Json, where: str) -> tuple[str, ...]:
    """The aliases of a gold answer; see `answer_from_json`."""
    return Question(0, "", answer_from_json(value, where)).answers


def scalar_text(value: Json) -> str | None:
    """A text as it is; true and false as yes and no; a number's digits, of a whole one without a decimal point; `None`
    for anything else, and for what is no number."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else str(value)
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else None


def _alias(value: Json, where: str) -> str:
    text = scalar_text(value)
    if text is None or not text.strip():
        raise InputError(f"'answer' holds {value!r}", where=where, hint="Give a string or a list of strings")
    return text


def _text(record: Mapping[str, Json], key: str, where: str) -> str:
    """The non-empty text under `key`; a number becomes its digits, true and false yes and no, and a list its items,
    joined by commas."""
    value = record.get(key)
    if isinstance(value, Sequence) and not isinstance(value, str):
        text: str | None = ", ".join(str(item) for item in value)
    else:
        text = str(value) if isinstance(value, float) else scalar_text(value)
    if text is None or not text.strip():
        raise InputError(f"{key!r} is not a text but {value!r}" if key in record else f"no key {key!r}", where=where)
    return whole_characters(text)


def _number_from_1(value: Json) -> int | None:
    """A whole number from 1, also in digits, or as a float, as pandas has it; `None` for anything else."""
    text = "" if isinstance(value, bool) else scalar_text(value) or ""
    return int(text) or None if text.isascii() and text.isdigit() and len(text) < 19 else None


def nfc(text: str) -> str:
    """The text with composed characters (NFC): an é of two characters, as macOS writes it, becomes that of one."""
    return unicodedata.normalize("NFC", text)


def whole_characters(text: str) -> str:
    """The text with a question mark for each half a character (a lone surrogate), which no file and no tokenizer
    takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
