"""Answers to questions with passages, by one of the methods, without Lightning."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import cast

from prag_lightning.data.chat_text import Message
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError, PragError
from prag_lightning.inference.confidence import ClosedPrompt, answer_part, mean_log_probabilities
from prag_lightning.inference.methods import InferenceMethod, uses_adapters, uses_passages
from prag_lightning.journal import Journal
from prag_lightning.llm.generation import GenerationFailure, generate_each, stream
from prag_lightning.llm.loading import LLM
from prag_lightning.lora.merge import merge, merge_all, stack
from prag_lightning.lora.names import Merge
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Json
from prag_lightning.training.library import AdapterLibrary

Row = dict[str, Json]
"""What `predict.json` says of a question."""


@dataclass(frozen=True)
class Adapters:
    """Where the adapters of questions come from.

    Args:
        library: Has those of passages.
        merge: How those of one question are merged.
    """

    library: AdapterLibrary
    merge: Merge = "sum"

    def keys(self, passages: Sequence[AugmentedPassage]) -> list[str]:
        """The keys of the passages' adapters."""
        return [self.library.key(passage) for passage in passages]

    def load(
        self, passages: Sequence[AugmentedPassage], test_id: int | None = None, scores: Sequence[float] = ()
    ) -> LoraWeights:
        """The merged adapter of passages.

        Args:
            passages: Best ranked first.
            test_id: Of the question whose they are, for messages.
            scores: Of the passages, if the merge takes them.

        Raises:
            InputError: naming the passage whose adapter is missing or damaged.
        """
        return merge(self._each(passages, test_id), self.merge, scores, lora_a=self.library.recipe.lora_a)

    def load_all(
        self,
        questions: Sequence[Sequence[AugmentedPassage]],
        test_ids: Sequence[int],
        scores: Sequence[Sequence[float]],
    ) -> LoraWeights:
        """The merged adapters of several questions' passages as a stack; see `load`."""
        loaded = [self._each(passages, test_id) for passages, test_id in zip(questions, test_ids, strict=True)]
        return merge_all(loaded, self.merge, scores, lora_a=self.library.recipe.lora_a)

    def _each(self, passages: Sequence[AugmentedPassage], test_id: int | None) -> list[LoraWeights]:
        """The adapters of a question's passages; without any, what they would start from, which changes nothing."""
        whose = "" if test_id is None else f" of question {test_id}"
        return [
            self.library.store.load(key, f"the passage {passage.passage[:60]!r}{whose}")
            for key, passage in zip(self.keys(passages), passages, strict=True)
        ] or [self.library.base_weight]


@dataclass(frozen=True)
class Prepared:
    """What an answer is written from.

    Args:
        ids: Of the prompt.
        adapter: Merged of those of the passages; none for the plain model.
        scaling: Of its update.
    """

    ids: list[int]
    adapter: LoraWeights | None = None
    scaling: float = 1.0


@dataclass(frozen=True)
class Answerer:
    """Answers batches of questions.

    Args:
        llm: The model.
        prompts: The templates.
        method: How passages are used.
        max_new_tokens: Longest answer.
        adapters: Needed by `prag` and `combine`.
        with_cot: Ask for a chain of thought.
        dataset: Whose worked examples to show.
        precision: The trainer's, by name: an answer of another precision is another answer.
        abstain_below: Say how sure the model is of each answer, and which it had better not give; see `abstains`.
    """

    llm: LLM
    prompts: PromptTemplates
    method: InferenceMethod
    max_new_tokens: int
    adapters: Adapters | None = None
    with_cot: bool = False
    dataset: str = ""
    precision: str = "32-true"
    abstain_below: float | None = None

    def answer(
        self,
        batch: Sequence[AugmentedQuestion],
        journal: Journal,
        encoded: Sequence[Sequence[AugmentedPassage]] | None = None,
        scores: Sequence[Sequence[float]] = (),
    ) -> list[Row]:
        """Rows of `predict.json`, unscored, with the seconds that each took; that of a question which cannot be
        answered has the reason under `unanswered` in place of these.

        Args:
            batch: Questions with their passages.
            journal: Answers that were given before are taken from it, and new ones put into it.
            encoded: For each question the passages whose adapters are merged; unset means its own.
            scores: For each question those passages' scores in retrieval, if the merge takes them.
        """
        encoded = [record.passages for record in batch] if encoded is None else encoded
        scores = scores or [()] * len(batch)
        prompts = [self._prompt(record) for record in batch]
        keys = [self._key(*decisive) for decisive in zip(prompts, encoded, scores, strict=True)]
        missing = [i for i, key in enumerate(keys) if journal.get(key) is None]
        replies: dict[str, str | GenerationFailure] = {}
        if missing:
            started = time.perf_counter()
            found = self.replies(
                [batch[i] for i in missing], [encoded[i] for i in missing], [scores[i] for i in missing]
            )
            replies = dict(zip((keys[i] for i in missing), found, strict=True))
            seconds = (time.perf_counter() - started) / len(missing)
            journal.add(
                {"key": key, "text": reply, "seconds": seconds}
                for key, reply in replies.items()
                if isinstance(reply, str)
            )
        rows = [
            _row(record, journal.get(key) or replies[key]) | self._rests_on(record, own)
            for record, key, own in zip(batch, keys, encoded, strict=True)
        ]
        if self.abstain_below is not None:
            self._rate(rows, keys, batch, journal, encoded, scores)
        return rows

    def _rests_on(self, record: AugmentedQuestion, encoded: Sequence[AugmentedPassage]) -> Row:
        """Under `passages`, where those come from that the method uses; nothing if that is not known of any."""
        shown = record.passages if uses_passages(self.method) else ()
        merged = encoded if uses_adapters(self.method) else ()
        used = {passage.passage: passage for passage in (*shown, *merged)}.values()
        places = [
            passage.origin.place_json() | ({} if passage.score is None else {"score": passage.score})
            for passage in used
            if passage.origin is not None
        ]
        return {"passages": places} if places else {}

    def _rate(
        self,
        rows: Sequence[Row],
        keys: Sequence[str],
        batch: Sequence[AugmentedQuestion],
        journal: Journal,
        encoded: Sequence[Sequence[AugmentedPassage]],
        scores: Sequence[Sequence[float]],
    ) -> None:
        """Put into rows how sure the model is of their answers, from the journal where that has it."""
        rated = {i: f"log_probability {keys[i]}" for i, row in enumerate(rows) if "unanswered" not in row}
        missing = [i for i, key in rated.items() if journal.get(key) is None]
        if missing:
            started = time.perf_counter()
            texts = [rows[i]["text"] for i in missing]
            found = self.log_probabilities(
                [batch[i] for i in missing], texts, [encoded[i] for i in missing], [scores[i] for i in missing]
            )
            seconds = (time.perf_counter() - started) / len(missing)
            journal.add(
                {"key": rated[i], "text": rows[i]["text"], "seconds": seconds, "log_probability": value}
                for i, value in zip(missing, found, strict=True)
            )
        for i, key in rated.items():
            value = cast(Row, journal.get(key))["log_probability"]
            rows[i] |= {"log_probability": value, "abstained": self.abstains(value)}

    def abstains(self, log_probability: float) -> bool:
        """Whether an answer is too unsure to be given."""
        return self.abstain_below is not None and log_probability < self.abstain_below

    def log_probabilities(
        self,
        batch: Sequence[AugmentedQuestion],
        texts: Sequence[str],
        encoded: Sequence[Sequence[AugmentedPassage]],
        scores: Sequence[Sequence[float]],
    ) -> list[float]:
        """How sure the model is of its replies, in nats a token of the answer: as far as its end, with the full stop
        that training puts after answers; for the other arguments see `answer`.

        Args:
            batch: Questions that can be answered.
            texts: The replies to them, of any method.
            encoded: As in `answer`.
            scores: As in `answer`.
        """
        shown = uses_passages(self.method)
        adapters, scaling = self._merged(batch, encoded, scores, range(len(batch)))
        rows = [self._closed(record, text, shown=shown) for record, text in zip(batch, texts, strict=True)]
        return mean_log_probabilities(self.llm, rows, adapters, scaling)

    def log_probability(
        self, record: AugmentedQuestion, text: str, prepared: Prepared, earlier: Sequence[Message] = ()
    ) -> float:
        """How sure the model is of a reply that was written from what was prepared for it; see `log_probabilities`."""
        adapters = None if prepared.adapter is None else stack([prepared.adapter])
        row = self._closed(record, text, shown=uses_passages(self.method), earlier=earlier)
        (value,) = mean_log_probabilities(self.llm, [row], adapters, prepared.scaling)
        return value

    def _closed(
        self, record: AugmentedQuestion, text: str, *, shown: bool, earlier: Sequence[Message] = ()
    ) -> ClosedPrompt:
        """A question's prompt, with its passages or without, and a reply to it as far as its answer goes."""
        passages = [p.passage for p in record.passages] if shown else []
        prompt, closed = (
            self.prompts.question_ids(
                self.llm.tokenizer,
                record.question.question,
                passages,
                answer=answer,
                with_cot=self.with_cot,
                dataset=self.dataset,
                earlier=earlier,
            )
            for answer in (None, answer_part(text, self.with_cot))
        )
        return ClosedPrompt.of(prompt, closed, self.llm.context)

    def is_answered(
        self,
        record: AugmentedQuestion,
        journal: Journal,
        encoded: Sequence[AugmentedPassage],
        scores: Sequence[float] = (),
    ) -> bool:
        """Whether the journal has the answer to a question; for the arguments see `answer`."""
        return journal.get(self._key(self._prompt(record), encoded, scores)) is not None

    def texts(
        self,
        batch: Sequence[AugmentedQuestion],
        encoded: Sequence[Sequence[AugmentedPassage]],
        scores: Sequence[Sequence[float]],
    ) -> list[str]:
        """The LLM's replies to questions; for the arguments see `answer`.

        Raises:
            PragError: if one cannot be answered.
        """
        texts = []
        for record, reply in zip(batch, self.replies(batch, encoded, scores), strict=True):
            if isinstance(reply, GenerationFailure):
                raise _unanswered(record, reply)
            texts.append(reply)
        return texts

    def replies(
        self,
        batch: Sequence[AugmentedQuestion],
        encoded: Sequence[Sequence[AugmentedPassage]],
        scores: Sequence[Sequence[float]],
    ) -> list[str | GenerationFailure]:
        """As `texts`, but a question that cannot be answered has the reason in place of a reply."""
        prompts = [self._prompt(record) for record in batch]
        unanswerable = {i: why for i, why in enumerate(map(self._unanswerable, prompts, encoded)) if why is not None}
        able = [i for i in range(len(batch)) if i not in unanswerable]
        if not able:
            return list(unanswerable.values())
        merged, scaling = self._merged(batch, encoded, scores, able)
        chosen = [cast(list[int], prompts[i]) for i in able]
        texts = [
            self.prompts.answer_of(self.llm.tokenizer, text, with_cot=self.with_cot) if isinstance(text, str) else text
            for text in generate_each(self.llm, chosen, self.max_new_tokens, adapters=merged, scaling=scaling)
        ]
        replies: dict[int, str | GenerationFailure] = {**unanswerable, **dict(zip(able, texts, strict=True))}
        return [replies[i] for i in range(len(batch))]

    def prepare(self, record: AugmentedQuestion, scores: Sequence[float], earlier: Sequence[Message] = ()) -> Prepared:
        """What the answer to one question is written from, by whoever decodes.

        Args:
            record: The question with its passages.
            scores: Of the passages in retrieval, if the merge takes them.
            earlier: The conversation before it.

        Raises:
            PragError: if it cannot be answered.
        """
        prompt = self._prompt(record, earlier)
        failure = self._unanswerable(prompt, record.passages)
        if failure is not None or isinstance(prompt, GenerationFailure):
            raise _unanswered(record, cast(GenerationFailure, failure))
        if self._adapters is None:
            return Prepared(prompt)
        merged = self._adapters.load(record.passages, scores=scores)
        return Prepared(prompt, merged, self._adapters.library.scaling)

    def stream(
        self, record: AugmentedQuestion, encoded: Sequence[AugmentedPassage], scores: Sequence[float]
    ) -> Generator[str, None, None]:
        """The LLM's reply to one question in pieces while it is written, without blanks around it; see
        `prag_lightning.llm.generation.stream`, and for the arguments `answer`.

        Raises:
            PragError: if it cannot be answered.
        """
        prompt = self._prompt(record)
        failure = self._unanswerable(prompt, encoded)
        if failure is not None or isinstance(prompt, GenerationFailure):
            raise _unanswered(record, cast(GenerationFailure, failure))
        merged, scaling = self._merged([record], [encoded], [scores], [0])
        pieces = stream(self.llm, prompt, self.max_new_tokens, adapters=merged, scaling=scaling)

        def told() -> Generator[str, None, None]:
            with closing(pieces):
                yield from self.prompts.answers_of(self.llm.tokenizer, pieces, with_cot=self.with_cot)

        return told()

    def _merged(
        self,
        batch: Sequence[AugmentedQuestion],
        encoded: Sequence[Sequence[AugmentedPassage]],
        scores: Sequence[Sequence[float]],
        rows: Sequence[int],
    ) -> tuple[LoraWeights | None, float]:
        """The stack of the merged adapters of some of the questions, if the method uses any, and their scaling."""
        if self._adapters is None:
            return None, 1.0
        ids = [batch[i].question.test_id for i in rows]
        merged = self._adapters.load_all([encoded[i] for i in rows], ids, [scores[i] for i in rows])
        return merged, self._adapters.library.scaling

    def _unanswerable(
        self, prompt: list[int] | GenerationFailure, passages: Sequence[AugmentedPassage]
    ) -> GenerationFailure | None:
        """Why a question cannot be answered: there is no prompt, or there can be no adapter of one of its passages."""
        if isinstance(prompt, GenerationFailure):
            return prompt
        library = None if self._adapters is None else self._adapters.library
        for passage in passages if library is not None and library.unencodable else ():
            assert library is not None
            key = library.key(passage)
            if key in library.unencodable and key not in library.store:
                reason = library.unencodable[key]
                return GenerationFailure(f"the passage {passage.passage[:60]!r} could not be encoded: {reason}")
        return None

    @property
    def _adapters(self) -> Adapters | None:
        return self.adapters if uses_adapters(self.method) else None

    def _prompt(self, record: AugmentedQuestion, earlier: Sequence[Message] = ()) -> list[int] | GenerationFailure:
        passages = [p.passage for p in record.passages] if uses_passages(self.method) else []
        question = record.question.question
        try:
            return self.prompts.question_ids(
                self.llm.tokenizer, question, passages, with_cot=self.with_cot, dataset=self.dataset, earlier=earlier
            )
        except InputError as error:
            return GenerationFailure(str(error))

    def _key(
        self, prompt: list[int] | GenerationFailure, passages: Sequence[AugmentedPassage], scores: Sequence[float]
    ) -> str:
        """Of everything that decides an answer."""
        adapters = self._adapters
        merged = (
            []
            if adapters is None
            else [adapters.keys(passages), adapters.library.store.adapter_format, adapters.merge, list(scores)]
        )
        content = [
            self.llm.answer_fingerprint,
            self.precision,
            self.max_new_tokens,
            prompt if isinstance(prompt, list) else prompt.reason,
            merged,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _unanswered(record: AugmentedQuestion, failure: GenerationFailure) -> PragError:
    return PragError(f"the question cannot be answered: {failure.reason}", where=record.question.question)


def _row(record: AugmentedQuestion, entry: Json | GenerationFailure) -> Row:
    question = record.question
    row: Row = {"test_id": question.test_id, "question": question.question, "answer": question.answer_json}
    if isinstance(entry, GenerationFailure):
        return {**row, "unanswered": entry.reason}
    return {**row, "text": entry["text"], "seconds": entry["seconds"]}
