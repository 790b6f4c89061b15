"""The text of a reply while it is written: what of it may be told already, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import PragError
from prag_lightning.inference.confidence import answer_part
from prag_lightning.llm.streaming import settled
from prag_lightning.metrics import COT_MARK


@dataclass(frozen=True)
class AnswerForm:
    """What of a method's reply is the answer.

    Args:
        prompts: The templates: what the boundary left the model to write is no part of it.
        with_cot: The reply is a chain of thought.
        extract: It ends where `full` extraction ends it.
    """

    prompts: PromptTemplates
    with_cot: bool = False
    extract: bool = True

    def begins(self, tokenizer: PreTrainedTokenizerBase, written: str) -> bool:
        """Whether it is known what of a beginning is no part of the answer."""
        return not self.prompts.left_to_write(tokenizer, with_cot=self.with_cot).startswith(written.strip())

    def of(self, tokenizer: PreTrainedTokenizerBase, written: str) -> str:
        """The reply, without blanks around it."""
        return self.prompts.answer_of(tokenizer, written, with_cot=self.with_cot).strip()

    def part(self, reply: str) -> str:
        """What of a whole reply is told."""
        known = self.extract and (not self.with_cot or COT_MARK in reply)
        return answer_part(reply, self.with_cot) if known else reply

    def ends(self, reply: str) -> bool:
        """Whether the answer ends within a beginning of a reply, whatever follows."""
        longer = reply + "x"  # a small letter ends no sentence
        return self.extract and self.part(longer) != longer

    def settled(self, reply: str) -> str:
        """What of a beginning is told whatever follows."""
        return reply.rstrip().rstrip(".").rstrip() if self.extract else reply.rstrip()


@dataclass
class ReplyText:
    """A reply, told in pieces.

    Args:
        tokenizer: Decodes, without special tokens.
        stops: Where it ends, without them.
        form: What of it is the answer, if it is to a question.
    """

    tokenizer: PreTrainedTokenizerBase
    stops: Sequence[str] = ()
    form: AnswerForm | None = None
    ids: list[int] = field(default_factory=list)
    told: str = ""
    ended: bool = False
    """Whether a stop, or the end of the answer, has come."""

    def push(self, token: int) -> str:
        """Take in a token.

        Returns:
            What may be told now, beyond what was.
        """
        self.ids.append(token)
        text = settled(self.tokenizer, self._decoded())
        if self.form is not None:
            if not self.form.begins(self.tokenizer, text):
                return ""
            text = self.form.of(self.tokenizer, text + "x")[:-1]
        text, stopped = self._cut(text)
        self.ended = stopped or (self.form is not None and self.form.ends(text))
        if not self.ended:
            text = self._without_begun_stop(text)
            text = text if self.form is None else self.form.settled(text)
        elif self.form is not None:
            text = self.form.part(text.strip())
        return self._tell(text)

    def finish(self) -> str:
        """What is left to tell when nothing more is written.

        Raises:
            PragError: if the tokenizer has changed what was told.
        """
        whole = self.whole
        if not whole.startswith(self.told):
            raise PragError(f"the tokenizer makes {whole!r} of a text that began {self.told!r}: ask without streaming")
        return self._tell(whole)

    @property
    def whole(self) -> str:
        """The reply as far as it was written."""
        text = self._decoded()
        if self.form is not None:
            text = self.form.of(self.tokenizer, text)
        text, _ = self._cut(text)
        return text if self.form is None else self.form.part(text.strip())

    def _decoded(self) -> str:
        return str(self.tokenizer.decode(self.ids, skip_special_tokens=True))

    def _tell(self, text: str) -> str:
        new = text[len(self.told) :] if text.startswith(self.told) else ""
        self.told += new
        return new

    def _cut(self, text: str) -> tuple[str, bool]:
        """The text before the first stop, and whether there is one."""
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)

    def _without_begun_stop(self, text: str) -> str:
        """The text without an end that may become a stop."""
        for length in range(min(max(map(len, self.stops), default=0) - 1, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self.stops):
                return text[:-length]
        return text
