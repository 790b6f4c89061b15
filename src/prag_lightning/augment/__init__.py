"""Augmentation: what an LLM writes about a passage, for its adapter to be trained on (paper section 3.2.1)."""

from prag_lightning.augment.base import Augmenter, AugmentSettings, Draft, Failures, JournalledAugmenter
from prag_lightning.augment.chat import ChatAugmenter, ChatSettings
from prag_lightning.augment.llm import LLMAugmenter
from prag_lightning.augment.processes import SharedAugmenter
from prag_lightning.augment.questions import augment_questions
from prag_lightning.augment.replies import parse_qa_pairs
from prag_lightning.llm.sampling import JsonConstraint, RowSampler

__all__ = [
    "AugmentSettings",
    "Augmenter",
    "ChatAugmenter",
    "ChatSettings",
    "Draft",
    "Failures",
    "JournalledAugmenter",
    "JsonConstraint",
    "LLMAugmenter",
    "RowSampler",
    "SharedAugmenter",
    "augment_questions",
    "parse_qa_pairs",
]
