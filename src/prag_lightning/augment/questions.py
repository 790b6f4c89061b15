"""Which passages of which questions are augmented."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from prag_lightning.augment.base import Augmenter
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Question
from prag_lightning.retrieval import Hit


def augment_questions(
    questions: Sequence[Question], candidates: Sequence[Sequence[str]], topk: int | Sequence[int], augmenter: Augmenter
) -> list[AugmentedQuestion]:
    """Augment the best `topk` passages of each question; one that fails is skipped and the next candidate takes its
    place.

    Args:
        questions: To be augmented.
        candidates: Texts of each question's passages, best first, each once.
        topk: Passages a question gets, if it has so many that succeed; one number for all, or one each.
        augmenter: Writes; is asked for each passage once.
    """
    counts = [topk] * len(questions) if isinstance(topk, int) else topk
    results: dict[str, AugmentedPassage | None] = {}
    while True:
        needed = (p for texts, count in zip(candidates, counts, strict=True) for p in _needed(texts, count, results))
        wanted = [passage for passage in needed if passage not in results]
        if not wanted:
            break
        results.update(augmenter.augment(list(dict.fromkeys(wanted))))
    records = []
    for question, texts, count in zip(questions, candidates, counts, strict=True):
        found = (results[passage] for passage in _needed(texts, count, results))
        chosen = [augmented for augmented in found if augmented is not None]
        passages = tuple(replace(augmented, pid=pid) for pid, augmented in enumerate(chosen))
        records.append(AugmentedQuestion(question, passages))
    return records


def with_hits(record: AugmentedQuestion, hits: Sequence[Hit]) -> AugmentedQuestion:
    """A question whose passages say which of the corpus they are, and what they scored.

    Args:
        record: Of any passages.
        hits: What was found for the question, best first; of the same text the first counts.
    """
    by_text = {hit.passage.text: hit for hit in reversed(hits)}
    passages = (
        replace(passage, origin=hit.passage, score=hit.score) if (hit := by_text.get(passage.passage)) else passage
        for passage in record.passages
    )
    return replace(record, passages=tuple(passages))


class KnownFirst:
    """Gives the passages that were augmented before; others are augmented, and known from then on.

    Args:
        known: By text.
        make: Makes what augments the others; called when the first of them comes.
        check: Called after that, when all is known of the writer.
    """

    def __init__(
        self,
        known: dict[str, AugmentedPassage],
        make: Callable[[], Augmenter],
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self.known, self._make, self._check = known, make, check
        self._augmenter: Augmenter | None = None

    def augment(self, passages: Sequence[str]) -> Iterator[tuple[str, AugmentedPassage | None]]:
        """See `Augmenter`."""
        others = [passage for passage in passages if passage not in self.known]
        yield from ((passage, self.known[passage]) for passage in passages if passage in self.known)
        if others:
            if self._augmenter is None:
                self._augmenter = self._make()
                self._check()
            for passage, augmented in self._augmenter.augment(others):
                if augmented is not None:
                    self.known[passage] = augmented
                yield passage, augmented


@dataclass(frozen=True)
class OnlyKnown:
    """An augmenter of passages that have been written about before, and of no others.

    Args:
        known: Gives them, by text.
    """

    known: Callable[[], Mapping[str, AugmentedPassage | None]]

    def augment(self, passages: Sequence[str]) -> Iterator[tuple[str, AugmentedPassage | None]]:
        """See `Augmenter`."""
        known = self.known()
        return ((passage, known.get(passage)) for passage in passages)


def _needed(texts: Sequence[str], topk: int, results: dict[str, AugmentedPassage | None]) -> list[str]:
    """The first passages of which `topk` have not failed, as far as is known."""
    alive = (passage for passage in texts if passage not in results or results[passage] is not None)
    return list(islice(alive, topk))
