"""Readers of question files: the four benchmarks as their authors and the Hugging Face hub publish them, and plain
questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prag_lightning.data.rows import SUFFIXES, Row, file_suffix, read_rows, split_files, split_name
from prag_lightning.errors import InputError
from prag_lightning.files import parse_json, read_text, safe_name, visible
from prag_lightning.records import Answer, Json, Question, nfc, scalar_text
from prag_lightning.resources import locate

TOTAL = "total"
"""The split that holds every question."""

Splits = dict[str, list[Question]]
_ANSWER_KEYS = ("answer", "answers", "golden_answers", "possible_answers")
_MORE_ALIASES = ("answer_aliases", "aliases")
"""Where plain questions may have the aliases of an answer: MuSiQue's."""
_DEEPEST_ANSWER = 3
_ALIAS_KEYS = ("text", "value", "answer", "aliases")
"""Under these, an answer that is an object has its texts: SQuAD's, TriviaQA's, ComplexWebQuestions'."""


def load_questions(dataset: str, data_path: str | None = None, *, require_answers: bool = True) -> Splits:
    """Questions of a dataset by split; where questions have types, `total` and a split for each type.

    Args:
        dataset: A benchmark's name, or any other for plain questions: objects with `question` and `answer`, which is a
            text, a number, true or false, a list of aliases, or an object as SQuAD and TriviaQA have it. A file is a
            JSON list, JSON lines, or parquet.
        data_path: The file, or the folder it is in; unset means data/{dataset} for a benchmark. A folder of plain
            questions is a dataset with a split a file.
        require_answers: Whether a question without an answer is a mistake; the benchmarks' test sets have none.

    Raises:
        InputError: for an unknown dataset, or naming the file and row that is missing or malformed.
    """
    path = question_file(dataset, data_path)
    if dataset in _BENCHMARKS:
        rows = [_QuestionRow(row, number, path, require_answers) for number, row in enumerate(read_rows(path))]
        return _by_type(_BENCHMARKS[dataset].read(rows))
    return _plain(path, require_answers)


def question_file(dataset: str, data_path: str | None = None) -> Path:
    """Where a dataset's questions are: a benchmark's file, or the file or folder of plain questions.

    Raises:
        InputError: for a dataset that is no benchmark and has no path, or a benchmark's folder that has other files.
    """
    if dataset in _BENCHMARKS:
        path = locate(data_path or f"data/{dataset}")
        if path.suffix and not path.is_dir():
            return path
        file = path / _BENCHMARKS[dataset].file_name
        others = [other.name for other in visible(path, "*") if file_suffix(other) in (*SUFFIXES, ".tsv")]
        if others and not file.exists():
            raise InputError(
                f"the folder holds no {file.name}, but {', '.join(others[:10])}",
                where=str(path),
                hint="Set data.data_path to the file",
            )
        return file
    if data_path is None:
        known = ", ".join(_BENCHMARKS)
        raise InputError(
            f"unknown dataset {dataset!r}", where="data.dataset", hint=f"Give one of {known}, or set data.data_path"
        )
    return locate(data_path)


def _plain(path: Path, require_answers: bool) -> Splits:
    splits = split_files(path) if path.is_dir() else {split_name(path): [path]}
    return {
        safe_name(split, str(path)): list(_plain_questions(files, require_answers)) for split, files in splits.items()
    }


def _plain_questions(files: Sequence[Path], require_answers: bool) -> Iterator[Question]:
    test_id = 0
    for file in files:
        for number, values in enumerate(read_rows(file)):
            row = _QuestionRow(values, number, file, require_answers)
            golden = values.get("golden_passages") or []
            if not isinstance(golden, list) or not all(isinstance(text, str) for text in golden):
                raise InputError("'golden_passages' is no list of texts", where=row.where)
            passages = tuple(map(nfc, golden))
            key = next((key for key in _ANSWER_KEYS if values.get(key) is not None), "answer")
            answer = row.answer(key, *(values[name] for name in _MORE_ALIASES if values.get(name)))
            yield Question(test_id, row.text("question"), answer, None, None, passages, passages)
            test_id += 1


@dataclass(frozen=True)
class _QuestionRow:
    """A row of a file, and how its fields are read."""

    values: Row
    number: int
    path: Path
    require_answers: bool

    @property
    def where(self) -> str:
        return f"{self.path}, row {self.number}"

    def text(self, key: str) -> str:
        text = scalar_text(self.values.get(key))
        if text is None or not text.strip():
            raise InputError(f"no {key!r}", where=self.where, hint="Every question needs one")
        return nfc(text)

    def optional(self, *keys: str) -> str | None:
        """The text under the first of the keys that there is."""
        return next((str(self.values[key]) for key in keys if self.values.get(key) not in (None, "")), None)

    def type(self) -> str | None:
        """The question's type, which a test set may keep to itself as it does its answers."""
        return self.text("type") if self.require_answers else self.optional("type")

    def answer(self, key: str, *more: Json) -> Answer:
        """The gold answer under `key`: a text, or a list of aliases, each once; see `load_questions`.

        Args:
            key: Of the answer.
            more: Its aliases, where the dataset has them elsewhere; with them the answer is a list.
        """
        value = self.values.get(key)
        if isinstance(value, str) and value.startswith(("[", "{")):
            value = _unpacked_texts(value)
        value = [value, *more] if more else value
        text = scalar_text(value)
        if text is not None:
            answer: Answer = nfc(text) if text.strip() else ()
        else:
            answer = tuple(dict.fromkeys(nfc(alias) for alias in _texts(value, self.where) if alias.strip()))
        if self.require_answers and not answer:
            raise InputError(f"no {key!r}", where=self.where, hint="Add one, or set data.require_answers to false")
        return answer

    def listed(self, key: str) -> list[Json]:
        """A list, which may be JSON in a string; a test set may be without."""
        value = self.values.get(key)
        try:
            value = parse_json(value) if isinstance(value, str) else value
        except ValueError:
            value = ""
        if value is None and not self.require_answers:
            return []
        if not isinstance(value, list):
            raise InputError(f"{key!r} is no JSON list", where=self.where)
        return value

    def golden(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The texts of the contexts that `supporting_facts` names, in the order of the contexts, and of each the
        sentences that it names.

        Sentences are joined by one space: HotpotQA's begin with it, 2WikiMultihopQA's do not.
        """
        if not self.require_answers and not (self.values.get("supporting_facts") and self.values.get("context")):
            return (), ()
        try:
            facts = {(title, number) for title, number in _pairs(self.values["supporting_facts"], ("sent_id",))}
            contexts = [
                (title, list(enumerate(sentences)))
                for title, sentences in _pairs(self.values["context"], ("sentences", "content"))
                if any(title == named for named, _ in facts)
            ]
            passages = tuple(_joined(sentence for _, sentence in sentences) for _, sentences in contexts)
            named = (_joined(s for number, s in sentences if (title, number) in facts) for title, sentences in contexts)
            return passages, tuple(text for text in named if text)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError("'context' or 'supporting_facts' is missing or malformed", where=self.where) from error


def _unpacked_texts(text: str) -> Json:
    """The list of strings or the object that a text is JSON of; else the text, such as the interval [0, 1]."""
    try:
        value = parse_json(text)
    except ValueError:
        return text
    strings = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
    answers = isinstance(value, dict) and not value.keys().isdisjoint(_ALIAS_KEYS)
    return value if strings or answers else text


def _texts(value: Json, where: str, depth: int = 0) -> Iterator[str]:
    """The texts in a list or object of answers."""
    text = scalar_text(value)
    if text is not None:
        yield text
    elif isinstance(value, list) and depth < _DEEPEST_ANSWER:
        for item in value:
            yield from _texts(item, where, depth + 1)
    elif isinstance(value, dict) and depth < _DEEPEST_ANSWER and not value.keys().isdisjoint(_ALIAS_KEYS):
        for key in _ALIAS_KEYS:
            yield from _texts(value.get(key), where, depth + 1)
    elif value is not None and not isinstance(value, float):
        raise InputError(f"'answer' holds {value!r}", where=where, hint="Give a text or a list of texts")


def _pairs(value: Json, keys: Sequence[str]) -> Iterator[tuple[Json, Json]]:
    """Titles and what belongs to each: pairs as their authors publish them, two columns or objects as the hub has
    them, either of which may be JSON in a string."""
    value = parse_json(value) if isinstance(value, str) else value
    if isinstance(value, dict):
        yield from zip(value["title"], next(value[key] for key in keys if key in value), strict=True)
        return
    for item in value:
        if isinstance(item, dict):
            yield item["title"], next(item[key] for key in keys if key in item)
        else:
            title, others = item
            yield title, others


def _joined(sentences: Iterable[str]) -> str:
    return nfc(" ".join(sentence.strip() for sentence in sentences if sentence.strip()))


def _hotpotqa(row: _QuestionRow) -> Question:
    return Question(
        row.number, row.text("question"), row.answer("answer"), row.optional("_id", "id"), row.type(), *row.golden()
    )


def _popqa(row: _QuestionRow) -> Question:
    answer = row.answer("obj", row.listed("o_aliases"))
    return Question(row.number, row.text("question"), answer, row.optional("id"))


def _complexwebquestions(row: _QuestionRow) -> Question:
    return Question(row.number, row.text("question"), row.answer("answers"), row.optional("ID", "id"))


def _one_by_one(read: Callable[[_QuestionRow], Question]) -> Callable[[Sequence[_QuestionRow]], list[Question]]:
    return lambda rows: [read(row) for row in rows]


def _2wikimultihopqa(rows: Sequence[_QuestionRow]) -> list[Question]:
    """As HotpotQA, with aliases in a file of their own."""
    aliases: dict[str, list[str]] = {}
    if any(row.values.get("answer_id") is not None for row in rows):
        aliases = _id_aliases(rows[0].path.with_name("id_aliases.json"))
    questions = map(_hotpotqa, rows)
    return [
        question
        if row.values.get("answer_id") is None
        else replace(
            question, answer=tuple(dict.fromkeys((*question.answers, *aliases.get(str(row.values["answer_id"]), []))))
        )
        for row, question in zip(rows, questions, strict=True)
    ]


def _id_aliases(path: Path) -> dict[str, list[str]]:
    aliases: dict[str, list[str]] = {}
    text = read_text(path, "aliases", "2WikiMultihopQA publishes it beside dev.json")
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                row = parse_json(line)
                names = row["aliases"] or []
                if not isinstance(names, list):
                    raise ValueError(f"not a list but {names!r}")
                aliases[str(row["Q_id"])] = [nfc(alias) for alias in map(str, names) if alias.strip()]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("not a row with 'Q_id' and 'aliases'", where=f"{path}, line {number}") from error
    if not aliases:
        raise InputError("the file holds no aliases", where=str(path), hint="Fetch it again")
    return aliases


@dataclass(frozen=True)
class _Benchmark:
    """A benchmark's file name, how its rows are read, and where its authors publish it."""

    file_name: str
    read: Callable[[Sequence[_QuestionRow]], list[Question]]
    source: str


_BENCHMARKS = {
    "hotpotqa": _Benchmark(
        "hotpot_dev_distractor_v1.json",
        _one_by_one(_hotpotqa),
        "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json",
    ),
    "2wikimultihopqa": _Benchmark(
        "dev.json",
        _2wikimultihopqa,
        "https://github.com/Alab-NII/2wikimultihop (its README links it; id_aliases.json goes beside it)",
    ),
    "popqa": _Benchmark(
        "popQA.tsv", _one_by_one(_popqa), "https://github.com/AlexTMallen/adaptive-retrieval (data/popQA.tsv)"
    ),
    "complexwebquestions": _Benchmark(
        "ComplexWebQuestions_dev.json",
        _one_by_one(_complexwebquestions),
        "https://www.tau-nlp.sites.tau.ac.il/compwebq",
    ),
}
SOURCES = {name: benchmark.source for name, benchmark in _BENCHMARKS.items()}
"""Where the benchmarks' authors publish their questions."""


def _by_type(questions: list[Question]) -> Splits:
    splits: Splits = {TOTAL: questions}
    for question in questions:
        if question.type not in (None, TOTAL):
            splits.setdefault(safe_name(question.type, "the question's type"), []).append(question)
    return splits
