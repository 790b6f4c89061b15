"""Augmentation: what an LLM writes about a passage, for its adapter to be trained on (paper section 3.2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prag_lightning.augment.base import Augmenter, Draft, Failures, JournalledAugmenter
from prag_lightning.augment.chat import ChatAugmenter, ChatSettings
from prag_lightning.augment.processes import SharedAugmenter
from prag_lightning.augment.questions import augment_questions
from prag_lightning.augment.replies import parse_qa_pairs
from prag_lightning.augment.settings import AugmentSettings

if TYPE_CHECKING:
    from prag_lightning.augment.llm import LLMAugmenter

__all__ = [
    "AugmentSettings",
    "Augmenter",
    "ChatAugmenter",
    "ChatSettings",
    "Draft",
    "Failures",
    "JournalledAugmenter",
    "LLMAugmenter",
    "SharedAugmenter",
    "augment_questions",
    "parse_qa_pairs",
]


def __getattr__(name: str) -> Any:
    """Import the local writer when it is first asked for: settings and files need no torch."""
    if name != "LLMAugmenter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from prag_lightning.augment.llm import LLMAugmenter

    return LLMAugmenter
