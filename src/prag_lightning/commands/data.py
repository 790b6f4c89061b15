"""`prag data check` and `prag index`: what is there of the data, and a retriever's index. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from prag_lightning.data.benchmarks import SOURCES, load_questions, question_file
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.errors import InputError
from prag_lightning.metrics import Extraction, is_out_of_reach
from prag_lightning.retrieval import IndexedRetriever, Retriever

_ROWS_TRIED = 10_000
_DPR_CORPUS = "https://dl.fbaipublicfiles.com/dpr/wikipedia_split/psgs_w100.tsv.gz"


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
    for split, questions in splits.items():
        print(f"    {split}: {len(questions)} questions")
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
