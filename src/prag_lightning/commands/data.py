"""`prag corpus`, `prag index` and `prag data check`: passages, their index, and what is there of them. No torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from prag_lightning.data.benchmarks import SOURCES, load_questions, question_file
from prag_lightning.data.corpus import CorpusReader, check_written, write_passages
from prag_lightning.data.documents import SUFFIXES, DocumentReader, split
from prag_lightning.errors import InputError
from prag_lightning.metrics import Extraction, is_out_of_reach
from prag_lightning.progress import Progress
from prag_lightning.records import Passage
from prag_lightning.retrieval import IndexedRetriever, Retriever

_ROWS_TRIED = 10_000
_DPR_CORPUS = "https://dl.fbaipublicfiles.com/dpr/wikipedia_split/psgs_w100.tsv.gz"


def write_corpus(documents: Path, out: Path, words: int, overlap: int, language: str) -> None:
    """Cut documents into passages and write them as a corpus file; says what became of every file.

    Args:
        documents: A folder of documents, searched through and through, or one file.
        out: The .tsv or .jsonl file to write.
        words: See `split`, as for the others.
        overlap: Sentences.
        language: Of the text.

    Raises:
        InputError: if there is no document, or none has text, or the file cannot stand there.
    """
    for name, value, least in (("words", words, 1), ("overlap", overlap, 0)):
        if value < least:
            raise InputError(f"{name} is {value}", where=f"--{name}", hint=f"Give {least} or more")
    check_written(out)
    reader = DocumentReader(documents)
    passages: list[Passage] = []
    with Progress("cut", len(reader.files), "files") as progress:
        for file in reader.files:
            for document in reader.of_file(file):
                passages += split(document, words, overlap, language)
            progress.advance(1)
    reader.report()
    if not reader.files:
        hint = f"Give files of {', '.join(SUFFIXES)}"
        raise InputError("there is no document", where=str(documents), hint=hint)
    if not passages:
        raise InputError("the documents hold no text", where=str(documents), hint="See above what became of each")
    write_passages(out, passages)
    print(f"{len(passages)} passages in {out}", file=sys.stderr)


def make_index(retriever: Retriever | None) -> None:
    """Make the index of a retriever that keeps one; an earlier one stays in use until the new one is whole.

    Raises:
        InputError: if it keeps none.
    """
    if not isinstance(retriever, IndexedRetriever):
        kind = "rank-bm25 in memory" if retriever is None else type(retriever).__name__
        raise InputError(
            f"the configured retriever, {kind}, keeps no index",
            where="data.retriever",
            hint="Nothing is to be done before a search; for a large corpus see configs/retrieval/bm25s.yaml",
        )
    retriever.build()


def check_data(
    dataset: str | None = None,
    data_path: str | None = None,
    corpus: str | None = None,
    retriever: Retriever | None = None,
    *,
    require_answers: bool = True,
) -> None:
    """Print what is there of questions, corpus and index, and where the missing can be had.

    Args:
        dataset: Unset means each of the paper's.
        data_path: Its file or folder.
        corpus: Passages to retrieve from.
        retriever: Finds them; its own corpus is looked at too.
        require_answers: Whether a question without a gold answer is a mistake.

    Raises:
        InputError: at the end, if something that was named is missing or malformed, or nothing at all is there.
    """
    looked_for, problems = 0, []
    for name in [dataset] if dataset else SOURCES:
        looked_for += 1
        problems += _check_questions(name, data_path if dataset else None, require_answers)
    for path in dict.fromkeys(str(path) for path in (corpus, getattr(retriever, "corpus", None)) if path):
        looked_for += 1
        problems += _check_corpus(Path(path))
    if isinstance(retriever, IndexedRetriever):
        looked_for += 1
        problems += _check_index(retriever)
    if problems and (dataset or len(problems) == looked_for):
        raise InputError(
            f"{len(problems)} of {looked_for} things that were looked for cannot be used",
            where="see above",
            hint="Download or mend them, or set data.dataset, data.data_path and data.corpus to what you have",
        )


def _check_questions(dataset: str, data_path: str | None, require_answers: bool) -> list[str]:
    try:
        splits = load_questions(dataset, data_path, require_answers=require_answers)
    except InputError as error:
        source = f"\n    to be had from {SOURCES[dataset]}" if dataset in SOURCES else ""
        print(f"{dataset}: {error}{source}")
        return [str(error)]
    print(f"{dataset}: {question_file(dataset, data_path)}")
    for name, questions in splits.items():
        print(f"    {name}: {len(questions)} questions")
    everything = {question.question: question.answers for questions in splits.values() for question in questions}
    for extraction in get_args(Extraction):
        lost = sum(is_out_of_reach(answers, extraction) for answers in everything.values())
        if lost:
            print(
                f"    with model.answer_extraction {extraction} no reply can match {lost} gold answers, which it cuts"
            )
    return []


def _check_corpus(path: Path) -> list[str]:
    """Read a corpus through its first rows only: one of millions takes minutes."""
    reader, passages = CorpusReader(path), 0
    try:
        for passages, _ in enumerate(reader, 1):
            if passages == _ROWS_TRIED:
                break
    except InputError as error:
        source = f"\n    to be had from {_DPR_CORPUS}" if path.name.startswith("psgs_w100") else ""
        print(f"corpus: {error}{source}")
        return [str(error)]
    more = "at least " if passages == _ROWS_TRIED else ""
    print(f"corpus: {path}\n    {more}{passages} passages, {reader.bad_row_count} bad rows")
    for row in reader.bad_rows[:3]:
        print(f"    {row}")
    return []


def _check_index(retriever: IndexedRetriever) -> list[str]:
    try:
        retriever.search(["a question"], 1)
    except InputError as error:
        print(f"index: {error}")
        return [str(error)]
    print(f"index: {type(retriever).__name__} is ready")
    return []
