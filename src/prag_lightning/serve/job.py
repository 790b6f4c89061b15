"""A reply that is asked for: what it is to be, and what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prag_lightning.records import Json
from prag_lightning.serve.api_errors import ApiError
from prag_lightning.serve.backend import Found
from prag_lightning.serve.requests import Asked


@dataclass(eq=False)
class Job:
    """A reply that is to be written.

    Args:
        asked: By a client.
        tell: Called, from any thread, with each piece of the reply, and at last with the job itself, or an error.
    """

    asked: Asked
    tell: Callable[[str | Job | ApiError], object]
    at: float = field(default_factory=time.perf_counter)
    cancelled: threading.Event = field(default_factory=threading.Event)
    found: Found | None = None
    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    log_probability: float | None = None
    abstained: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    _over: bool = False

    def end(self, outcome: Job | ApiError) -> None:
        """Tell how it ended, once."""
        if not self._over:
            self._over = True
            self.tell(outcome)

    @property
    def evidence(self) -> dict[str, Json]:
        """What the reply rests on, for the key `prag`."""
        found = self.found
        if found is None or self.asked.method is None:
            return {}
        passages = [
            (p.origin.place_json() if p.origin else {}) | {"text": p.passage, "score": p.score or 0.0}
            for p in found.record.passages
        ]
        told: dict[str, Json] = {"method": self.asked.method, "passages": passages, "encoded": found.encoded}
        told["seconds"] = {work: round(seconds, 4) for work, seconds in self.seconds.items()}
        if self.log_probability is not None:
            told |= {"log_probability": self.log_probability, "abstained": self.abstained}
        return told


def several(asked: Sequence[Asked], tell: Callable[[int, str | Job | ApiError], object]) -> list[Job]:
    """A job for each of several texts, which tell their number as well."""

    def teller(number: int) -> Callable[[str | Job | ApiError], object]:
        return lambda what: tell(number, what)

    return [Job(each, teller(number)) for number, each in enumerate(asked)]
