"""BM25 from an index on disk, for corpora of any size: bm25s over memory-mapped files."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from prag_lightning.data.corpus import CorpusReader, corpus_change, corpus_facts, file_stamp
from prag_lightning.errors import InputError
from prag_lightning.files import path_in_errors, read_json, write_json
from prag_lightning.progress import Progress
from prag_lightning.records import Json, Passage, Source
from prag_lightning.retrieval import index_files
from prag_lightning.retrieval.base import (
    Hit,
    IndexedRetriever,
    VersionedRetriever,
    check_corpus,
    report_wordless,
    search_distinct,
)
from prag_lightning.retrieval.tokenisation import Tokenisation

_FORMAT = 2
"""Changes with the files of an index, and with how text becomes words."""


class BM25sRetriever(IndexedRetriever, VersionedRetriever):
    """BM25 over title and text, from an index that `prag index` makes once. Needs the extra `bm25s`.

    Scores are Lucene's. Where scores are equal, the passages of the corpus that come first win, but for those at the
    cut, of which any may be left out.

    Args:
        index: The index's folder.
        corpus: The corpus file that the index is made of; unset means that whatever the index holds is searched.
        tokenisation: How text becomes words.
        k1: Term frequency saturation of BM25.
        b: Length normalisation of BM25, 0 to 1.
        threads: Queries that are searched side by side.
    """

    def __init__(
        self,
        index: str | Path,
        corpus: str | Path | None = None,
        tokenisation: Tokenisation = Tokenisation(),  # noqa: B008  frozen, so sharing it is safe
        k1: float = 1.5,
        b: float = 0.75,
        threads: int = 1,
    ) -> None:
        self.index, self.corpus = Path(index), None if corpus is None else Path(corpus)
        self.tokenisation, self.k1, self.b, self.threads = tokenisation, k1, b, threads
        self._opened: _OpenIndex | None = None
        self._stamps: tuple[object, object] | None = None

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`; the index is opened at the first search, and again when it has been made anew.

        Raises:
            InputError: if there is no index, or it was made of another corpus or with other settings.
        """
        opened = self._open()
        words = [self.tokenisation(query) for query in queries]
        with self._damage_named():
            return opened.search(words, k, self.threads)

    def _open(self) -> _OpenIndex:
        """The index as it is now, checked against the corpus as it is now."""
        corpus = None if self.corpus is None else file_stamp(self.corpus)
        stamps = file_stamp(self.index / "index.json"), corpus
        if self._opened is None or stamps != self._stamps:
            about = _read_about(self.index)
            self._check(about)
            with self._damage_named():
                self._opened = _OpenIndex(self.index, about)
            self._stamps = stamps
        return self._opened

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, EOFError, IndexError, TypeError) as error:
            raise InputError(
                f"the index is damaged: {error}", where=str(self.index), hint="Make it anew with prag index"
            ) from error

    def build(self) -> None:
        """Make the index of the corpus, in a folder beside its place that is renamed into it when whole.

        Raises:
            InputError: if the corpus is unset, unreadable or holds no word.
        """
        if self.corpus is None:
            raise InputError(
                "there is nothing to index", where="data.retriever.init_args.corpus", hint="Set it to the corpus's file"
            )
        self.index.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.index.with_name(f".{self.index.name}.lock")):
            partial = self.index.with_name(f".{self.index.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                with path_in_errors(self.index):
                    self._build_in(partial, self.corpus)
                _replace(self.index, partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        self._opened = None

    def _build_in(self, folder: Path, corpus: Path) -> None:
        facts, reader = corpus_facts(corpus), CorpusReader(corpus)
        with Progress("index", reader.megabytes, "MB") as progress:
            size = index_files.build_index(folder, reader.with_progress(progress), self.tokenisation, self.k1, self.b)
        reader.report_bad_rows()
        if not size.pairs:
            raise InputError("the corpus holds no word to search by", where=str(corpus))
        check_corpus(facts, corpus, str(self.index))
        report_wordless(size.wordless)
        write_json(folder / "index.json", {"format": _FORMAT, **self._decisive(), **facts, **asdict(size)})
        print(f"{size.passages} passages with {size.words} distinct words in {self.index}", file=sys.stderr)

    def settings(self) -> dict[str, Json]:
        """See `VersionedRetriever`."""
        return {"retriever": "bm25s", **self._decisive()}

    def corpus_version(self) -> str | None:
        """The hash of the corpus that the index is of, with a mark if the file is another by now; `None` if there is no
        index."""
        if not (self.index / "index.json").exists():
            return None
        about = _read_about(self.index)
        changed = self.corpus is not None and self.corpus.exists() and corpus_change(about, self.corpus) is not None
        return f"{about.get('corpus_sha256')}{' (changed)' if changed else ''}"

    def _decisive(self) -> dict[str, Json]:
        return {"tokenisation": asdict(self.tokenisation), "k1": self.k1, "b": self.b}

    def _check(self, about: dict[str, Json]) -> None:
        for name, value in {"format": _FORMAT, **self._decisive()}.items():
            if about.get(name) != value:
                raise InputError(
                    f"the index was made with {name} {about.get(name)!r} where {value!r} is asked for",
                    where=str(self.index),
                    hint="Make it anew with prag index, or name another folder",
                )
        if self.corpus is not None and self.corpus.exists():
            check_corpus(about, self.corpus, str(self.index))


class _OpenIndex:
    """An index whose files are mapped into memory.

    Args:
        folder: Of the index.
        about: What `index.json` says of it.

    Raises:
        InputError: if bm25s is not installed.
        ValueError: if the files are not as long as they should be.
    """

    def __init__(self, folder: Path, about: dict[str, Json]) -> None:
        try:
            import bm25s
        except ImportError as error:
            raise InputError(
                "bm25s is not installed", where="data.retriever", hint="pip install 'prag-lightning[bm25s]'"
            ) from error
        self.words = index_files.Strings(folder, index_files.WORDS)
        self.passages = index_files.Strings(folder, index_files.PASSAGES)
        self.bm25 = bm25s.BM25(backend="auto")
        self.bm25.nonoccurrence_array = None
        self.bm25.unique_token_ids_set = range(len(self.words))
        self.bm25.load_scores(folder, mmap=True, num_docs=len(self.passages))
        held = (len(self.passages), len(self.words), len(self.bm25.scores["data"]), len(self.bm25.scores["indices"]))
        if held != tuple(about.get(name) for name in ("passages", "words", "pairs", "pairs")):
            raise ValueError(f"it holds {held[0]} passages, {held[1]} words and {held[2]} pairs of them")
        # A plain view of the mapping, since numba's compiled search takes no np.memmap.
        self.bm25.scores |= {
            name: np.asarray(array) for name, array in self.bm25.scores.items() if isinstance(array, np.memmap)
        }

    def search(self, queries: Sequence[Sequence[str]], k: int, threads: int) -> list[list[Hit]]:
        """Passages for queries that are split into words."""
        places = [[self.words.find(word.encode()) for word in query] for query in queries]
        known = [[place for place in query if place is not None] for query in places]
        self._check({place for query in known for place in query})
        hits = iter(
            search_distinct(lambda asked, depth: self._best(asked, depth, threads), [each for each in known if each], k)
        )
        return [next(hits) if each else [] for each in known]

    def _check(self, words: set[int]) -> None:
        """See that the pairs of words that are looked up lie within the index: bm25s's compiled search does not.

        Raises:
            ValueError: if they do not.
        """
        scores, passages, starts = (self.bm25.scores[name] for name in ("data", "indices", "indptr"))
        if (scores.dtype, passages.dtype, starts.dtype.kind, len(starts)) != ("f4", "i4", "i", len(self.words) + 1):
            raise ValueError("its files hold numbers of another kind")
        for word in words:
            start, end = int(starts[word]), int(starts[word + 1])
            held = passages[start:end]
            if not 0 <= start < end <= len(passages) or held.min() < 0 or held.max() >= len(self.passages):
                raise ValueError("it points to passages that it does not hold")

    def _best(self, queries: list[list[int]], depth: int, threads: int) -> list[list[Hit]]:
        depth = min(depth, len(self.passages))
        found = self.bm25.retrieve(queries, k=depth, show_progress=False, n_threads=threads)
        return [
            [
                Hit(self._passage(place), float(score))
                for score, place in sorted(zip(scores, places, strict=True), key=lambda pair: (-pair[0], pair[1]))
                if score > 0
            ]
            for places, scores in zip(found.documents, found.scores, strict=True)
        ]

    def _passage(self, place: int) -> Passage:
        text, key, title, *source = json.loads(self.passages[place])
        return Passage(text, key, title, Source(*source) if source else None)


def _read_about(folder: Path) -> dict[str, Any]:
    hint = "Make it with prag index and the same configuration"
    if not (folder / "index.json").exists():
        raise InputError("there is no index", where=str(folder), hint=hint)
    about = read_json(folder / "index.json", hint)
    if not isinstance(about, dict):
        raise InputError("the file describes no index", where=str(folder / "index.json"), hint=hint)
    return about


def _replace(old: Path, new: Path) -> None:
    """Put a folder in the place of another."""
    aside = old.with_name(f".{old.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)
