"""How passages are augmented."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from prag_lightning.augment.replies import QA_PAIRS
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.records import Json

OnMismatch = Literal["error", "keep", "renew"]
_INDECISIVE = ("extra_candidates", "augment_batch_size", "on_mismatch")
_OMITTED_DEFAULTS = {"constrained": False, "qa_per_passage": QA_PAIRS}
"""Settings that came later: at their defaults they leave the journal's keys as they were without them."""


@dataclass(frozen=True)
class AugmentSettings:
    """How passages are augmented; the sampling is the paper's.

    Args:
        attempts: How often QA pairs are asked for before a passage is given up, or left with fewer than wanted.
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
        for name in ("attempts", "qa_per_passage", "augment_batch_size", "augment_max_new_tokens", "sample_top_k"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}", where=f"data.augment.{name}", hint="Give 1 or more"
                )
        for name in ("extra_candidates", "temperature"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"{name} is {getattr(self, name)}", where=f"data.augment.{name}", hint="Give 0 or more"
                )
        if self.on_mismatch not in get_args(OnMismatch):
            allowed = ", ".join(get_args(OnMismatch))
            raise InputError(
                f"on_mismatch is {self.on_mismatch!r}", where="data.augment.on_mismatch", hint=f"Give one of {allowed}"
            )

    def decisive(self) -> dict[str, Json]:
        """The settings that decide what is written about a passage."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in _INDECISIVE and (name not in _OMITTED_DEFAULTS or value != _OMITTED_DEFAULTS[name])
        }

    def templates(self, prompts: PromptTemplates) -> list[str]:
        """The templates that it is asked for with, and the date that chat templates may write."""
        return [*(prompts.templates[f"{name}.user"] for name in ("rewrite", "qa")), str(prompts.template_date)]
