"""Replies in the shape of OpenAI's API."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prag_lightning.records import Json
from prag_lightning.serve.job import Job


@dataclass(frozen=True)
class Envelope:
    """What stands around each part of a reply.

    Args:
        model: As it was asked for.
        chat: Whether it is one of a chat.
    """

    model: str
    chat: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, jobs: Sequence[Job]) -> dict[str, Json]:
        """A reply that is complete, of a text for each job."""
        choices = [
            {"index": number, "finish_reason": job.finish_reason, "logprobs": None} | self._whole(job)
            for number, job in enumerate(jobs)
        ]
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": choices, "usage": usage(jobs), **_evidence(jobs)}

    def _whole(self, job: Job) -> dict[str, Json]:
        if self.chat:
            return {"message": {"role": "assistant", "content": job.text, "refusal": None}}
        return {"text": job.text}

    def opening(self) -> str:
        """The first event of a chat that is streamed."""
        return self._event([self._choice(0, {"role": "assistant", "content": ""})])

    def piece(self, number: int, text: str) -> str:
        """An event with more of a text."""
        return self._event([self._choice(number, {"content": text})])

    def ending(self, number: int, job: Job) -> str:
        """The event that says why a text ends, and what it rests on."""
        return self._event([self._choice(number, {}, job.finish_reason)], _evidence([job]))

    def counting(self, jobs: Sequence[Job]) -> str:
        """The event that says how many tokens there were."""
        return self._event([], {"usage": usage(jobs)})

    def _choice(self, number: int, delta: Mapping[str, Json], finish_reason: str | None = None) -> dict[str, Json]:
        told: dict[str, Json] = {"delta": dict(delta)} if self.chat else {"text": delta.get("content", "")}
        return {"index": number, **told, "finish_reason": finish_reason, "logprobs": None}

    def _event(self, choices: list[dict[str, Json]], more: Mapping[str, Json] | None = None) -> str:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return event({**self._head(kind), "choices": choices, **(more or {})})

    def _head(self, kind: str) -> dict[str, Json]:
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.id}", "object": kind, "created": self.created, "model": self.model}


DONE = "data: [DONE]\n\n"


def event(value: Json) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def usage(jobs: Sequence[Job]) -> dict[str, Json]:
    """How many tokens were read and written."""
    read, written = sum(job.prompt_tokens for job in jobs), sum(job.completion_tokens for job in jobs)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _evidence(jobs: Sequence[Job]) -> dict[str, Json]:
    """Under `prag`, what one reply rests on, or what each of several does."""
    told = [job.evidence for job in jobs]
    if not any(told):
        return {}
    return {"prag": told[0] if len(told) == 1 else told}
