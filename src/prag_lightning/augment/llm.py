"""Augmenting with a local LLM, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from transformers import LogitsProcessor

from prag_lightning.augment.base import Draft, Failures, JournalledAugmenter, Reply
from prag_lightning.augment.lines import BEGUN, MAX_NEW_TOKENS, holds_pair
from prag_lightning.augment.replies import holds_qa_pairs, qa_schema
from prag_lightning.augment.settings import AugmentSettings
from prag_lightning.augment.stopping import ReplyEnds
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.journal import Journal
from prag_lightning.llm.generation import GenerationFailure, check_length, generate_each
from prag_lightning.llm.greedy import end_tokens
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
        room = self.settings.augment_max_new_tokens
        try:
            prompts = [self._ids(template, 0, passage) for template in ("rewrite", "qa")]
        except InputError as error:
            return str(error)
        return next(filter(None, (check_length(self.llm, prompt, room) for prompt in prompts)), "")

    def _write_batch(self, passages: Sequence[str]) -> list[Draft]:
        """Write about a batch, and ask again for what failed."""
        drafts = [Draft(passage) for passage in passages]
        rounds = [("rewrite", attempt) for attempt in range(self.settings.attempts)]
        rounds += [("qa", attempt) for attempt in range(self.settings.qa_replies)]
        for template, attempt in rounds:
            waiting = [draft for draft in drafts if not draft.skipped and not self._has(draft, template)]
            if waiting:
                self._ask(template, attempt, waiting)
        return drafts

    def _has(self, draft: Draft, template: str) -> bool:
        return bool(draft.rewrite) if template == "rewrite" else draft.complete(self.settings.qa_per_passage)

    def _ask(self, template: str, attempt: int, drafts: Sequence[Draft]) -> None:
        """Ask for rewrites or QA pairs of all drafts, once."""
        passages = [draft.passage for draft in drafts]
        ids = [self._ids(template, attempt, passage) for passage in passages]
        replies = self._generate(ids, passages, f"{template} {attempt}")
        for draft, reply in zip(drafts, replies, strict=True):
            if isinstance(reply, GenerationFailure):
                draft.skipped = reply.reason
            elif template == "rewrite":
                self.add_rewrite(draft, reply)
            else:
                begun = BEGUN if self._in_lines else ""
                self.add_reply(draft, Reply(begun + reply.text, reply.failure), attempt)

    @property
    def _in_lines(self) -> bool:
        return self.settings.format == "lines"

    def _ids(self, template: str, attempt: int, passage: str) -> list[int]:
        tokenizer = self.llm.tokenizer
        if template == "rewrite":
            return self.prompts.rewrite_ids(tokenizer, passage)
        if self._in_lines:
            return self.prompts.qa_lines_ids(tokenizer, passage, self.sentence(passage, attempt), BEGUN)
        return self.prompts.qa_ids(tokenizer, passage)

    def _generate(
        self, prompts: Sequence[Sequence[int]], passages: Sequence[str], purpose: str
    ) -> list[Reply | GenerationFailure]:
        settings, llm = self.settings, self.llm
        ends = end_tokens(llm.model.generation_config)
        asks_pairs = purpose.startswith("qa")
        in_lines = asks_pairs and self._in_lines
        is_complete = (holds_pair if in_lines else holds_qa_pairs) if asks_pairs else None
        longest = settings.augment_max_new_tokens
        longest = min(longest, MAX_NEW_TOKENS) if in_lines else longest
        cut: set[int] = set()
        batches: list[tuple[Sequence[int], ReplyEnds]] = []

        def make_processors(rows: Sequence[int]) -> list[LogitsProcessor]:
            made: list[LogitsProcessor] = []
            if settings.constrained and asks_pairs:
                vocab_size = int(llm.model.get_output_embeddings().weight.shape[0])  # type: ignore[no-untyped-call]
                made.append(JsonConstraint(llm.tokenizer, vocab_size, qa_schema(), len(rows)))
            if settings.temperature > 0:
                seeds = [self._seed(purpose, passages[row]) for row in rows]
                made.append(
                    RowSampler(seeds, settings.temperature, settings.sample_top_k, settings.augment_max_new_tokens)
                )
            ending = ReplyEnds(llm.tokenizer, ends, len(rows), is_complete, "\n" if in_lines else "]")
            batches.append((rows, ending))
            return [*made, ending]

        with self.autocast():
            texts = generate_each(llm, prompts, longest, make_processors=make_processors)
        for rows, ending in batches if ends else ():
            cut.update(row for row, ended in zip(rows, ending.ended.tolist(), strict=True) if not ended)
        return [
            text if isinstance(text, GenerationFailure) else Reply(text, "the reply was cut" if row in cut else "")
            for row, text in enumerate(texts)
        ]
