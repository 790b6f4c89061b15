"""The corpus of the real benchmark: what it holds fits together, and a look at the benchmark runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prag_lightning.cli.settings import load_pipeline
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.errors import InputError
from prag_lightning.llm.names import find_model
from prag_lightning.metrics import answer_presence, normalize_answer
from prag_lightning.pipeline.data import read_records

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "data/ostrane"
SPLITS = ("dev", "test")


@pytest.fixture(scope="module")
def corpus():
    return {passage.id: passage.text for passage in CorpusReader(FOLDER / "corpus.tsv")}


def rows(split: str) -> list[dict]:
    return json.loads((FOLDER / f"questions/{split}.json").read_text(encoding="utf-8"))


def test_there_is_enough_of_everything(corpus):
    asked = [row for split in SPLITS for row in rows(split)]
    assert len(corpus) >= 60
    assert len(asked) >= 220
    assert abs(len(rows("dev")) - len(rows("test"))) <= 1
    assert sum(len(row["gold"]) > 1 for row in asked) >= 25
    assert {pid for row in asked for pid in row["gold"]} == corpus.keys()
    assert len({normalize_answer(row["question"]) for row in asked}) == len(asked)


@pytest.mark.parametrize("split", SPLITS)
def test_augmented_records_are_those_of_the_questions(split, corpus):
    records = read_records(FOLDER / f"aug/ostrane/writer/{split}.json", "writer")
    for record, row in zip(records, rows(split), strict=True):
        assert record.question.question == row["question"]
        assert list(record.question.answers) == row["answer"]
        assert [passage.passage for passage in record.passages] == [corpus[pid] for pid in row["gold"]]
        assert all(len(passage.qa) == 8 and passage.rewrite for passage in record.passages)


def test_no_question_is_one_that_adapters_are_trained_on():
    trained = {
        normalize_answer(pair.question)
        for split in SPLITS
        for record in read_records(FOLDER / f"aug/ostrane/writer/{split}.json", "writer")
        for passage in record.passages
        for pair in passage.qa
    }
    assert not trained & {normalize_answer(row["question"]) for split in SPLITS for row in rows(split)}


def test_answers_stand_in_their_passages(corpus):
    elsewhere = []
    for row in (row for split in SPLITS for row in rows(split)):
        text = " ".join(corpus[pid] for pid in row["gold"])
        if not answer_presence(text + re.sub("[-–]", " ", text), row["answer"]):
            elsewhere.append(row["question"])
    assert len(elsewhere) <= 3, elsewhere


def test_the_configuration_works_in_any_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = load_pipeline(str(ROOT / "configs/real.yaml")).data
    assert len(data.records()["test"]) == len(data.questions()["test"]) == len(rows("test"))
    assert data.prompts.templates["direct.closed_book"]


def test_a_look_at_the_benchmark_runs(tmp_path):
    try:
        find_model("smollm2-135m-instruct")
    except InputError as error:
        pytest.skip(str(error))
    page, text = tmp_path / "REAL.md", tmp_path / "general_text.jsonl"
    text.write_text('{"question": "What is the capital of Italy?"}\n', encoding="utf-8")
    line = [sys.executable, "-m", "benchmarks.real", "--data", "ostrane", "--first", "2", "--page", str(page)]
    line += ["--out", str(tmp_path / "out"), "--model.num_train_epochs=1", f"--model.general_text={text}"]
    subprocess.run(line, check=True, cwd=ROOT, timeout=900)
    assert len(re.findall(r"^\| (?:vanilla|icl|prag|prag-other|combine) \|", page.read_text(), re.MULTILINE)) == 12
