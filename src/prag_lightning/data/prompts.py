"""Prompts as data: a YAML file of templates, and the token ids that the method makes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prag_lightning.errors import InputError
from prag_lightning.files import read_yaml
from prag_lightning.records import whole_characters
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
LONGEST_TEXT = 2**20
"""Characters that are turned into tokens at once: no model's context is longer, and gigabytes of tokens would be."""
_NEEDED_NOT = frozenset({"index", "fewshot"})
"""Placeholders that a template may do without."""


@dataclass(frozen=True)
class PromptTemplates:
    """The templates of one prompt file.

    Args:
        templates: Template by name: `passage`, `example`, and `user` or `assistant` under `direct`, `cot`, `rewrite`,
            `qa`.
        fewshot: Worked examples `(question, answer)` by dataset.
    """

    templates: dict[str, str]
    fewshot: dict[str, tuple[tuple[str, str], ...]]

    @classmethod
    def load(cls, path: str | Path) -> PromptTemplates:
        """Read a prompt file.

        Raises:
            InputError: naming the file and the template or placeholder that is missing.
        """
        data = read_yaml(locate(path), "prompt file", "Set data.prompts to a file like configs/prompts/default.yaml")
        templates = {name: _template(data, name, str(path)) for name in _PLACEHOLDERS}
        fewshot = data.get("fewshot") or {}
        if not isinstance(fewshot, dict):
            raise InputError("'fewshot' is no mapping from dataset to examples", where=str(path))
        return cls(
            templates,
            {str(dataset): _examples(rows, f"{path}, fewshot.{dataset}") for dataset, rows in fewshot.items()},
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
    ) -> list[int]:
        """Token ids of a question's prompt (paper section 3.2.2), open at its end or closed by an answer.

        Args:
            tokenizer: Its chat template wraps the user's text, generation prompt included.
            question: Asked with exactly one question mark at its end.
            passages: Put in the prompt, numbered from 1.
            answer: Follows the assistant's prefix, with a full stop and no EOS; `None` leaves the prompt to be
                continued.
            with_cot: Take the chain-of-thought templates, with `dataset`'s worked examples.
            dataset: Whose worked examples to show.

        Raises:
            InputError: if it has more than `LONGEST_TEXT` characters.
        """
        kind = "cot" if with_cot else "direct"
        passage_lines = "".join(
            fill(self.templates["passage"], index=str(index), passage=text) for index, text in enumerate(passages, 1)
        )
        user = fill(
            self.templates[f"{kind}.user"],
            passages=passage_lines,
            question=end_with_question_mark(question),
            fewshot=self.fewshot_text(dataset) if with_cot else "",
        )
        assistant = fill(
            self.templates[f"{kind}.assistant"], answer="" if answer is None else end_with_full_stop(answer)
        )
        return chat_ids(tokenizer, user) + _text_ids(tokenizer, assistant)

    def rewrite_ids(self, tokenizer: PreTrainedTokenizerBase, passage: str) -> list[int]:
        """Token ids that ask for a rewrite of `passage`."""
        return chat_ids(tokenizer, fill(self.templates["rewrite.user"], passage=passage))

    def qa_ids(self, tokenizer: PreTrainedTokenizerBase, passage: str) -> list[int]:
        """Token ids that ask for QA pairs about `passage`."""
        return chat_ids(tokenizer, fill(self.templates["qa.user"], passage=passage))


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


def chat_ids(tokenizer: PreTrainedTokenizerBase, user: str) -> list[int]:
    """Token ids of one user message through the chat template, the assistant's turn begun.

    A tokenizer without a chat template belongs to a base model: its text stands alone, after BOS where it has one, on
    a line of its own.
    """
    if tokenizer.chat_template is None:
        bos = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        return bos + _text_ids(tokenizer, user + "\n")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": user}], add_generation_prompt=True, tokenize=False
    )
    return _text_ids(tokenizer, str(text))


def _text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    if len(text) > LONGEST_TEXT:
        raise InputError(f"a prompt of {len(text):,} characters is longer than any model reads", hint="Shorten it")
    ids: list[int] = tokenizer(whole_characters(text), add_special_tokens=False)["input_ids"]
    return ids


def _template(data: dict[str, Any], name: str, path: str) -> str:
    value: Any = data
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str):
        raise InputError(f"no template {name!r}", where=path, hint="Start from configs/prompts/default.yaml")
    present = set(re.findall(r"\{(\w+)\}", value))
    for placeholder in sorted(_PLACEHOLDERS[name] - _NEEDED_NOT - present):
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
