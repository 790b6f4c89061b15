"""The commands that need no LLM, and import no torch: corpus, index, data check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from prag_lightning.cli.config_files import config_files, read_config, with_bases
from prag_lightning.cli.parser import HelpFormatter, add_files
from prag_lightning.cli.settings import Parser, add_trainer
from prag_lightning.commands.data import check_data, make_index, write_corpus
from prag_lightning.data.documents import OVERLAP
from prag_lightning.errors import InputError
from prag_lightning.records import Json
from prag_lightning.retrieval import Retriever

_SETTINGS: dict[str, tuple[Any, str]] = {
    "dataset": (str | None, "The dataset to look for; unset means each of the paper's."),
    "data_path": (str | None, "Its file or folder."),
    "corpus": (str | None, "Passages to retrieve from."),
    "retriever": (Retriever | None, "Finds passages."),
    "require_answers": (bool, "Whether a question without a gold answer is a mistake."),
}
"""What these commands take of the settings under `data`; they leave the rest of a configuration alone."""
_HELP = {
    "index": """Make the index of a retriever that keeps one, as in
  prag index --config configs/retrieval/bm25s.yaml
An earlier index stays in use until the new one is whole.""",
    "corpus": """Cut documents of one's own into the passages of a corpus, whole sentences each, as in
  prag corpus --documents my/papers --out my/passages.tsv
Documents are text, Markdown, HTML, PDF, DOCX and CSV files, and .jsonl files with 'text' and 'title' a line; what
becomes of every file is said. A passage begins with its document's title and headings, and knows where it stands.""",
    "data check": """Say what is there of the questions, the corpus and its index that a configuration names, as in
  prag data check --config configs/demo.yaml
Without one, look for the benchmarks in their usual places.""",
}


def run_data_command(command: str, args: Sequence[str]) -> None:
    """Run one of them.

    Raises:
        InputError: for a setting, corpus or index that does not serve.
    """
    args = ["--help" if arg == "--help-all" else arg for arg in args]
    parser = data_command_parser(command)
    if command == "corpus":
        options = parser.parse_args(args)
        write_corpus(Path(options.documents), Path(options.out), options.words, options.overlap, options.language)
        return
    args = with_bases(args)
    parser.files = config_files(args)
    data: Namespace = parser.instantiate(parser.parse_args(_own_parts(args))).data
    if command == "index":
        make_index(data.retriever)
    else:
        check_data(data.dataset, data.data_path, data.corpus, data.retriever, require_answers=data.require_answers)


def data_command_parser(command: str) -> Parser:
    """The parser of one of them."""
    parser = Parser(prog=f"prag {command}", description=_HELP[command], formatter_class=HelpFormatter)
    if command == "corpus":
        parser.add_argument("--documents", type=str, required=True, help="A folder of documents, or one file.")
        parser.add_argument("--out", type=str, required=True, help="The corpus file to write, .tsv or .jsonl.")
        parser.add_argument("--words", type=int, default=100, help="Of a passage, about.")
        parser.add_argument(
            "--overlap", type=int, default=OVERLAP, help="Sentences that a passage shares with the next."
        )
        parser.add_argument("--language", type=str, default="en", help="Of the documents; decides where sentences end.")
        return parser
    add_files(parser)
    for name, (kind, text) in _SETTINGS.items():
        parser.add_argument(f"--data.{name}", type=kind, default=True if kind is bool else None, help=text)
    add_trainer(parser, show=())
    return parser


def _own_parts(args: list[str]) -> list[str]:
    """Each configuration file turned into those of its settings that these commands take."""
    parts = {str(path): _own_part(path) for path in config_files(args)}
    return [parts[arg] if before == "--config" else arg for before, arg in zip(["", *args], args, strict=False)]


def _own_part(path: Path) -> str:
    data: Json = read_config(path).get("data") or {}
    if not isinstance(data, dict):
        raise InputError(
            "'data' holds no settings", where=str(path), hint="Put settings below it, a name and a value each"
        )
    return json.dumps({"data": {name: data[name] for name in _SETTINGS if name in data}})
