"""BM25 in memory, for corpora that fit."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, astuple
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rank_bm25 import BM25Okapi

from prag_lightning.data.corpus import corpus_facts, file_stamp, read_corpus
from prag_lightning.errors import InputError
from prag_lightning.records import Json, Passage
from prag_lightning.retrieval.base import Hit, VersionedRetriever, report_wordless
from prag_lightning.retrieval.tokenisation import Tokenisation


class _BM25(BM25Okapi):  # type: ignore[misc]
    """Okapi BM25 with Lucene's idf, which is above 0 for every word.

    BM25Okapi's own is 0 for a word in half of the passages: in a small corpus it hides the passage that is looked for.
    """

    def _calc_idf(self, doc_freq: dict[str, int]) -> None:
        passages = self.corpus_size
        self.idf = {word: math.log(1 + (passages - freq + 0.5) / (freq + 0.5)) for word, freq in doc_freq.items()}


class RankBM25Retriever(VersionedRetriever):
    """Okapi BM25 over title and text; the corpus is read at the first search, and again when its file has changed.

    Args:
        corpus: A corpus file, or passages. (`Path` in the type also keeps jsonargparse from reading the file itself.)
        tokenisation: How text becomes words.
        k1: Term frequency saturation of BM25.
        b: Length normalisation of BM25, 0 to 1.
    """

    def __init__(
        self,
        corpus: str | Path | Sequence[Passage],
        tokenisation: Tokenisation = Tokenisation(),  # noqa: B008  frozen, so sharing it is safe
        k1: float = 1.5,
        b: float = 0.75,
    ) -> None:
        self.corpus, self.tokenisation, self.k1, self.b = corpus, tokenisation, k1, b
        self._passages: list[Passage] = []
        self._bm25: _BM25 | None = None
        self._stamp: tuple[int, int] | None = None

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`; equal scores keep the corpus's order.

        Raises:
            InputError: if the corpus cannot be read, or holds no word.
        """
        bm25 = self._index()
        words = ([word for word in self.tokenisation(query) if word in bm25.idf] for query in queries)
        return [self._best(bm25.get_scores(known), k) for known in words]

    def settings(self) -> dict[str, Json]:
        """See `VersionedRetriever`."""
        return {"retriever": "rank_bm25", "tokenisation": asdict(self.tokenisation), "k1": self.k1, "b": self.b}

    def corpus_version(self) -> str | None:
        """A hash of the corpus; `None` if its file cannot be read."""
        if not isinstance(self.corpus, (str, Path)):
            text = json.dumps([_facts(passage) for passage in self.corpus])
            return hashlib.sha256(text.encode()).hexdigest()
        with suppress(InputError):
            return str(corpus_facts(Path(self.corpus))["corpus_sha256"])
        return None

    def _best(self, scores: NDArray[np.float64], k: int) -> list[Hit]:
        """The best passages by their scores `[passages]`; 0 is that of a passage without any word of the query."""
        hits: dict[str, Hit] = {}
        for place in np.argsort(-scores, kind="stable"):
            if len(hits) >= k or scores[place] <= 0:
                break
            passage = self._passages[place]
            hits.setdefault(passage.text, Hit(passage, float(scores[place])))
        return list(hits.values())

    def _index(self) -> _BM25:
        """The index of the corpus as it is now."""
        corpus = self.corpus
        stamp = file_stamp(Path(corpus)) if isinstance(corpus, (str, Path)) else None
        if self._bm25 is None or stamp not in (None, self._stamp):
            passages = read_corpus(corpus) if isinstance(corpus, (str, Path)) else list(corpus)
            if not passages:
                raise InputError("the corpus holds no passage", where="data.corpus", hint="Give at least one passage")
            words = [self.tokenisation(passage.searched) for passage in passages]
            if not any(words):
                raise InputError("the corpus holds no word to search by", where="data.corpus", hint="Give text")
            report_wordless(sum(not each for each in words))
            self._passages, self._bm25, self._stamp = passages, _BM25(words, k1=self.k1, b=self.b), stamp
        return self._bm25


def _facts(passage: Passage) -> list[Json]:
    """What tells a passage from others, as before passages had sources if it has none."""
    source = [] if passage.source is None else list(astuple(passage.source))
    return [passage.text, passage.id, passage.title, *source]
