"""The `prag` commands that need no LLM, and import no torch: what is there of the data, and a retriever's index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from jsonargparse import ArgumentParser, Namespace

from prag_lightning.cli.config_files import with_bases
from prag_lightning.cli.parser import HelpFormatter, OneLineErrors
from prag_lightning.data.benchmarks import SOURCES, load_questions, question_file
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.data.documents import write_corpus
from prag_lightning.errors import InputError
from prag_lightning.files import read_yaml
from prag_lightning.metrics import Extraction, is_out_of_reach
from prag_lightning.records import Json
from prag_lightning.retrieval import IndexedRetriever, Retriever

_SETTINGS: dict[str, tuple[Any, str]] = {
    "dataset": (str | None, "The dataset to look for; unset means each of the paper's."),
    "data_path": (str | None, "Its file or folder."),
    "corpus": (str | None, "Passages to retrieve from."),
    "retriever": (Retriever | None, "Finds passages."),
    "require_answers": (bool, "Whether a question without a gold answer is a mistake."),
}
"""What these commands take of the settings under `data`; they leave the rest of a configuration alone."""
_INDEX_HELP = """Make the index of a retriever that keeps one, as in
  prag index --config configs/retrieval/bm25s.yaml
An earlier index stays in use until the new one is whole."""
_CORPUS_HELP = """Cut documents of one's own into the passages of a corpus, whole sentences each, as in
  prag corpus --documents my/papers --out my/passages.tsv
Documents are .txt, .md and .markdown files, and .jsonl files with 'text' and 'title' a line; what becomes of every file
is said."""
_CHECK_HELP = """Say what is there of the questions, the corpus and its index that a configuration names, as in
  prag data check --config configs/demo.yaml
Without one, look for the benchmarks in their usual places."""
_ROWS_TRIED = 10_000
_DPR_CORPUS = "https://dl.fbaipublicfiles.com/dpr/wikipedia_split/psgs_w100.tsv.gz"


class _Parser(OneLineErrors, ArgumentParser):
    """A parser with errors of one line."""


def run_data_command(args: Sequence[str]) -> None:
    """Run `prag corpus`, `prag index` or `prag data check`.

    Raises:
        InputError: for a setting, corpus or index that does not serve.
    """
    if args[0] == "corpus":
        options = _corpus_parser().parse_args(list(args[1:]))
        write_corpus(Path(options.documents), Path(options.out), options.words, options.language)
    elif args[0] == "index":
        index(_settings("prag index", _INDEX_HELP, args[1:]))
    elif args[1:2] == ["check"]:
        check(_settings("prag data check", _CHECK_HELP, args[2:]))
    else:
        raise InputError(
            f"there is no command {' '.join(args[:2])!r}", hint="Give prag data check --config FILE, or prag --help"
        )


def index(data: Namespace) -> None:
    """Make the index of the configured retriever."""
    if not isinstance(data.retriever, IndexedRetriever):
        kind = "rank-bm25 in memory" if data.retriever is None else type(data.retriever).__name__
        raise InputError(
            f"the configured retriever, {kind}, keeps no index",
            where="data.retriever",
            hint="Nothing is to be done before a search; for a large corpus see configs/retrieval/bm25s.yaml",
        )
    data.retriever.build()


def check(data: Namespace) -> None:
    """Print what is there of questions, corpus and index, and where the missing can be had.

    Raises:
        InputError: at the end, if something that the configuration names is missing or malformed.
    """
    problems = []
    for dataset in [data.dataset] if data.dataset else SOURCES:
        problems += _check_questions(dataset, data.data_path if data.dataset else None, data.require_answers)
    corpora = dict.fromkeys(str(path) for path in (data.corpus, getattr(data.retriever, "corpus", None)) if path)
    for corpus in corpora:
        problems += _check_corpus(Path(corpus))
    if isinstance(data.retriever, IndexedRetriever):
        problems += _check_index(data.retriever)
    if problems and data.dataset:
        raise InputError(
            f"{len(problems)} of the things that the configuration names cannot be used", where="see above"
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


def _settings(prog: str, description: str, args: Sequence[str]) -> Namespace:
    """The settings under `data` that these commands take, from configuration files and command line."""
    parser = _Parser(prog=prog, description=description, formatter_class=HelpFormatter)
    parser.add_argument("-c", "--config", action="config", help="A configuration file, as of the stages.")
    for name, (kind, text) in _SETTINGS.items():
        parser.add_argument(f"--data.{name}", type=kind, default=True if kind is bool else None, help=text)
    settings = parser.parse_args([_own_part(arg) for arg in _joined(with_bases(args))])
    data: Namespace = parser.instantiate_classes(settings).data
    return data


def _corpus_parser() -> _Parser:
    parser = _Parser(prog="prag corpus", description=_CORPUS_HELP, formatter_class=HelpFormatter)
    parser.add_argument("--documents", type=str, required=True, help="A folder of documents, or one file.")
    parser.add_argument("--out", type=str, required=True, help="The corpus file to write, .tsv.")
    parser.add_argument("--words", type=int, default=100, help="Of a passage, about.")
    parser.add_argument("--language", type=str, default="en", help="Of the documents; decides where sentences end.")
    return parser


def _joined(args: Sequence[str]) -> list[str]:
    """Each `--config FILE` as one word."""
    joined: list[str] = []
    for arg in args:
        if joined and joined[-1] == "--config":
            joined[-1] = f"--config={arg}"
        else:
            joined.append(arg)
    return joined


def _own_part(arg: str) -> str:
    """A configuration file's name turned into those of its settings that these commands take."""
    flag, equals, value = arg.partition("=")
    if flag != "--config" or not equals:
        return arg
    data: Json = read_yaml(Path(value), "configuration", "Give an existing file").get("data") or {}
    if not isinstance(data, dict):
        raise InputError("'data' holds no settings", where=value, hint="Put settings below it, a name and a value each")
    return f"--config={json.dumps({'data': {name: data[name] for name in _SETTINGS if name in data}})}"
