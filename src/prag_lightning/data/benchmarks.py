"""Readers of question files: the four benchmarks as their authors publish them, and plain JSON."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prag_lightning.errors import InputError
from prag_lightning.files import parse_json, read_json, safe_name
from prag_lightning.records import Json, Question, answers_from_json

TOTAL = "total"
"""The split that holds every question."""

Splits = dict[str, list[Question]]


def load_questions(dataset: str, data_path: str | None = None, *, require_answers: bool = True) -> Splits:
    """Questions of a dataset by split; where questions have types, `total` and a split for each type.

    Args:
        dataset: A benchmark's name, or any other for plain JSON: a list of `{"question": str, "answer": str | [str]}`.
        data_path: The file, or the folder it is in; unset means data/{dataset} for a benchmark. A folder of plain
            JSON files is a dataset with a split a file.
        require_answers: Whether a plain question without an answer is a mistake.

    Raises:
        InputError: for an unknown dataset, or naming the file and row that is missing or malformed.
    """
    path = question_file(dataset, data_path)
    return _BENCHMARKS[dataset].read(path) if dataset in _BENCHMARKS else _plain(path, require_answers)


def question_file(dataset: str, data_path: str | None = None) -> Path:
    """Where a dataset's questions are: a benchmark's file, or the file or folder of plain JSON.

    Raises:
        InputError: for a dataset that is no benchmark and has no path.
    """
    if dataset in _BENCHMARKS:
        path = Path(data_path or f"data/{dataset}")
        return path / _BENCHMARKS[dataset].file_name if path.is_dir() or not path.suffix else path
    if data_path is None:
        known = ", ".join(_BENCHMARKS)
        raise InputError(
            f"unknown dataset {dataset!r}", where="data.dataset", hint=f"Give one of {known}, or set data.data_path"
        )
    return Path(data_path)


def _plain(path: Path, require_answers: bool) -> Splits:
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise InputError("the folder holds no .json file", where=str(path), hint="Put questions there, a split a file")
    return {safe_name(file.stem, str(file)): list(_plain_questions(file, require_answers)) for file in files}


def _plain_questions(path: Path, require_answers: bool) -> Iterator[Question]:
    for number, row in _rows(path):
        where = f"{path}, row {number}"
        answers = answers_from_json(row.get("answer"), where)
        if require_answers and not answers:
            raise InputError("no 'answer'", where=where, hint="Add one, or set data.require_answers to false")
        golden = row.get("golden_passages") or []
        if not isinstance(golden, list) or not all(isinstance(text, str) for text in golden):
            raise InputError("'golden_passages' is no list of texts", where=where)
        yield Question(
            number,
            _text(row, "question", where),
            answers,
            golden_passages=tuple(golden),
            golden_sentences=tuple(golden),
        )


def _hotpotqa(path: Path) -> Splits:
    return _by_type(
        [
            Question(
                number,
                _text(row, "question", f"{path}, row {number}"),
                (_text(row, "answer", f"{path}, row {number}"),),
                _id(row, "_id"),
                _text(row, "type", f"{path}, row {number}"),
                *_golden(row, f"{path}, row {number}"),
            )
            for number, row in _rows(path)
        ]
    )


def _2wikimultihopqa(path: Path) -> Splits:
    aliases: dict[str, list[str]] | None = None
    questions = []
    for number, row in _rows(path):
        where = f"{path}, row {number}"
        answers = [_text(row, "answer", where)]
        if row.get("answer_id") is not None:
            aliases = _id_aliases(path.with_name("id_aliases.json")) if aliases is None else aliases
            answers += aliases.get(str(row["answer_id"]), [])
        questions.append(
            Question(
                number,
                _text(row, "question", where),
                tuple(dict.fromkeys(answers)),
                _id(row, "_id"),
                _text(row, "type", where),
                *_golden(row, where),
            )
        )
    return _by_type(questions)


def _id_aliases(path: Path) -> dict[str, list[str]]:
    aliases: dict[str, list[str]] = {}
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = parse_json(line)
                    aliases[str(row["Q_id"])] = [alias for alias in map(str, _aliases(row["aliases"])) if alias.strip()]
    except OSError as error:
        raise InputError(
            f"cannot read the aliases: {error.strerror}",
            where=str(path),
            hint="2WikiMultihopQA publishes it beside dev.json",
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"the aliases are not UTF-8: {error}", where=f"{path}, after line {number}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("not a row with 'Q_id' and 'aliases'", where=f"{path}, line {number}") from error
    return aliases


def _aliases(value: Json) -> list[Json]:
    """A list as it is, and `None` as an empty one.

    Raises:
        ValueError: for anything else, so that a lone string is not taken for its letters.
    """
    if value is not None and not isinstance(value, list):
        raise ValueError(f"not a list but {value!r}")
    return value or []


def _popqa(path: Path) -> Splits:
    csv.field_size_limit(2**24)
    questions = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, delimiter="\t")):
                where = f"{path}, row {number}"
                try:
                    aliases = _aliases(parse_json(row["o_aliases"]))
                except (KeyError, TypeError, ValueError, RecursionError) as error:
                    raise InputError("'o_aliases' is no JSON list", where=where) from error
                answers = dict.fromkeys(answers_from_json([_text(row, "obj", where), *aliases], where))
                questions.append(Question(number, _text(row, "question", where), tuple(answers), row.get("id")))
    except OSError as error:
        raise _unreadable(path, error.strerror) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    return {TOTAL: _some(questions, path)}


def _complexwebquestions(path: Path) -> Splits:
    questions = []
    for number, row in _rows(path):
        where = f"{path}, row {number}"
        if not isinstance(row.get("answers"), list) or not row["answers"]:
            raise InputError("no list 'answers'", where=where)
        try:
            names = [
                name for answer in row["answers"] for name in (answer.get("answer"), *_aliases(answer.get("aliases")))
            ]
        except (AttributeError, ValueError) as error:
            raise InputError("'answers' holds no objects with 'answer' and 'aliases'", where=where) from error
        answers = dict.fromkeys(answers_from_json([name for name in names if name], where))
        if not answers:
            raise InputError("'answers' holds no answer", where=where, hint="Every question needs one")
        questions.append(Question(number, _text(row, "question", where), tuple(answers), _id(row, "ID")))
    return {TOTAL: questions}


@dataclass(frozen=True)
class _Benchmark:
    """A benchmark's file name, how it is read, and where its authors publish it."""

    file_name: str
    read: Callable[[Path], Splits]
    source: str


_BENCHMARKS = {
    "hotpotqa": _Benchmark(
        "hotpot_dev_distractor_v1.json",
        _hotpotqa,
        "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json",
    ),
    "2wikimultihopqa": _Benchmark(
        "dev.json",
        _2wikimultihopqa,
        "https://github.com/Alab-NII/2wikimultihop (its README links it; id_aliases.json goes beside it)",
    ),
    "popqa": _Benchmark("popQA.tsv", _popqa, "https://github.com/AlexTMallen/adaptive-retrieval (data/popQA.tsv)"),
    "complexwebquestions": _Benchmark(
        "ComplexWebQuestions_dev.json", _complexwebquestions, "https://www.tau-nlp.sites.tau.ac.il/compwebq"
    ),
}
SOURCES = {name: benchmark.source for name, benchmark in _BENCHMARKS.items()}
"""Where the benchmarks' authors publish their questions."""


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Json]]]:
    """Numbered rows of a JSON list of objects."""
    data = read_json(path, "Set data.data_path to the file or its folder")
    if not isinstance(data, list):
        raise InputError("the file is no list of questions", where=str(path))
    for number, row in enumerate(_some(data, path)):
        if not isinstance(row, Mapping):
            raise InputError(f"not an object but {type(row).__name__}", where=f"{path}, row {number}")
        yield number, row


def _some(rows: list[Json], path: Path) -> list[Json]:
    if not rows:
        raise InputError("the file holds no question", where=str(path), hint="Give at least one")
    return rows


def _by_type(questions: list[Question]) -> Splits:
    splits: Splits = {TOTAL: questions}
    for question in questions:
        splits.setdefault(safe_name(question.type or TOTAL, "the question's type"), []).append(question)
    return splits


def _golden(row: Mapping[str, Json], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The texts of the contexts that `supporting_facts` names, in the order of the contexts, and of each the sentences
    that it names.

    Sentences are joined by one space: HotpotQA's begin with it, 2WikiMultihopQA's do not.
    """
    try:
        facts = {(title, number) for title, number in row["supporting_facts"]}
        contexts = [
            (title, list(enumerate(sentences)))
            for title, sentences in row["context"]
            if any(title == named for named, _ in facts)
        ]
        passages = tuple(_joined(sentence for _, sentence in sentences) for _, sentences in contexts)
        named = (_joined(s for number, s in sentences if (title, number) in facts) for title, sentences in contexts)
        return passages, tuple(text for text in named if text)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError("'context' or 'supporting_facts' is missing or malformed", where=where) from error


def _joined(sentences: Iterable[str]) -> str:
    return " ".join(sentence.strip() for sentence in sentences if sentence.strip())


def _id(row: Mapping[str, Json], key: str) -> str | None:
    return None if row.get(key) is None else str(row[key])


def _text(row: Mapping[str, Json], key: str, where: str) -> str:
    value = row.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"no {key!r}", where=where, hint="Every question needs one")
    return value


def _unreadable(path: Path, reason: str | None) -> InputError:
    return InputError(
        f"cannot read the questions: {reason}", where=str(path), hint="Set data.data_path to the file or its folder"
    )
