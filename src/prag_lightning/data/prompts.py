"""Prompts as data: a YAML file of templates, and the token ids that the method makes of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prag_lightning.data.boundary import ANSWER_BOUNDARIES, AnswerBoundary, Boundary, find_boundary
from prag_lightning.data.chat_text import TEMPLATE_DATE, Message, as_data, chat_ids, chat_text, text_ids
from prag_lightning.errors import InputError
from prag_lightning.files import read_yaml
from prag_lightning.resources import locate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLACEHOLDERS: dict[str, frozenset[str]] = {
    "passage": frozenset({"index", "passage"}),
    "example": frozenset({"question", "answer"}),
    "direct.user": frozenset({"passages", "question", "fewshot"}),
    "direct.assistant": frozenset({"answer"}),
    "cot.user": frozenset({"passages", "question", "fewshot"}),
    "cot.assistant": frozenset({"answer"}),
    "rewrite.user": frozenset({"passage"}),
    "qa.user": frozenset({"passage"}),
}
_OPTIONAL: dict[str, frozenset[str]] = {
    "direct.closed_book": frozenset({"question", "fewshot"}),
    "cot.closed_book": frozenset({"question", "fewshot"}),
    "qa.lines": frozenset({"passage", "sentence"}),
}
"""What takes `user`'s place: where no passage is shown; where one QA pair is asked for in lines."""
_DATE = date.fromisoformat(TEMPLATE_DATE)
_NEEDED_NOT = frozenset({"index", "fewshot"})
"""Placeholders that a template may do without."""


@dataclass(frozen=True)
class PromptTemplates:
    """The templates of one prompt file.

    Args:
        templates: Template by name: `passage`, `example`, and `user` or `assistant` under `direct`, `cot`, `rewrite`,
            `qa`; under `direct` and `cot` also `closed_book`, where a question without passages has its own.
        fewshot: Worked examples `(question, answer)` by dataset.
        answer_boundary: Where prompts end; see `AnswerBoundary`.
        template_date: What chat templates that write today's date take for it.
    """

    templates: dict[str, str]
    fewshot: dict[str, tuple[tuple[str, str], ...]]
    answer_boundary: AnswerBoundary = "token"
    template_date: date = _DATE

    @classmethod
    def load(
        cls, path: str | Path, answer_boundary: AnswerBoundary = "token", template_date: str = TEMPLATE_DATE
    ) -> PromptTemplates:
        """Read a prompt file.

        Args:
            path: The file.
            answer_boundary: Where prompts end; see `AnswerBoundary`.
            template_date: As YYYY-MM-DD.

        Raises:
            InputError: naming the file and the template or placeholder that is missing, or a setting that is none.
        """
        if answer_boundary not in ANSWER_BOUNDARIES:
            raise InputError(
                f"answer_boundary is {answer_boundary!r}",
                where="data.answer_boundary",
                hint=f"Give one of {', '.join(ANSWER_BOUNDARIES)}",
            )
        try:
            today = date.fromisoformat(template_date)
        except ValueError as error:
            raise InputError(
                f"template_date is {template_date!r}", where="data.template_date", hint=f"Give one like {TEMPLATE_DATE}"
            ) from error
        data = read_prompt_file(locate(path))
        templates = {name: _template(data, name, str(path)) for name in _PLACEHOLDERS}
        templates |= {name: _template(data, name, str(path)) for name in _OPTIONAL if _value(data, name) is not None}
        fewshot = data.get("fewshot") or {}
        if not isinstance(fewshot, dict):
            raise InputError("'fewshot' is no mapping from dataset to examples", where=str(path))
        return cls(
            templates,
            {str(dataset): _examples(rows, f"{path}, fewshot.{dataset}") for dataset, rows in fewshot.items()},
            answer_boundary,
            today,
        )

    def fewshot_text(self, dataset: str) -> str:
        """The worked examples of `dataset` as text; empty where the file has none."""
        return "".join(fill(self.templates["example"], question=q, answer=a) for q, a in self.fewshot.get(dataset, ()))

    def question_ids(
        self,
        tokenizer: PreTrainedTokenizerBase,
        question: str,
        passages: Sequence[str] = (),
        *,
        answer: str | None = None,
        with_cot: bool = False,
        dataset: str = "",
        earlier: Sequence[Message] = (),
    ) -> list[int]:
        """Token ids of a question's prompt (paper section 3.2.2), open at its end or closed by an answer.

        Open, it is the beginning of what it is with any answer, unless `answer_boundary` is `published`. Special
        tokens in question, passages and answer are ordinary characters.

        Args:
            tokenizer: Its chat template wraps the user's text, generation prompt included.
            question: Asked with exactly one question mark at its end.
            passages: Put in the prompt, numbered from 1.
            answer: Follows the assistant's prefix, with a full stop and no EOS; `None` leaves the prompt to be
                continued.
            with_cot: Take the chain-of-thought templates, with `dataset`'s worked examples.
            dataset: Whose worked examples to show.
            earlier: The conversation before it.

        Raises:
            InputError: if it has more than `chat_text.LONGEST_TEXT` characters, or the chat template does not take the
                conversation.
        """
        kind = "cot" if with_cot else "direct"
        passage_lines = "".join(
            fill(self.templates["passage"], index=str(index), passage=as_data(tokenizer, text))
            for index, text in enumerate(passages, 1)
        )
        user = fill(
            self.templates[f"{kind}.user" if passages else self._closed_book(kind)],
            passages=passage_lines,
            question=as_data(tokenizer, end_with_question_mark(question)),
            fewshot=self.fewshot_text(dataset) if with_cot else "",
        )
        at_token = self.answer_boundary == "token"
        ids, blanks = chat_ids(tokenizer, user, self.template_date, earlier=earlier, leave_blanks=at_token)
        prefix, _, suffix = self.templates[f"{kind}.assistant"].partition("{answer}")
        boundary = self._boundary(tokenizer, blanks + prefix)
        if answer is None:
            return [*ids, *boundary.ids]
        closed = as_data(tokenizer, end_with_full_stop(answer))
        closing = closed + fill(suffix, answer=closed)
        assistant = text_ids(tokenizer, blanks + prefix + closing)
        if at_token and tuple(assistant[: len(boundary.ids)]) != boundary.ids:
            assistant = [*boundary.ids, *text_ids(tokenizer, boundary.rest + closing)]
        return ids + assistant

    def _closed_book(self, kind: str) -> str:
        name = f"{kind}.closed_book"
        return name if name in self.templates else f"{kind}.user"

    def question_parts(
        self, tokenizer: PreTrainedTokenizerBase, *, with_cot: bool = False, dataset: str = ""
    ) -> tuple[list[int], str, list[int]]:
        """What the prompt of a question without passages is made of: the ids that come first, the text that follows
        them, with `{question}` where the question stands, and the ids of the assistant's prefix at its end."""
        kind = "cot" if with_cot else "direct"
        fewshot = self.fewshot_text(dataset) if with_cot else ""
        user = fill(self.templates[self._closed_book(kind)], passages="", fewshot=fewshot)
        leading, text = chat_text(tokenizer, user, self.template_date)
        end = len(text.rstrip(" ")) if self.answer_boundary == "token" else len(text)
        prefix, _, _ = self.templates[f"{kind}.assistant"].partition("{answer}")
        return leading, text[:end], list(self._boundary(tokenizer, text[end:] + prefix).ids)

    def conversation_ids(self, tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation as it is, without templates; the last message is the user's.

        Raises:
            InputError: as `question_ids`.
        """
        *earlier, last = messages
        return chat_ids(tokenizer, as_data(tokenizer, last.text), self.template_date, earlier=earlier)[0]

    def answer_of(self, tokenizer: PreTrainedTokenizerBase, reply: str, *, with_cot: bool = False) -> str:
        """The answer in a model's continuation of an open prompt: without what the boundary left it to write."""
        if self.answer_boundary == "published":
            return reply
        return reply.strip().removeprefix(self.left_to_write(tokenizer, with_cot=with_cot)).lstrip()

    def left_to_write(self, tokenizer: PreTrainedTokenizerBase, *, with_cot: bool = False) -> str:
        """What the boundary leaves a continuation to write before the answer, without blanks."""
        if self.answer_boundary == "published":
            return ""
        prefix, _, _ = self.templates["cot.assistant" if with_cot else "direct.assistant"].partition("{answer}")
        return self._boundary(tokenizer, prefix).rest.strip()

    def answers_of(
        self, tokenizer: PreTrainedTokenizerBase, pieces: Iterable[str], *, with_cot: bool = False
    ) -> Iterator[str]:
        """As `answer_of`, of a continuation that comes in pieces, and without blanks around it: joined, the pieces that
        this gives are `answer_of(...).strip()` of those that it takes, joined."""
        rest = self.left_to_write(tokenizer, with_cot=with_cot)
        written = told = ""
        for piece in pieces:
            written += piece
            if rest.startswith(written.strip()):  # may still turn out to be no part of the answer
                continue
            answer = self.answer_of(tokenizer, written, with_cot=with_cot).strip()
            if new := answer[len(told) :]:
                told = answer
                yield new
        if new := self.answer_of(tokenizer, written, with_cot=with_cot).strip()[len(told) :]:
            yield new

    def fingerprint(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        with_cot: bool = False,
        dataset: str = "",
        with_passages: bool = True,
    ) -> str:
        """Hex SHA-256 of what a tokenizer and its chat template make of questions with these templates, with passages
        and without, or without alone; for the other arguments see `question_ids`."""
        shown = [("Emma\n is a novel. ", "By {Jane Austen}.")] if with_passages else []
        rendered = [
            self.question_ids(tokenizer, " Who wrote Emma", passages, answer=answer, with_cot=with_cot, dataset=dataset)
            for passages in ((), *shown)
            for answer in (None, "Jane Austen", "1815")
        ]
        return hashlib.sha256(json.dumps([self.answer_boundary, rendered]).encode()).hexdigest()

    def rewrite_ids(self, tokenizer: PreTrainedTokenizerBase, passage: str) -> list[int]:
        """Token ids that ask for a rewrite of `passage`."""
        return self._ids_about(tokenizer, "rewrite.user", passage)

    def qa_ids(self, tokenizer: PreTrainedTokenizerBase, passage: str) -> list[int]:
        """Token ids that ask for QA pairs about `passage`."""
        return self._ids_about(tokenizer, "qa.user", passage)

    def qa_lines_ids(self, tokenizer: PreTrainedTokenizerBase, passage: str, sentence: str, begun: str) -> list[int]:
        """Token ids that ask for one QA pair about a sentence of `passage`, its reply begun."""
        return self._ids_about(tokenizer, "qa.lines", passage, sentence=sentence) + text_ids(tokenizer, begun)

    def _ids_about(self, tokenizer: PreTrainedTokenizerBase, template: str, passage: str, **more: str) -> list[int]:
        values = {name: as_data(tokenizer, text) for name, text in {"passage": passage, **more}.items()}
        user = fill(self.templates[template], **values)
        return chat_ids(tokenizer, user, self.template_date)[0]

    def _boundary(self, tokenizer: PreTrainedTokenizerBase, prefix: str) -> Boundary:
        if self.answer_boundary == "token":
            return find_boundary(tokenizer, prefix)
        return Boundary(tuple(text_ids(tokenizer, prefix)), "")


def fill(template: str, **values: str) -> str:
    """Put `values` in place of `{name}`, in one pass: braces inside a value, and any others, are ordinary
    characters."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


def end_with_question_mark(question: str) -> str:
    """The question with exactly one question mark at its end."""
    return question.strip().rstrip("? \t\n") + "?"


def end_with_full_stop(answer: str) -> str:
    """The answer with a full stop at its end, which it may have had."""
    answer = answer.strip()
    return answer if answer.endswith(".") else answer + "."


def read_prompt_file(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A prompt file's templates over those of the file that its key `base` names, relative to it."""
    if path.resolve() in above:
        raise InputError("the prompt file builds on itself", where=str(path), hint="Take it out of its own 'base'")
    data = read_yaml(path, "prompt file", "Set data.prompts to a file like configs/prompts/default.yaml")
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise InputError("'base' is no file's name", where=str(path), hint="Give the name of one prompt file")
    return _merged(read_prompt_file(path.parent / base, (*above, path.resolve())), data)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {key: (below[key], above[key]) for key in below.keys() & above.keys()}
    mappings = {key: _merged(*pair) for key, pair in both.items() if all(isinstance(each, dict) for each in pair)}
    return {**below, **above, **mappings}


def _value(data: dict[str, Any], name: str) -> Any:
    value: Any = data
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _template(data: dict[str, Any], name: str, path: str) -> str:
    value = _value(data, name)
    if not isinstance(value, str):
        raise InputError(f"no template {name!r}", where=path, hint="Start from configs/prompts/default.yaml")
    present = set(re.findall(r"\{(\w+)\}", value))
    for placeholder in sorted((_PLACEHOLDERS | _OPTIONAL)[name] - _NEEDED_NOT - present):
        raise InputError(f"template {name!r} lacks the placeholder {{{placeholder}}}", where=path)
    return value


def _examples(rows: Any, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(rows, list):
        raise InputError("worked examples are no list", where=where)
    examples = []
    for i, row in enumerate(rows):
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("question", "answer")):
            raise InputError("a worked example needs 'question' and 'answer'", where=f"{where}[{i}]")
        examples.append((end_with_question_mark(row["question"]), row["answer"].strip()))
    return tuple(examples)
