"""A BM25 index on disk: built in a stream, in memory that hardly grows with the corpus, and opened without reading it.

The scores are those of bm25s, in the files that bm25s keeps them in. Vocabulary and passages stand beside them in files
of our own, since bm25s reads its own kinds whole when it opens an index. A folder holds:

- `index.json`: format, settings, corpus and sizes; written last, so a folder without it is no index.
- `data.csc.index.npy`, `indices.csc.index.npy`, `indptr.csc.index.npy`: score `[P]` and passage `[P]` of each pair of a
  word and a passage that holds it, by word, and where each word's pairs begin `[V + 1]`.
- `words.bin`, `word_ends.npy`: the words, sorted by their bytes, and where each ends `[V]`.
- `passages.bin`, `passage_ends.npy`: a JSON list of text, id and title a passage, with document, page, line and
  heading if it has a source, and where each ends `[D]`.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from prag_lightning.files import path_in_errors
from prag_lightning.records import Passage

SCORES, PASSAGES_OF, STARTS = "data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy"
WORDS, PASSAGES = "word", "passage"
_BLOCK = 50_000
"""Passages that are turned into pairs of word and passage at once."""
_PAIRS_AT_ONCE = 40_000_000
"""Pairs that are put in order at once: about 2 GB of memory."""


class Strings:
    """Byte strings in two files, of which only those that are asked for are read.

    Args:
        folder: Where the files are.
        name: What they begin with.

    Raises:
        ValueError: if the files do not belong together.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._ends = np.load(folder / f"{name}_ends.npy", mmap_mode="r")
        with (folder / f"{name}s.bin").open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._bytes) != self._ends[-1]:
            raise ValueError(f"{name}s.bin has {len(self._bytes)} bytes, not {self._ends[-1]}")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> bytes:
        start = int(self._ends[place - 1]) if place else 0
        return self._bytes[start : int(self._ends[place])]

    def find(self, string: bytes) -> int | None:
        """The place of a string among strings that are sorted."""
        place = bisect_left(range(len(self)), string, key=self.__getitem__)
        return place if place < len(self) and self[place] == string else None


@dataclass(frozen=True)
class IndexSize:
    """What an index holds: passages, distinct words, pairs of a word and a passage that holds it, and passages without
    any word."""

    passages: int
    words: int
    pairs: int
    wordless: int


def build_index(
    folder: Path, passages: Iterable[Passage], words_of: Callable[[str], list[str]], k1: float, b: float
) -> IndexSize:
    """Write all files of an index but `index.json`.

    Two passes: the first writes passages and, by passage, their words; the second sorts these by word, a few million at
    a time. Memory holds the vocabulary, eight bytes a passage, and one such piece.

    Args:
        folder: An empty folder.
        passages: Read once.
        words_of: Splits a text into words.
        k1: Term frequency saturation of BM25.
        b: Length normalisation of BM25, 0 to 1.
    """
    spool = folder / "spool"
    spool.mkdir()
    vocabulary: dict[str, int] = {}
    lengths: list[NDArray[np.int64]] = []
    doc_freq = np.zeros(0, np.int64)
    with ExitStack() as files:
        strings, ends = files.enter_context((folder / f"{PASSAGES}s.bin").open("wb")), _Ends()
        spooled = [files.enter_context((spool / name).open("wb")) for name in ("passages", "words", "counts")]
        for block in _blocks(passages):
            of_words = [_word_ids(words_of(each.searched), vocabulary) for each in block]
            for each in block:
                source = () if each.source is None else astuple(each.source)
                text = json.dumps([each.text, each.id, each.title, *source], ensure_ascii=False)
                ends.add(strings.write(text.encode()))
            doc_freq = np.pad(doc_freq, (0, len(vocabulary) - len(doc_freq)))
            _spool(of_words, sum(map(len, lengths)), doc_freq, spooled)
            lengths.append(np.array([len(ids) for ids in of_words]))
        ends.save(folder / f"{PASSAGES}_ends.npy")
    order = _save_words(folder, vocabulary)
    all_lengths = np.concatenate(lengths) if lengths else np.zeros(0, np.int64)
    size = IndexSize(len(all_lengths), len(vocabulary), int(doc_freq.sum()), int((all_lengths == 0).sum()))
    if size.pairs:
        _sort_scores(folder, spool, doc_freq[order], np.argsort(order), all_lengths, (k1, b))
    shutil.rmtree(spool)
    return size


class _Ends:
    """Running ends of strings that are written one after another."""

    def __init__(self) -> None:
        self._at = 0
        self._blocks: list[NDArray[np.int64]] = []
        self._open: list[int] = []

    def add(self, length: int) -> None:
        self._at += length
        self._open.append(self._at)
        if len(self._open) == _BLOCK:
            self._blocks.append(np.array(self._open))
            self._open = []

    def save(self, path: Path) -> None:
        np.save(path, np.concatenate([*self._blocks, np.array(self._open, np.int64)]))


def _blocks(passages: Iterable[Passage]) -> Iterator[list[Passage]]:
    block: list[Passage] = []
    for passage in passages:
        block.append(passage)
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block


def _word_ids(words: list[str], vocabulary: dict[str, int]) -> list[int]:
    return [vocabulary.setdefault(word, len(vocabulary)) for word in words]


def _spool(of_words: list[list[int]], first: int, doc_freq: NDArray[np.int64], files: Sequence[BinaryIO]) -> None:
    """Append a block's pairs of passage and word with how often it stands there, and count each word's passages."""
    lengths = [len(ids) for ids in of_words]
    passages = np.repeat(np.arange(len(of_words), dtype=np.int64), lengths)
    words = np.fromiter((word for ids in of_words for word in ids), np.int64, len(passages))
    pairs, counts = np.unique(passages << 32 | words, return_counts=True)
    columns = (pairs >> 32) + first, pairs & 0xFFFFFFFF, counts
    doc_freq += np.bincount(columns[1], minlength=len(doc_freq))
    for file, column in zip(files, columns, strict=True):
        file.write(column.astype(np.int32).tobytes())


def _save_words(folder: Path, vocabulary: dict[str, int]) -> NDArray[np.int64]:
    """Write the sorted words, and give the number that each had before."""
    words, ends = sorted((word.encode(), number) for word, number in vocabulary.items()), _Ends()
    with (folder / f"{WORDS}s.bin").open("wb") as file:
        for word, _ in words:
            ends.add(file.write(word))
    ends.save(folder / f"{WORDS}_ends.npy")
    return np.array([number for _, number in words], np.int64)


def _sort_scores(
    folder: Path,
    spool: Path,
    doc_freq: NDArray[np.int64],
    place_of: NDArray[np.int64],
    lengths: NDArray[np.int64],
    k1_and_b: tuple[float, float],
) -> None:
    """Write each pair's score to its place: by word, then by passage.

    The score is Lucene's BM25, `idf * tf / (tf + k1 * (1 - b + b * length / mean length))`, as bm25s computes it.
    """
    k1, b = k1_and_b
    idf = np.log(1 + (len(lengths) - doc_freq + 0.5) / (doc_freq + 0.5)).astype(np.float32)
    length_norm = k1 * (1 - b + b * lengths / lengths.mean())
    starts = np.concatenate([[0], np.cumsum(doc_freq)])
    np.save(folder / STARTS, starts)
    pairs = int(starts[-1])
    scores = _new_array(folder / SCORES, np.float32, pairs)
    passages_of = _new_array(folder / PASSAGES_OF, np.int32, pairs)
    columns = [np.memmap(spool / name, np.int32, "r", shape=(pairs,)) for name in ("passages", "words", "counts")]
    next_place = starts[:-1].copy()
    for start in range(0, pairs, _PAIRS_AT_ONCE):
        passages, spooled, counts = (column[start : start + _PAIRS_AT_ONCE] for column in columns)
        words = place_of[spooled]
        order = np.argsort(words, kind="stable")
        passages, words, repeats = passages[order], words[order], counts[order].astype(np.float32)
        present, first, many = np.unique(words, return_index=True, return_counts=True)
        places = next_place[words] + np.arange(len(words)) - np.repeat(first, many)
        scores[places] = idf[words] * (repeats / (repeats + length_norm[passages]))
        passages_of[places] = passages
        next_place[present] += many
    scores.flush()
    passages_of.flush()


def _new_array(path: Path, dtype: type[np.generic], length: int) -> np.memmap[Any, Any]:
    """An array that is mapped from a new file, whose room on disk is taken at once: where a disk is full, writing to a
    mapping would kill the process."""
    array = open_memmap(path, "w+", dtype, (length,))
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file, path_in_errors(path):
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
