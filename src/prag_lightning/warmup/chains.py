"""Chains of thought that an LLM writes for questions with known answers, kept where they arrive there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.journal import Journal
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import LLM
from prag_lightning.metrics import COT_MARK, evaluate
from prag_lightning.processes import ALONE, Processes
from prag_lightning.progress import Progress
from prag_lightning.records import Question
from prag_lightning.warmup.rows import WarmupRow


class ChainWriter:
    """Lets an LLM answer questions step by step, the gold sentences in its prompt, and keeps what is exactly right.

    Replies are greedy, so that they do not depend on what is written beside them, and each is put into the journal at
    once. With several processes each writes about its share, and reads there what the others wrote.

    Args:
        llm: Writes.
        prompts: The templates `cot`.
        journal: Replies of this and earlier runs.
        batch_size: Prompts in a batch.
        max_new_tokens: Longest reply.
        autocast: Makes the context that generation runs in, for mixed precision.
        processes: Those that share the questions.
    """

    def __init__(
        self,
        llm: LLM,
        prompts: PromptTemplates,
        journal: Journal,
        batch_size: int,
        max_new_tokens: int,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        processes: Processes = ALONE,
    ) -> None:
        self.llm, self.prompts, self.journal = llm, prompts, journal
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        self.autocast, self.processes = autocast, processes

    def write(self, dataset: str, questions: Sequence[Question], wanted: int) -> tuple[list[WarmupRow], int]:
        """Write about questions in their order until enough chains are right.

        Args:
            dataset: Whose worked examples to show.
            questions: Each with its gold sentences, if it has some.
            wanted: How many rows are enough; -1 means one of each question that can be had.

        Returns:
            The rows, and how many questions were tried.
        """
        wanted = len(questions) if wanted == -1 else wanted
        rows: list[WarmupRow] = []
        tried, together = 0, self.batch_size * self.processes.world_size
        with Progress(f"reason, {dataset}", wanted, "chains") as progress:
            while len(rows) < wanted and tried < len(questions):
                batch = questions[tried : tried + together]
                for question, text in zip(batch, self._texts(dataset, batch), strict=True):
                    if len(rows) < wanted:
                        tried += 1
                        if chain := _arriving(text, question):
                            rows.append(WarmupRow.of(question, chain))
                            progress.advance(1)
        return rows, tried

    def _texts(self, dataset: str, batch: Sequence[Question]) -> list[str]:
        """The LLM's reply to each question, from the journal or written now; none where the prompt leaves no room."""
        prompts = [
            self.prompts.question_ids(
                self.llm.tokenizer, question.question, question.golden_sentences, with_cot=True, dataset=dataset
            )
            for question in batch
        ]
        fitting = [i for i, prompt in enumerate(prompts) if len(prompt) + self.max_new_tokens <= self.llm.context]
        keys = {i: self._key(prompts[i]) for i in fitting}
        mine = [i for i in self.processes.share(fitting) if self.journal.get(keys[i]) is None]
        if mine:
            with self.autocast():
                texts = generate(self.llm, [prompts[i] for i in mine], self.max_new_tokens)
            self.journal.add({"key": keys[i], "text": text} for i, text in zip(mine, texts, strict=True))
        self.processes.barrier()
        if self.processes.world_size > 1:
            self.journal.reload()
        entries = [self.journal.get(keys[i]) if i in keys else None for i in range(len(batch))]
        tokenizer = self.llm.tokenizer
        return [
            "" if entry is None else self.prompts.answer_of(tokenizer, entry["text"], with_cot=True)
            for entry in entries
        ]

    def _key(self, prompt: Sequence[int]) -> str:
        content = [self.llm.answer_fingerprint, str(self.llm.model.dtype), self.max_new_tokens, list(prompt)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _arriving(text: str, question: Question) -> str:
    """The chain in a reply up to its answer, if that is exactly a gold answer; else nothing."""
    reasoning, mark, _ = text.strip().partition(COT_MARK)
    scores = evaluate(text, list(question.answers), with_cot=True)
    return f"{reasoning}{mark} {scores['eval_predict']}" if mark and scores["em"] == 1.0 else ""
