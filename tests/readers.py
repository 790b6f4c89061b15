"""Everything that reads what others wrote: a sound input of each reader, and what must hold of what it gives."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
from torch import nn

from prag_lightning.augment import parse_qa_pairs
from prag_lightning.augment.files import read_records
from prag_lightning.cli.config_files import with_bases
from prag_lightning.cli.data import run_data_command
from prag_lightning.costs import read_costs
from prag_lightning.data.benchmarks import load_questions
from prag_lightning.data.corpus import read_corpus
from prag_lightning.data.documents import DocumentReader, split
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.journal import Journal
from prag_lightning.lora.adapters import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    is_whole,
    lora_config,
    random_adapter,
    read_adapter,
    write_adapter,
)
from prag_lightning.lora.stack import LoraStack
from prag_lightning.metrics import answer_presence, evaluate
from prag_lightning.report.gather import read_result

ROOT = Path(__file__).parent.parent
PAIR = {"question": "Where is it?", "answer": "Paris", "full_answer": "It is in Paris."}


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of file.

    Args:
        seed: A sound file's content.
        read: Reads a file of this content in an empty folder; gives nothing, or raises what is to be looked at.
    """

    seed: bytes
    read: Callable[[bytes, Path], object]


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def parquet(rows: list[dict[str, object]]) -> bytes:
    """A parquet file's content."""
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue().to_pybytes())


def _questions(dataset: str, name: str) -> Callable[[bytes, Path], object]:
    def read(content: bytes, folder: Path) -> None:
        (folder / name).write_bytes(content)
        if name == "id_aliases.json":
            (folder / "dev.json").write_bytes(_json([HOTPOT | {"answer_id": "Q1"}]))
        elif not (folder / "id_aliases.json").exists():
            (folder / "id_aliases.json").write_text('{"Q_id": "Q1", "aliases": ["Lutetia"]}\n', encoding="utf-8")
            if dataset == "mine":
                (folder / "id_aliases.json").unlink()
        splits = load_questions(dataset, str(folder))
        for name_of_split, questions in splits.items():
            assert questions
            assert "/" not in name_of_split
            for question in questions:
                assert question.question.strip()
                assert question.answers
                assert all(answer.strip() for answer in question.answers)
                "".join((question.question, *question.answers, *question.golden_passages)).encode()

    return read


def _corpus(name: str) -> Callable[[bytes, Path], object]:
    def read(content: bytes, folder: Path) -> None:
        (folder / name).write_bytes(content)
        passages = read_corpus(folder / name)
        assert len({passage.id for passage in passages}) == len(passages) > 0
        for passage in passages:
            assert passage.text.strip()
            f"{passage.id}{passage.title}{passage.text}".encode()

    return read


def _records(content: bytes, folder: Path) -> None:
    (folder / "total.json").write_bytes(content)
    for record in read_records(folder / "total.json", "writer"):
        assert record.question.question.strip()
        for passage in record.passages:
            assert passage.qa
            passage.content_hash.encode()
            json.dumps(passage.to_json("writer"), ensure_ascii=False).encode()


def _prompts(content: bytes, folder: Path) -> None:
    (folder / "prompts.yaml").write_bytes(content)
    prompts = PromptTemplates.load(folder / "prompts.yaml")
    assert isinstance(prompts.fewshot_text("demo"), str)


def _configuration(content: bytes, folder: Path) -> None:
    path = folder / "experiment.yaml"
    path.write_bytes(content)
    assert with_bases(["--config", str(path)])[-1] == str(path)
    run_data_command("index", ["--config", str(path)])


def _stack() -> LoraStack:
    return LoraStack(nn.ModuleDict({"down_proj": nn.Linear(4, 3)}), ("down_proj",))


def _adapter_seed(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "adapter"
        write_adapter(directory, random_adapter(_stack(), 2, seed=0), lora_config("tiny", 2, 4, ("down_proj",)))
        return (directory / name).read_bytes()


def _adapter(name: str) -> Callable[[bytes, Path], object]:
    def read(content: bytes, folder: Path) -> None:
        for file in (WEIGHTS_FILE, CONFIG_FILE):
            (folder / file).write_bytes(content if file == name else READERS[file].seed)
        assert isinstance(is_whole(folder), bool)
        for lora_a, lora_b in read_adapter(folder, _stack(), 2, 4).values():
            assert lora_a.shape == (2, 4)
            assert lora_b.shape == (3, 2)
            assert torch.isfinite(lora_a).all()
            assert torch.isfinite(lora_b).all()

    return read


def _reply(content: bytes, folder: Path) -> None:
    pairs = parse_qa_pairs(content.decode("utf-8", "replace"))
    assert len(pairs) == 3
    for pair in pairs:
        assert all(value.strip() for value in pair.to_json().values())
        json.dumps(pair.to_json(), ensure_ascii=False).encode()


def _answer(content: bytes, folder: Path) -> None:
    text = content.decode("utf-8", "surrogateescape")
    for extraction in ("paper", "full"):
        for with_cot in (False, True):
            scores = evaluate(text, ["Paris", text], with_cot, extraction)
            assert scores["eval_predict"] in text
            assert all(0 <= scores[name] <= 1 for name in ("em", "f1", "prec", "recall"))
    assert answer_presence(text, text) in (0, 1)


def _documents(name: str) -> Callable[[bytes, Path], object]:
    def read(content: bytes, folder: Path) -> None:
        (folder / name).write_bytes(content)
        reader = DocumentReader(folder / name)
        for document in reader:
            for passage in split(document, 20):
                assert passage.text.strip()
                f"{passage.id}{passage.title}{passage.text}{passage.source}".encode()
        for reason in reader.failed:
            raise InputError(reason)

    return read


def _journal(content: bytes, folder: Path) -> None:
    (folder / "journal-0.jsonl").write_bytes(content)
    journal = Journal(folder, 0, {"text": str, "seconds": int | float})
    journal.add([{"key": "new", "text": "x", "seconds": 1.0}])
    assert Journal(folder, 0, {"text": str, "seconds": int | float}).get("new") == journal.get("new")


def _costs(content: bytes, folder: Path) -> None:
    (folder / "costs.jsonl").write_bytes(content)
    assert all(cost.passages > 0 for cost in read_costs(folder))


def _result(name: str) -> Callable[[bytes, Path], object]:
    def read(content: bytes, folder: Path) -> None:
        for file in ("config.json", "predict.json", "result.txt"):
            (folder / file).write_bytes(content if file == name else READERS[file].seed)
        result = read_result(folder)
        assert result.replies
        assert 0 <= result.mean("f1") <= 1

    return read


HOTPOT = {
    "_id": "a",
    "question": "Where is it?",
    "answer": "Paris",
    "type": "bridge",
    "supporting_facts": [["T", 0]],
    "context": [["T", ["It is in Paris."]]],
}
RECORD = {
    "test_id": 0,
    "question": "Where is it?",
    "answer": ["Paris", "Lutetia"],
    "golden_passages": ["It is in Paris."],
    "passages": ["It is in Paris."],
    "augment": [{"pid": 0, "passage": "It is in Paris.", "writer_rewrite": "In Paris it is.", "writer_qa": [PAIR] * 3}],
}
ROW = {"test_id": 0, "question": "Where is it?", "answer": "Paris", "text": "Paris.", "eval_predict": "Paris"}
SCORES = {"em": 1.0, "f1": 1.0, "prec": 1.0, "recall": 1.0}


def _popqa() -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", "question", "obj", "o_aliases"], delimiter="\t")
    writer.writeheader()
    writer.writerow({"id": 1, "question": "Where is it?", "obj": "Paris", "o_aliases": '["Lutetia"]'})
    return text.getvalue().encode()


TSV = b"id\ttext\ttitle\n1\tIt is in Paris.\tIt\n2\tThe sea is wide.\tSea\n"
PROMPTS = (ROOT / "configs/prompts/default.yaml").read_bytes()
CONFIGURATION = b"""model: {model_name: checkpoints/prag-tiny, lora_rank: 2}
data:
  dataset: demo
  corpus: passages.tsv
  retriever:
    class_path: prag_lightning.retrieval.RankBM25Retriever
    init_args: {corpus: passages.tsv, k1: 1.5}
"""
READERS = {
    "hotpotqa": Reader(_json([HOTPOT]), _questions("hotpotqa", "hotpot_dev_distractor_v1.json")),
    "2wikimultihopqa": Reader(_json([HOTPOT | {"answer_id": "Q1"}]), _questions("2wikimultihopqa", "dev.json")),
    "id_aliases": Reader(b'{"Q_id": "Q1", "aliases": ["Lutetia"]}\n', _questions("2wikimultihopqa", "id_aliases.json")),
    "popqa": Reader(_popqa(), _questions("popqa", "popQA.tsv")),
    "complexwebquestions": Reader(
        _json([{"ID": "c", "question": "Where?", "answers": [{"answer": "Paris", "aliases": ["Lutetia"]}]}]),
        _questions("complexwebquestions", "ComplexWebQuestions_dev.json"),
    ),
    "plain": Reader(_json([{"question": "Where?", "answer": ["Paris"]}]), _questions("mine", "total.json")),
    "corpus.tsv": Reader(TSV, _corpus("c.tsv")),
    "corpus.tsv.gz": Reader(gzip.compress(TSV, mtime=0), _corpus("c.tsv.gz")),
    "corpus.jsonl": Reader(b'{"id": "1", "text": "It is in Paris.", "title": "It"}\n' * 2, _corpus("c.jsonl")),
    "augmented": Reader(_json([RECORD, RECORD | {"test_id": 1}]), _records),
    "prompts": Reader(PROMPTS[:1500], _prompts),
    "configuration": Reader(CONFIGURATION, _configuration),
    WEIGHTS_FILE: Reader(_adapter_seed(WEIGHTS_FILE), _adapter(WEIGHTS_FILE)),
    CONFIG_FILE: Reader(_adapter_seed(CONFIG_FILE), _adapter(CONFIG_FILE)),
    "reply": Reader(b"Here they are:\n" + _json([PAIR] * 3), _reply),
    "answer": Reader(b'So the answer is Washington, D.C. "Yes."\nMore', _answer),
    "documents.md": Reader(b"# Paris\n\nIt is in Paris. The sea is wide.\n", _documents("d.md")),
    "documents.jsonl": Reader(b'{"title": "Paris", "text": "It is in Paris."}\n', _documents("d.jsonl")),
    "journal": Reader(_json({"key": "a", "text": "Paris", "seconds": 0.5}) + b"\n", _journal),
    "costs": Reader(
        _json({"stage": "fit", "passages": 3, "seconds": 1.5, "device": "cpu", "processes": 1}) + b"\n", _costs
    ),
    "config.json": Reader(
        _json({"model": {"model_name": "tiny"}, "data": {"dataset": "demo"}}), _result("config.json")
    ),
    "predict.json": Reader(_json([ROW | SCORES]), _result("predict.json")),
    "result.txt": Reader(b"em\t1\nf1\t1\nquestions\t1\n", _result("result.txt")),
    "plain.jsonl": Reader(
        b'{"question": "Where?", "answer": {"text": ["Paris"]}}\n{"question": "Is it?", "answer": true}\n',
        _questions("mine", "total.jsonl"),
    ),
    "plain.parquet": Reader(
        parquet([{"question": "Where?", "answer": ["Paris"]}]), _questions("mine", "total.parquet")
    ),
    "corpus.parquet": Reader(parquet([{"_id": "1", "text": "It is in Paris.", "title": "It"}]), _corpus("c.parquet")),
    "documents.html": Reader(
        b"<title>Paris</title><h1>It</h1><p>It is <b>in</b> Paris.</p><table><tr><th>Sea<tr><td rowspan=2>Wide</table>",
        _documents("d.html"),
    ),
    "documents.csv": Reader(b'Name,Born\nAda,1815\n"Bob, of Paris",1816\n', _documents("d.csv")),
}

HOSTILE = (
    b"null", b"true", b"-1", b"1e999", b"NaN", b"1" * 5000, b'""', b'" "', b"[]", b"{}", b"[[]]", b'["x"]', b"[" * 9999,
    b'{"a":' * 3000, b'"../../x"', b'"/etc/passwd"', b'"a\\u0000b"', b'"\\ud800"', b'"__import__(\'os\').abort()"',
    b'"{question}{{x}}%s"', b"!!python/object/apply:os.abort []", b"&a [*a]", b"2001-99-99", b"!!bool maybe",
    b"\xff\xfe", b"\x00", b"\x1b[2J", b"\xe2\x80\xa8", b"\r\n", b"\t", b'"', b"'", b"#", b"%", b"\\",
)  # fmt: skip
"""Put in the place of a value, or anywhere."""


def malformed(seed: bytes, rng: random.Random) -> bytes:
    """The seed with one to three faults of the kinds that files have: cut short, flipped bits, pieces that are missing,
    doubled, of another kind, or hostile."""
    content = bytearray(seed)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(content) + 1)
        match rng.randrange(7):
            case 0:
                del content[place:]
            case 1:
                for _ in range(rng.randint(1, 8)):
                    if content:
                        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            case 2:
                del content[place : place + rng.randint(1, 40)]
            case 3:
                content[place:place] = content[place : place + rng.randint(1, 200)]
            case 4:
                content[place:place] = rng.choice(HOSTILE)
            case _:
                values = _values(content)
                if values:
                    start, end = rng.choice(values)
                    content[start:end] = rng.choice(HOSTILE)
    return bytes(content)


def _values(content: bytearray) -> list[tuple[int, int]]:
    """Where quoted strings, numbers and words stand."""
    return [match.span() for match in re.finditer(rb'"[^"\n]*"|[\w.]+', bytes(content))]
