"""BM25 in memory, for corpora that fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rank_bm25 import BM25Okapi

from prag_lightning.data.corpus import read_corpus
from prag_lightning.errors import InputError
from prag_lightning.records import Passage
from prag_lightning.retrieval.base import Hit, Retriever
from prag_lightning.retrieval.tokenisation import Tokenisation


class RankBM25Retriever(Retriever):
    """Okapi BM25 over title and text; the corpus is read at the first search.

    Args:
        corpus: A corpus file, or passages. (`Path` in the type also keeps jsonargparse from reading the file itself.)
        tokenisation: How text becomes words.
        k1: How fast a word's repetition stops to count.
        b: How much long passages are held back.
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
        self._bm25: BM25Okapi | None = None

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`; equal scores keep the corpus's order."""
        bm25 = self._index()
        found = []
        for query in queries:
            words = [word for word in self.tokenisation(query) if word in bm25.idf]
            found.append(self._best(bm25, words, k) if words else [])
        return found

    def _best(self, bm25: BM25Okapi, words: Sequence[str], k: int) -> list[Hit]:
        """The best passages that hold one of `words`; in a small corpus BM25 scores of these can be 0 or less."""
        scores: NDArray[np.float64] = bm25.get_scores(words)
        hits: dict[str, Hit] = {}
        for place in np.argsort(-scores, kind="stable"):
            if len(hits) >= k:
                break
            if any(word in bm25.doc_freqs[place] for word in words):
                passage = self._passages[place]
                hits.setdefault(passage.text, Hit(passage, float(scores[place])))
        return list(hits.values())

    def _index(self) -> BM25Okapi:
        if self._bm25 is None:
            self._passages = read_corpus(self.corpus) if isinstance(self.corpus, (str, Path)) else list(self.corpus)
            if not self._passages:
                raise InputError("the corpus holds no passage", where="data.corpus", hint="Give at least one passage")
            words = [self.tokenisation(f"{passage.title} {passage.text}") for passage in self._passages]
            if not any(words):
                raise InputError("the corpus holds no word to search by", where="data.corpus")
            self._bm25 = BM25Okapi(words, k1=self.k1, b=self.b)
        return self._bm25
