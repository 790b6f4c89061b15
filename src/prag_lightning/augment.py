"""Passages into augmented passages: a rewrite and QA pairs that an LLM writes (paper section 3.2.1)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Protocol

import json_repair
import torch
from torch import Tensor
from transformers import LogitsProcessor

from prag_lightning.answer import generate
from prag_lightning.errors import InputError
from prag_lightning.files import Journal
from prag_lightning.llm import LLM
from prag_lightning.progress import Progress
from prag_lightning.prompts import PromptTemplates
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, QAPair, Question

QA_PAIRS = 3
"""QA pairs a passage, as the prompt asks."""


@dataclass(frozen=True)
class AugmentSettings:
    """How passages are augmented; the sampling is the paper's.

    Args:
        attempts: How often QA pairs are asked for before a passage is given up.
        extra_candidates: How many passages beyond topk may take the place of those given up.
        augment_batch_size: Prompts in a batch.
        augment_max_new_tokens: Longest reply, in tokens.
        temperature: Of sampling; 0 takes the best token each time.
        sample_top_k: Tokens to sample from.
        seed: Decides the samples; every passage and attempt has its own stream of random numbers.
    """

    attempts: int = 5
    extra_candidates: int = 10
    augment_batch_size: int = 16
    augment_max_new_tokens: int = 512
    temperature: float = 0.7
    sample_top_k: int = 50
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("attempts", "augment_batch_size", "augment_max_new_tokens", "sample_top_k"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}", where=f"data.augment.{name}", mend="Give 1 or more"
                )
        for name in ("extra_candidates", "temperature"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"{name} is {getattr(self, name)}", where=f"data.augment.{name}", mend="Give 0 or more"
                )


class Augmenter(Protocol):
    """Anything that augments passages."""

    def augment(self, passages: Sequence[str]) -> Iterator[tuple[str, AugmentedPassage | None]]:
        """Give each passage, in any order, with what was written about it; `None` where QA pairs could not be had."""


class LLMAugmenter:
    """Augments with a local LLM, in batches, and keeps every finished passage in a journal.

    Args:
        llm: Writes.
        prompts: The templates `rewrite` and `qa`.
        settings: Attempts and sampling.
        journal: Finished passages of this and earlier runs; a passage is paid for once.
        autocast: Makes the context that generation runs in, for mixed precision.
    """

    def __init__(
        self,
        llm: LLM,
        prompts: PromptTemplates,
        settings: AugmentSettings,
        journal: Journal,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.llm, self.prompts, self.settings, self.journal, self.autocast = (llm, prompts, settings, journal, autocast)
        self.failures: Counter[str] = Counter()
        decisive = {k: v for k, v in asdict(settings).items() if k not in ("extra_candidates", "augment_batch_size")}
        templates = [prompts.templates["rewrite.user"], prompts.templates["qa.user"]]
        self._settings_key = json.dumps([llm.fingerprint, templates, decisive])

    def augment(self, passages: Sequence[str]) -> Iterator[tuple[str, AugmentedPassage | None]]:
        """See `Augmenter`; passages that the journal has come first."""
        missing = []
        for passage in dict.fromkeys(passages):
            entry = self.journal.get(self._key(passage))
            if entry is None:
                missing.append(passage)
            else:
                yield passage, _from_entry(entry)
        missing.sort(key=len)
        if missing:
            with Progress("augment", len(missing), "passages") as progress:
                for batch in _batches(missing, self.settings.augment_batch_size):
                    for passage, entry in zip(batch, self._batch(batch), strict=True):
                        yield passage, _from_entry(entry)
                    progress.advance(len(batch))

    def _batch(self, passages: Sequence[str]) -> list[dict[str, object]]:
        """Augment a batch, ask again for what failed, and put it into the journal."""
        rewrites = self._generate(
            [self.prompts.rewrite_ids(self.llm.tokenizer, p) for p in passages], passages, "rewrite 0"
        )
        waiting = deque(passages)
        pairs: dict[str, list[QAPair]] = {}
        reasons: dict[str, list[str]] = {}
        for attempt in range(self.settings.attempts):
            asked = [passage for passage in waiting if passage not in pairs]
            if not asked:
                break
            prompts = [self.prompts.qa_ids(self.llm.tokenizer, passage) for passage in asked]
            for passage, reply in zip(asked, self._generate(prompts, asked, f"qa {attempt}"), strict=True):
                try:
                    pairs[passage] = parse_qa_pairs(reply)
                except InputError as error:
                    self.failures[error.what.partition(" but ")[0]] += 1
                    reasons.setdefault(passage, []).append(reply)
        entries: list[dict[str, object]] = []
        for passage, rewrite in zip(passages, rewrites, strict=True):
            entry: dict[str, object] = {"key": self._key(passage), "passage": passage}
            if passage in pairs:
                entry["rewrite"] = rewrite.strip() or passage
                entry["qa"] = [pair.to_json() for pair in pairs[passage]]
            else:
                entry["failed_replies"] = reasons[passage]
            entries.append(entry)
        self.journal.add(entries)
        return entries

    def _generate(self, prompts: Sequence[Sequence[int]], passages: Sequence[str], purpose: str) -> list[str]:
        settings = self.settings
        sampler = None
        if settings.temperature > 0:
            seeds = [_seed(settings.seed, purpose, passage) for passage in passages]
            sampler = RowSampler(seeds, settings.temperature, settings.sample_top_k, settings.augment_max_new_tokens)
        with self.autocast():
            return generate(self.llm, prompts, settings.augment_max_new_tokens, logits_processor=sampler)

    def _key(self, passage: str) -> str:
        return hashlib.sha256(f"{self._settings_key} {passage}".encode("utf-8", "surrogatepass")).hexdigest()


class RowSampler(LogitsProcessor):
    """Sampling whose result for a row depends on that row's seed alone, not on the batch around it.

    Gumbel noise is added to the scores of the `top_k` best tokens, divided by the temperature; the greatest sum is a
    sample of
    their softmax (Gumbel-max trick), so greedy decoding over it samples.

    Args:
        seeds: One a row.
        temperature: Above 0.
        top_k: Tokens to sample from.
        max_new_tokens: Steps to draw noise for.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_k: int, max_new_tokens: int) -> None:
        self.temperature, self.top_k, self.step = temperature, top_k, 0
        rows = [torch.rand(max_new_tokens, top_k, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.noise = -torch.log(-torch.log(torch.stack(rows).clamp(1e-20, 1 - 1e-7)))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[N, V]` of which the greatest of each row is its sample."""
        self.noise = self.noise.to(scores.device)
        best, tokens = scores.float().topk(min(self.top_k, scores.shape[-1]), dim=-1)
        noisy = best / self.temperature + self.noise[:, self.step, : best.shape[-1]]
        self.step += 1
        return torch.full_like(scores, float("-inf"), dtype=torch.float32).scatter(1, tokens, noisy)


def failure_summary(failures: Counter[str]) -> str:
    """What was wrong with replies, commonest first, in one line."""
    reasons = ", ".join(f"{reason} ({count})" for reason, count in failures.most_common())
    return f"{failures.total()} replies held no valid QA pairs: {reasons}"


def parse_qa_pairs(reply: str) -> list[QAPair]:
    """The first three QA pairs of an LLM's reply, repaired where its JSON is broken.

    Raises:
        InputError: if it holds no list of at least three objects with non-empty `question`, `answer` and `full_answer`.
    """
    start = reply.find("[")
    if start < 0:
        raise InputError("no list in the reply")
    try:
        value = json_repair.loads(reply[start:])
    except (ValueError, RecursionError) as error:
        raise InputError("the reply's JSON is beyond repair") from error
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    if not isinstance(value, list) or len(value) < QA_PAIRS:
        raise InputError(f"fewer than {QA_PAIRS} QA pairs in the reply")
    return [QAPair.from_json(pair, "the reply") for pair in islice(value, QA_PAIRS)]


def augment_questions(
    questions: Sequence[Question], candidates: Sequence[Sequence[str]], topk: int, augmenter: Augmenter
) -> list[AugmentedQuestion]:
    """Augment the best `topk` passages of each question; one that fails is skipped and the next candidate takes its
    place.

    Args:
        questions: To be augmented.
        candidates: Texts of each question's passages, best first, each once.
        topk: Passages a question gets, if it has so many that succeed.
        augmenter: Writes; is asked for each passage once.
    """
    results: dict[str, AugmentedPassage | None] = {}
    while True:
        wanted = [p for texts in candidates for p in _needed(texts, topk, results) if p not in results]
        if not wanted:
            break
        results.update(augmenter.augment(list(dict.fromkeys(wanted))))
    records = []
    for question, texts in zip(questions, candidates, strict=True):
        found = (results[passage] for passage in _needed(texts, topk, results))
        chosen = [augmented for augmented in found if augmented is not None]
        passages = tuple(replace(augmented, pid=pid) for pid, augmented in enumerate(chosen))
        records.append(AugmentedQuestion(question, passages))
    return records


def _needed(texts: Sequence[str], topk: int, results: dict[str, AugmentedPassage | None]) -> list[str]:
    """The first passages of which `topk` have not failed, as far as is known."""
    alive = (passage for passage in texts if passage not in results or results[passage] is not None)
    return list(islice(alive, topk))


def _from_entry(entry: dict[str, object]) -> AugmentedPassage | None:
    if "qa" not in entry:
        return None
    pairs = entry["qa"]
    assert isinstance(pairs, list)
    where = "the journal of augmentation"
    return AugmentedPassage(
        str(entry["passage"]), str(entry["rewrite"]), tuple(QAPair.from_json(pair, where) for pair in pairs)
    )


def _batches(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _seed(seed: int, purpose: str, passage: str) -> int:
    digest = hashlib.sha256(f"{seed} {purpose} {passage}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
