"""Augmenting with a local LLM, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from transformers import LogitsProcessor

from prag_lightning.augment.base import Draft, Failures, JournalledAugmenter
from prag_lightning.augment.replies import parse_qa_pairs, qa_schema
from prag_lightning.augment.settings import AugmentSettings
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.journal import Journal
from prag_lightning.llm.generation import GenerationFailure, check_length, generate_each
from prag_lightning.llm.loading import LLM
from prag_lightning.llm.sampling import JsonConstraint, RowSampler


class LLMAugmenter(JournalledAugmenter):
    """Augments with a local LLM, in batches of like length.

    A passage's texts do not depend on the batch, as far as the arithmetic of the device gives a row the same scores in
    any batch: greedy choices and samples change only where two tokens are within rounding of each other.

    Args:
        llm: Writes.
        prompts: The templates `rewrite` and `qa`.
        settings: Attempts and sampling.
        journal: Finished passages of this and earlier runs.
        failures: Counts what failed.
        autocast: Makes the context that generation runs in, for mixed precision.
    """

    def __init__(
        self,
        llm: LLM,
        prompts: PromptTemplates,
        settings: AugmentSettings,
        journal: Journal,
        failures: Failures,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        super().__init__(llm.answer_fingerprint, prompts, settings, journal, failures)
        self.llm, self.autocast = llm, autocast

    def _write(self, passages: Sequence[str]) -> Iterator[Sequence[Draft]]:
        fitting = []
        for passage in sorted(passages, key=len):
            reason = self._unanswerable(passage)
            if reason:
                yield [Draft(passage, skipped=reason)]
            else:
                fitting.append(passage)
        size = self.settings.augment_batch_size
        for start in range(0, len(fitting), size):
            yield self._write_batch(fitting[start : start + size])

    def _unanswerable(self, passage: str) -> str:
        """Why the model cannot be asked about a passage; empty if it can."""
        tokenizer, room = self.llm.tokenizer, self.settings.augment_max_new_tokens
        try:
            prompts = [self.prompts.rewrite_ids(tokenizer, passage), self.prompts.qa_ids(tokenizer, passage)]
        except InputError as error:
            return str(error)
        return next(filter(None, (check_length(self.llm, prompt, room) for prompt in prompts)), "")

    def _write_batch(self, passages: Sequence[str]) -> list[Draft]:
        """Write about a batch, and ask again for what failed."""
        rewrite_prompts = [self.prompts.rewrite_ids(self.llm.tokenizer, passage) for passage in passages]
        rewrites = self._generate(rewrite_prompts, passages, "rewrite 0")
        written = [Draft(passage) for passage in passages]
        for each, rewrite in zip(written, rewrites, strict=True):
            if isinstance(rewrite, GenerationFailure):
                each.skipped = rewrite.reason
            else:
                each.rewrite = rewrite
        for attempt in range(self.settings.attempts):
            waiting = [each for each in written if not each.skipped and not each.complete(self.settings.qa_per_passage)]
            if not waiting:
                break
            asked = [each.passage for each in waiting]
            prompts = [self.prompts.qa_ids(self.llm.tokenizer, passage) for passage in asked]
            for each, reply in zip(waiting, self._generate(prompts, asked, f"qa {attempt}"), strict=True):
                if isinstance(reply, GenerationFailure):
                    each.skipped = reply.reason
                    continue
                try:
                    each.add_pairs(parse_qa_pairs(reply), self.settings.qa_per_passage)
                except InputError as error:
                    self.failures.add(error.what.partition(" but ")[0], each.passage, reply)
                    each.rejected_replies.append(reply)
        return written

    def _generate(
        self, prompts: Sequence[Sequence[int]], passages: Sequence[str], purpose: str
    ) -> list[str | GenerationFailure]:
        settings = self.settings

        def make_processors(rows: Sequence[int]) -> list[LogitsProcessor]:
            made: list[LogitsProcessor] = []
            if settings.constrained and purpose.startswith("qa"):
                vocab_size = int(self.llm.model.get_output_embeddings().weight.shape[0])  # type: ignore[no-untyped-call]
                made.append(JsonConstraint(self.llm.tokenizer, vocab_size, qa_schema(), len(rows)))
            if settings.temperature > 0:
                seeds = [self._seed(purpose, passages[row]) for row in rows]
                made.append(
                    RowSampler(seeds, settings.temperature, settings.sample_top_k, settings.augment_max_new_tokens)
                )
            return made

        with self.autocast():
            return generate_each(self.llm, prompts, settings.augment_max_new_tokens, make_processors=make_processors)
