"""How passages are augmented."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from prag_lightning.augment.replies import QA_PAIRS
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError, check_least
from prag_lightning.records import Json

Format = Literal["json", "lines"]
OnMismatch = Literal["error", "keep", "renew"]
_INDECISIVE = ("extra_candidates", "augment_batch_size", "on_mismatch")
_OMITTED_DEFAULTS = {"format": "json", "constrained": False, "qa_per_passage": QA_PAIRS}
"""Settings that came later: at their defaults they leave the journal's keys as they were without them."""


@dataclass(frozen=True)
class AugmentSettings:
    """How passages are augmented; the sampling is the paper's.

    Args:
        format: What is asked for: json (three pairs in a list, as the paper's code does) or lines (one pair a reply, as
            `Question:` and `Answer:`, about one sentence after the other: for small models, which write no JSON). Of
            lines only new questions are kept whose answers stand in the passage.
        attempts: How often QA pairs are asked for before a passage is given up, or left with fewer than wanted; with
            lines so often a pair.
        qa_per_passage: QA pairs wanted. A reply has three, as the prompt asks, so more take more replies; facts that no
            pair asks for are hardly learnt.
        extra_candidates: How many passages beyond topk may take the place of those given up.
        augment_batch_size: Prompts in a batch.
        augment_max_new_tokens: Longest reply, in tokens.
        temperature: Of sampling; 0 takes the best token each time.
        sample_top_k: Tokens to sample from.
        seed: Decides the samples; every passage and attempt has its own stream of random numbers.
        constrained: Let the LLM write nothing but JSON of the right fields (needs the extra `constrained`).
        on_mismatch: What to do about an augmented file that another writer, other prompts or other settings made: error
            (say so), keep (use it as it is, and write what it lacks), renew (write it anew).
    """

    format: Format = "json"
    attempts: int = 5
    qa_per_passage: int = QA_PAIRS
    extra_candidates: int = 10
    augment_batch_size: int = 16
    augment_max_new_tokens: int = 512
    temperature: float = 0.7
    sample_top_k: int = 50
    seed: int = 42
    constrained: bool = False
    on_mismatch: OnMismatch = "error"

    def __post_init__(self) -> None:
        at_least_one = ("attempts", "qa_per_passage", "augment_batch_size", "augment_max_new_tokens", "sample_top_k")
        check_least(self, "data.augment", 1, *at_least_one)
        check_least(self, "data.augment", 0, "extra_candidates", "temperature")
        for name, kind in (("on_mismatch", OnMismatch), ("format", Format)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(
                    f"{name} is {getattr(self, name)!r}",
                    where=f"data.augment.{name}",
                    hint=f"Give one of {', '.join(get_args(kind))}",
                )
        if self.format == "lines" and self.constrained:
            raise InputError(
                "constrained replies are JSON",
                where="data.augment.format",
                hint="Set constrained to false, or format to json",
            )

    def decisive(self) -> dict[str, Json]:
        """The settings that decide what is written about a passage."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in _INDECISIVE and (name not in _OMITTED_DEFAULTS or value != _OMITTED_DEFAULTS[name])
        }

    @property
    def qa_replies(self) -> int:
        """How often QA pairs of one passage are asked for at most."""
        return self.attempts * (self.qa_per_passage if self.format == "lines" else 1)

    def templates(self, prompts: PromptTemplates) -> list[str]:
        """The templates that it is asked for with, and the date that chat templates may write.

        Raises:
            InputError: if the prompt file has no template for lines, and they are asked for.
        """
        qa = "qa.lines" if self.format == "lines" else "qa.user"
        if qa not in prompts.templates:
            raise InputError(
                f"the prompt file has no template {qa!r}",
                where="data.prompts",
                hint="Take it over from configs/prompts/default.yaml, or set data.augment.format to json",
            )
        return [prompts.templates["rewrite.user"], prompts.templates[qa], str(prompts.template_date)]
