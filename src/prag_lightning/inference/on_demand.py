"""Passages for questions that nobody foresaw: retrieved, augmented and encoded as far as that has not been done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from prag_lightning.augment.base import Augmenter
from prag_lightning.augment.questions import augment_questions, with_hits
from prag_lightning.errors import PragError
from prag_lightning.processes import ALONE, Processes
from prag_lightning.progress import Progress
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Question
from prag_lightning.retrieval import Hit, Retriever, report_unfound
from prag_lightning.training.library import AdapterLibrary, PendingPassage


@dataclass
class OnDemand:
    """Finds the passages of questions, and provides what is missing of their adapters.

    Args:
        retriever: Finds passages.
        topk: Passages a question.
        spare: How many more are retrieved, to take the place of those that cannot be augmented.
        library: Has the adapters, or makes them; `None` where only the passages' texts are used.
        augmenter: Augments passages, or has them; not asked where no adapters are used.
        group_tokens: Tokens in a step of passages that are encoded together; see `group_passages`.
        processes: Those that share the groups.
    """

    retriever: Retriever
    topk: int
    spare: int
    library: AdapterLibrary | None
    augmenter: Augmenter
    group_tokens: Callable[[Sequence[PendingPassage]], int]
    processes: Processes = ALONE
    seconds: dict[str, float] = field(default_factory=dict)
    """What the last questions' passages took, by kind of work."""
    hits: dict[str, Hit] = field(default_factory=dict)
    """What the retriever found last, by text."""
    encoded: int = 0
    """How many adapters were made for the last questions."""

    def passages(self, questions: Sequence[Question]) -> list[AugmentedQuestion]:
        """Each question with its passages, best first; their adapters are in the library, but for those that could not
        be encoded."""
        self.seconds = {}
        with self._timed("retrieve"):
            found = self.retriever.search([question.question for question in questions], self.depth)
        if self.processes.rank == 0 and len(questions) > 1:  # who asks one is told with its answer
            report_unfound([question.question for question in questions], found)
        return self.of_hits(questions, found)

    @property
    def depth(self) -> int:
        """How many passages a question may need."""
        return self.topk + (self.spare if self.library is not None else 0)

    def of_hits(self, questions: Sequence[Question], found: Sequence[Sequence[Hit]]) -> list[AugmentedQuestion]:
        """As `passages`, from what was found for each question, best first."""
        self.encoded = 0
        self.hits = {hit.passage.text: hit for hits in found for hit in hits}
        texts = [list(dict.fromkeys(hit.passage.text for hit in hits)) for hits in found]
        if self.library is None:
            return [
                with_hits(AugmentedQuestion(question, tuple(AugmentedPassage(text, "", ()) for text in row)), hits)
                for question, row, hits in zip(questions, texts, found, strict=True)
            ]
        with self._timed("augment"):
            records = augment_questions(questions, texts, self.topk, self.augmenter)
            records = [with_hits(record, hits) for record, hits in zip(records, found, strict=True)]
        with self._timed("encode"):
            self.encode([passage for record in records for passage in record.passages])
        return [self._with_adapters(record) for record in records]

    def provide(self, texts: Sequence[str]) -> list[AugmentedPassage]:
        """Passages by their texts, augmented; their adapters are in the library.

        Raises:
            PragError: naming one that could not be augmented or encoded.
        """
        assert self.library is not None
        written = dict(self.augmenter.augment(texts))
        passages = [passage for text in texts if (passage := written[text]) is not None]
        self.encode(passages)
        for text in texts:
            passage = written[text]
            if passage is None or self.library.key(passage) not in self.library.store:
                reason = "no QA pairs could be had" if passage is None else self.library.failed.get(text, "")
                raise PragError(f"a passage has no adapter: {reason}", where=repr(text[:60]))
        return passages

    def encode(self, passages: Sequence[AugmentedPassage]) -> None:
        """Make the adapters that passages lack; why one could not be made stands in the library's `failed`."""
        assert self.library is not None
        missing = self.library.missing(passages)
        if missing:
            groups = self.library.groups(missing, self.group_tokens(missing))
            self.processes.barrier()
            with Progress("encode", len(missing), "passages") as progress:
                for group in self.processes.share(groups):
                    self.encoded += len(self.library.encode(group))
                    progress.advance(len(group))
        self.processes.barrier()

    def _with_adapters(self, record: AugmentedQuestion) -> AugmentedQuestion:
        """A question with those of its passages that could be encoded."""
        library = self.library
        assert library is not None
        return replace(record, passages=tuple(p for p in record.passages if library.key(p) in library.store))

    @contextmanager
    def _timed(self, work: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[work] = time.perf_counter() - started
