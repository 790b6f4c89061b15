"""What every retriever does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from prag_lightning.data.corpus import corpus_change
from prag_lightning.errors import InputError, shown
from prag_lightning.records import Json, Passage

_SPARE = 10
"""Passages that are looked up beyond those asked for, since some have the same text."""
_DEEPER = 4
"""How many times more are looked up where that was too few."""

Query = TypeVar("Query")


@dataclass(frozen=True)
class Hit:
    """A passage that was found, and its score: higher is better, comparable within one query only."""

    passage: Passage
    score: float


@runtime_checkable
class Retriever(Protocol):
    """Anything that finds passages."""

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Up to `k` passages for each query, best first, no text twice; none for a query that shares no word with
        any."""
        ...


@runtime_checkable
class IndexedRetriever(Retriever, Protocol):
    """A retriever that searches an index, which `prag index` makes of its corpus once."""

    def build(self) -> None:
        """Make the index anew; whoever searches sees the old one, or none, until the new one is whole."""
        ...


@runtime_checkable
class VersionedRetriever(Retriever, Protocol):
    """A retriever that tells what its results depend on, so that passages that it found before can be known to be out
    of date."""

    def settings(self) -> dict[str, Json]:
        """Its kind, and what decides beside the corpus what it finds."""
        ...

    def corpus_version(self) -> str | None:
        """What is another for another corpus, such as a hash of it; `None` if that cannot be told."""
        ...


def report_unfound(queries: Sequence[str], found: Sequence[Sequence[Hit]]) -> None:
    """Say on the standard error for how many queries there is no passage, and the first of them."""
    unfound = [query for query, hits in zip(queries, found, strict=True) if not hits]
    if unfound:
        count = f"{len(unfound)} of {len(queries)}"
        print(
            f"questions that share no word with any passage: {count}, the first: {shown(unfound[0])}", file=sys.stderr
        )


def report_wordless(passages: int) -> None:
    """Say on the standard error how many passages cannot be found, if there are any."""
    if passages:
        print(f"passages without a word to search by, which are never found: {passages}", file=sys.stderr)


def check_corpus(facts: Mapping[str, Json], corpus: Path, where: str) -> None:
    """See that an index is of the corpus as it is now.

    Args:
        facts: `corpus_facts` that the index kept.
        corpus: The file.
        where: The index.

    Raises:
        InputError: if it is of another.
    """
    change = corpus_change(facts, corpus)
    if change is not None:
        raise InputError(
            f"the index was made with {change}", where=where, hint="Make it anew with prag index, or name another"
        )


def distinct(hits: Sequence[Hit], k: int) -> list[Hit]:
    """The first `k` hits, without those whose text an earlier one has."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(hit.passage.text, hit)
    return list(first.values())[:k]


def search_distinct(
    rank: Callable[[list[Query], int], list[list[Hit]]], queries: Sequence[Query], k: int
) -> list[list[Hit]]:
    """The first `k` distinct texts for each query.

    Args:
        rank: Gives the best hits for queries, as many as asked for unless there are no more.
        queries: Whatever `rank` takes.
        k: Passages a query.
    """
    found: list[list[Hit]] = [[] for _ in queries]
    waiting, depth = list(range(len(queries))), k + _SPARE
    while waiting:
        ranked = rank([queries[number] for number in waiting], depth)
        short = []
        for number, hits in zip(waiting, ranked, strict=True):
            found[number] = distinct(hits, k)
            if len(found[number]) < k and len(hits) >= depth:
                short.append(number)
        waiting, depth = short, depth * _DEEPER
    return found
