"""Text as a model reads it: through its chat template, with special tokens in data kept from acting as such."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

from prag_lightning.errors import InputError
from prag_lightning.records import whole_characters

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_TEXT = 2**20
"""Characters that are turned into tokens at once: no model's context is longer, and gigabytes of tokens would be."""
TEMPLATE_DATE = "2024-07-26"
"""What chat templates take for today: the date that those of Llama 3.1 and 3.2 fall back on."""
_STRFTIME = ("%-d", "%-m", *(f"%{directive}" for directive in "aAbBcCdDeFGhHIjmMpSTuUVwWxXyY"))
"""The directives of `strftime` that a date decides."""
_MARKS = ("\U000f0000", "\U000f0001")
"""What transformers puts around special tokens that are data; private characters, dropped from data that has them."""


def as_data(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """Text in which every special token is marked as the characters that it is written with; see `text_ids`."""
    from transformers.utils.chat_template_utils import mark_control_tokens

    pattern = _special_tokens(tokenizer, _template(tokenizer))
    return str(mark_control_tokens(text, pattern)) if pattern.search(text) else text


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text; special tokens that `as_data` has marked are ordinary characters.

    Raises:
        InputError: if it has more than `LONGEST_TEXT` characters.
    """
    from transformers.utils.chat_template_utils import encode_marked_chat

    if len(text) > LONGEST_TEXT:
        raise InputError(f"a prompt of {len(text):,} characters is longer than any model reads", hint="Shorten it")
    text = whole_characters(text)
    if not any(mark in text for mark in _MARKS):
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
    try:
        return [int(i) for i in encode_marked_chat(tokenizer, text)]
    except ValueError:  # its vocabulary has the special token as a word: a mark inside makes two of it
        opening, closing = _MARKS
        broken = re.sub(f"{opening}(.)(?!{closing})", rf"\1{opening}", text, flags=re.DOTALL)
        return [int(i) for i in encode_marked_chat(tokenizer, broken)]


def document_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text that is no part of a chat, after BOS where the tokenizer puts one; special tokens in it are
    ordinary characters."""
    text = whole_characters(text)
    marked = as_data(tokenizer, text)
    if marked == text:
        ids: list[int] = tokenizer(text)["input_ids"]
        return ids
    return [*tokenizer("")["input_ids"], *text_ids(tokenizer, marked)]


@dataclass(frozen=True)
class Message:
    """A turn of a conversation.

    Args:
        role: system, user or assistant.
        text: What was said.
    """

    role: str
    text: str


def chat_ids(
    tokenizer: PreTrainedTokenizerBase,
    user: str,
    today: date,
    *,
    earlier: Sequence[Message] = (),
    leave_blanks: bool = False,
) -> tuple[list[int], str]:
    """Token ids of a user's message through the chat template, the assistant's turn begun, and the blanks at its end.

    A tokenizer without a chat template belongs to a base model: its text stands alone, after BOS where it has one, on
    a line of its own.

    Args:
        tokenizer: Whose chat template.
        user: The message.
        today: The date for templates that write one: what they render is the same on every day.
        earlier: The conversation before it.
        leave_blanks: Leave blanks that the template ends in to the text that follows.

    Raises:
        InputError: if the template does not take such a conversation.
    """
    leading, text = chat_text(tokenizer, user, today, earlier=earlier)
    end = len(text.rstrip(" ")) if leave_blanks else len(text)
    return [*leading, *text_ids(tokenizer, text[:end])], text[end:]


def chat_text(
    tokenizer: PreTrainedTokenizerBase, user: str, today: date, *, earlier: Sequence[Message] = ()
) -> tuple[list[int], str]:
    """What `chat_ids` makes token ids of: those that come first, and the text that follows them."""
    template = _template(tokenizer)
    if not template:
        bos = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        before = "".join(f"{as_data(tokenizer, message.text)}\n" for message in earlier)
        return bos, before + user + "\n"
    from jinja2 import TemplateError

    messages = [{"role": each.role, "content": as_data(tokenizer, each.text)} for each in earlier]
    try:
        text = tokenizer.apply_chat_template(
            [*messages, {"role": "user", "content": user}],
            chat_template=_with_date(template, today) if "strftime_now" in template else template,
            add_generation_prompt=True,
            tokenize=False,
            date_string=today.strftime("%d %b %Y"),
        )
    except TemplateError as error:
        raise InputError(f"the model's chat template does not take this conversation: {error}") from error
    return [], str(text)


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template; empty where there is none."""
    return "" if tokenizer.chat_template is None else str(tokenizer.get_chat_template())


@lru_cache(maxsize=32)
def _with_date(template: str, today: date) -> str:
    """The template with the clock that it reads replaced by a macro."""
    steps = "".join(f" | replace({json.dumps(d)}, {json.dumps(today.strftime(d))})" for d in _STRFTIME)
    return f'{{%- macro strftime_now(format) -%}}{{{{ format{steps} }}}}{{%- endmacro -%}}{{{{ "" }}}}{template}'


@lru_cache(maxsize=32)
def _special_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> re.Pattern[str]:
    """Matches whatever could act as a special token: those that are named so, and those that the chat template uses."""
    added = tokenizer.added_tokens_decoder.values()
    names = {token.content for token in added if token.special or token.content in template}
    longest_first = sorted((name for name in names if name.strip()), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
