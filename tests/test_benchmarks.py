"""Question files are read as their authors publish them, and mistakes in them are named."""

import json

import pytest

from prag_lightning.data.benchmarks import load_questions
from prag_lightning.errors import InputError


def test_hotpotqa_as_published(real_data):
    path = real_data / "hotpotqa/hotpot_dev_distractor_53.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    splits = load_questions("hotpotqa", str(path))
    assert set(splits) == {"total", "bridge", "comparison"}
    assert len(splits["total"]) == len(raw) == 53
    assert len(splits["bridge"]) + len(splits["comparison"]) == 53
    for row, question in zip(raw, splits["total"], strict=True):
        assert (question.question, question.answers) == (row["question"], (row["answer"],))
        assert question.qid == row["_id"]
        assert len(question.golden_passages) == len({title for title, _ in row["supporting_facts"]}) == 2
    assert [q.test_id for q in splits["total"]] == list(range(53))
    assert [q for q in splits["total"] if q.type == "bridge"] == splits["bridge"]


def test_2wikimultihopqa_with_aliases(real_data, tmp_path):
    rows = json.loads((real_data / "2wikimultihopqa/dev_2rows.json").read_text(encoding="utf-8"))
    (tmp_path / "dev.json").write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"id_aliases\.json"):
        load_questions("2wikimultihopqa", str(tmp_path))
    ids = [row["answer_id"] for row in rows]
    assert None in ids
    lines = [json.dumps({"Q_id": i, "aliases": ["alias one", "alias two"], "demonyms": []}) for i in ids if i]
    (tmp_path / "id_aliases.json").write_text("\n".join(lines), encoding="utf-8")
    for row, question in zip(rows, load_questions("2wikimultihopqa", str(tmp_path))["total"], strict=True):
        expected = (row["answer"],) if row["answer_id"] is None else (row["answer"], "alias one", "alias two")
        assert question.answers == expected
        assert question.type == row["type"]
        contexts = {title: " ".join(sentences) for title, sentences in row["context"]}
        assert question.golden_passages == tuple(contexts[t] for t in contexts if t in dict(row["supporting_facts"]))


def test_popqa_with_lists_inside_fields(real_data):
    questions = load_questions("popqa", str(real_data / "popqa/popQA.tsv"))["total"]
    assert len(questions) == 500
    assert questions[0].question == "What is George Rankin's occupation?"
    assert questions[0].answers == ("politician", "political leader", "political figure", "polit.", "pol")
    assert all(q.answers and len(set(q.answers)) == len(q.answers) for q in questions)


def test_complexwebquestions_answers_and_aliases(tmp_path):
    row = {"ID": "x", "question": "Who", "answers": [{"answer_id": "m", "answer": "A", "aliases": ["B", "A"]}]}
    (tmp_path / "ComplexWebQuestions_dev.json").write_text(json.dumps([row]), encoding="utf-8")
    (question,) = load_questions("complexwebquestions", str(tmp_path))["total"]
    assert (question.qid, question.answers) == ("x", ("A", "B"))


def test_plain_json_has_a_split_a_file(tmp_path):
    (tmp_path / "easy.json").write_text('[{"question": "Q1", "answer": "A"}]', encoding="utf-8")
    (tmp_path / "hard.json").write_text('[{"question": "Q2", "answer": ["B", "C"]}, {"question": "Q3", "answer": 7}]')
    splits = load_questions("mine", str(tmp_path))
    assert [q.answers for q in splits["hard"]] == [("B", "C"), ("7",)]
    assert list(load_questions("mine", str(tmp_path / "easy.json"))) == ["easy"]


def test_questions_without_answers_are_read_when_asked_for(tmp_path):
    (tmp_path / "q.json").write_text('[{"question": "Q1"}]', encoding="utf-8")
    with pytest.raises(InputError, match="row 0"):
        load_questions("mine", str(tmp_path))
    assert load_questions("mine", str(tmp_path), require_answers=False)["q"][0].answers == ()


@pytest.mark.parametrize(
    ("dataset", "name", "content", "message"),
    [
        ("mine", "q.json", "", "the file is empty"),
        ("mine", "q.json", "[]", "no question"),
        ("mine", "q.json", "{}", "no list"),
        ("mine", "q.json", '[{"question": "a", "answer": "b"}, 3]', "row 1"),
        ("mine", "q.json", '[{"answer": "b"}]', "'question'"),
        ("mine", "q.json", '[{"question": " ", "answer": "b"}]', "'question'"),
        ("mine", "q.json", '[{"question": "a", "answer": ""}]', "'answer'"),
        ("mine", "q.json", '[{"question": "a", "answer": {"x": 1}}]', "'answer'"),
        ("hotpotqa", "hotpot_dev_distractor_v1.json", '[{"question": "a", "answer": "b", "type": "t"}]', "context"),
        ("hotpotqa", "hotpot_dev_distractor_v1.json", '[{"question": "a", "answer": "b", "context": []}]', "'type'"),
        ("popqa", "popQA.tsv", "id\tquestion\tobj\to_aliases\n1\tq\to\t__import__('os')\n", "o_aliases"),
        ("popqa", "popQA.tsv", "id\tquestion\n1\tq\n", "o_aliases"),
        ("popqa", "popQA.tsv", 'id\tquestion\tobj\to_aliases\n1\tq\to\t"""abc"""\n', "o_aliases"),
        ("popqa", "popQA.tsv", "id\tquestion\tobj\to_aliases\n1\tq\to\t5\n", "o_aliases"),
        ("popqa", "popQA.tsv", "", "no question"),
        ("complexwebquestions", "ComplexWebQuestions_dev.json", '[{"question": "a", "answers": []}]', "'answers'"),
        ("complexwebquestions", "ComplexWebQuestions_dev.json", '[{"question": "a", "answers": [{"x": 1}]}]', "row 0"),
    ],
)
def test_mistakes_name_file_and_row(tmp_path, dataset, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_questions(dataset, str(tmp_path))
    assert name in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b'{"Q_id": "Q1"}', b'{"Q_id": "Q1", "aliases": "abc"}'])
def test_mistakes_in_the_aliases_name_their_file(tmp_path, content):
    row = {"_id": "x", "question": "a", "answer": "b", "answer_id": "Q1", "type": "t"}
    (tmp_path / "dev.json").write_text(json.dumps([row | {"context": [], "supporting_facts": []}]), encoding="utf-8")
    (tmp_path / "id_aliases.json").write_bytes(content)
    with pytest.raises(InputError, match=r"id_aliases\.json"):
        load_questions("2wikimultihopqa", str(tmp_path))


def test_golden_passages_are_the_contexts_named_with_sentences_apart(tmp_path):
    row = {"question": "a", "answer": "b", "type": "t", "supporting_facts": [["Y", 0], ["Y", 1]]}
    row["context"] = [["X", ["No."]], ["Y", ["One.", " Two.", "Three. "]]]
    (tmp_path / "dev.json").write_text(json.dumps([row]), encoding="utf-8")
    for dataset in ("hotpotqa", "2wikimultihopqa"):
        (question,) = load_questions(dataset, str(tmp_path / "dev.json"))["t"]
        assert question.golden_passages == ("One. Two. Three.",)
        assert question.qid is None


def test_unknown_dataset_names_the_known():
    with pytest.raises(InputError, match="hotpotqa"):
        load_questions("squad")
