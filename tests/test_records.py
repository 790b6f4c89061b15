"""Augmented records are read and written in the published format."""

import json

import pytest

from prag_lightning.augment.files import read_records
from prag_lightning.errors import InputError
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, QAPair

RECORD = {
    "test_id": 3,
    "qid": "q7",
    "type": "bridge",
    "question": "Who?",
    "answer": ["Ada", "A."],
    "golden_passages": ["gold"],
    "passages": ["p"],
    "augment": [
        {"pid": 0, "passage": "p", "m_rewrite": "r", "m_qa": [{"question": "q", "answer": "a", "full_answer": "f"}]}
    ],
}


def test_record_survives_a_round_trip():
    assert AugmentedQuestion.from_json(RECORD, "m", "here").to_json("m") == RECORD


def test_published_files_are_read_as_they_are(real_data):
    for path in sorted((real_data / "augmented").glob("*.json")):
        (record,) = read_records(path, "llama3.2-1b-instruct")
        raw = json.loads(path.read_text(encoding="utf-8"))[0]
        assert record.question.question == raw["question"]
        assert [p.passage for p in record.passages] == [p["passage"] for p in raw["augment"]]
        assert all(len(p.qa) == 3 and p.rewrite for p in record.passages)


def test_numbers_and_lists_become_text():
    pair = QAPair.from_json({"question": "When?", "answer": 1912, "full_answer": ["In", "1912"]}, "here")
    assert pair == QAPair("When?", "1912", "In, 1912")


def test_content_hash_is_of_the_content_alone():
    pair = QAPair("q", "a", "f")
    one = AugmentedPassage("p", "r", (pair,), pid=0)
    assert one.content_hash == AugmentedPassage("p", "r", (pair,), pid=2).content_hash
    others = [AugmentedPassage("pr", "", (pair,)), AugmentedPassage("p", "r", (pair, pair))]
    assert one.content_hash not in [other.content_hash for other in others]


def without(*path):
    record = json.loads(json.dumps(RECORD))
    target = record
    for key in path[:-1]:
        target = target[key]
    del target[path[-1]]
    return record


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "not an object"),
        (without("test_id"), "test_id"),
        (without("question"), "'question'"),
        (without("augment"), "'augment'"),
        (without("augment", 0, "passage"), r"augment\[0\]"),
        (without("augment", 0, "m_rewrite"), "m_rewrite.*augmented by m: set data.augment_model|m_rewrite"),
        (without("augment", 0, "m_qa", 0, "answer"), r"m_qa\[0\]"),
        ({**RECORD, "answer": [""]}, "'answer'"),
        (
            {**RECORD, "augment": [{"pid": 0, "passage": "p", "other_qa": [], "other_rewrite": "r"}]},
            "augmented by other",
        ),
    ],
)
def test_malformed_records_name_the_place(tmp_path, record, message):
    path = tmp_path / "total.json"
    path.write_text(json.dumps([RECORD, record]), encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_records(path, "m")
    assert "total.json, record 1" in str(caught.value)
