"""Question files as people have them, through the command line: encodings, shapes of the hub, kinds of answers."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from own_data import augment
from prag_lightning.cli.entry import main
from prag_lightning.data.benchmarks import load_questions
from prag_lightning.data.rows import tsv_cells
from readers import parquet

ROWS = [
    {"question": "Who wrote the novel of Café?", "answer": "Zoë Zalville"},
    {"question": "Where was she born?", "answer": ["North Walton"]},
]
TEXT = json.dumps(ROWS, ensure_ascii=False)
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
PARQUET_ROWS = [row | {"answer": [row["answer"]] if isinstance(row["answer"], str) else row["answer"]} for row in ROWS]


def check(path, dataset="mine", *options) -> int:
    return main(["data", "check", "--data.dataset", dataset, "--data.data_path", str(path), *options])


def augmented(tmp_path, path, *options) -> list[dict]:
    corpus = tmp_path / "corpus.tsv"
    corpus.write_text("id\ttext\ttitle\n1\tZoë wrote, was born, was asked.\t\n", encoding="utf-8")
    return augment(tmp_path, corpus, path, *options)


SHAPES = {
    "plain.json": TEXT.encode(),
    "bom.json": TEXT.encode("utf-8-sig"),
    "utf16.json": TEXT.encode("utf-16"),
    "utf16_without_mark.json": TEXT.encode("utf-16-le"),
    "gzipped.json.gz": gzip.compress(TEXT.encode(), mtime=0),
    "gzipped_but_named_json.json": gzip.compress(TEXT.encode(), mtime=0),
    "lines.jsonl": LINES.encode(),
    "lines_of_windows.jsonl": LINES.replace("\n", "\r\n").encode("utf-8-sig"),
    "lines_named_json.json": LINES.encode() + b"\n\n",
    "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}).encode(),
    "pandas.json": json.dumps({key: {str(i): row[key] for i, row in enumerate(ROWS)} for key in ROWS[0]}).encode(),
    "viewer.json": json.dumps({"rows": [{"row_idx": i, "row": row} for i, row in enumerate(ROWS)]}).encode(),
    "wrapped.json": json.dumps({"version": 1, "data": ROWS}).encode(),
    "rows.parquet": parquet(PARQUET_ROWS),
    "parquet_named_json.json": parquet(PARQUET_ROWS),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_usual_shape_is_read(name, tmp_path, capsys):
    (tmp_path / name).write_bytes(SHAPES[name])
    assert check(tmp_path / name) == 0
    assert "2 questions" in capsys.readouterr().out
    (questions,) = load_questions("mine", str(tmp_path / name)).values()
    assert [(q.test_id, q.question, q.answers) for q in questions] == [
        (0, ROWS[0]["question"], ("Zoë Zalville",)),
        (1, ROWS[1]["question"], ("North Walton",)),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin1.json", b'[{"question": "Caf\xe9?",\n "answer": "a"}]', "it is not UTF-8: byte 0xe9 in line 1"),
        ("cut.json.gz", gzip.compress(TEXT.encode() * 50, mtime=0)[:60], "cannot read the questions"),
        ("zip.json", b"PK\x03\x04" + bytes(50), "zip.json). Unpack it"),
        ("broken.json", b'[{"question": "a", "answer": "b"},\n]', "is not JSON"),
        ("table.csv", b"question,answer\na,b\n", "JSON, JSON lines, .tsv and .parquet are read"),
        ("broken.jsonl", LINES.encode() + b"\n{no json}\n", "line 3"),
        ("damaged.parquet", parquet(PARQUET_ROWS)[:80], "the parquet file is damaged"),
        ("columns.json", b'{"question": ["a", "b"], "answer": ["c"]}', "no list of questions"),
        ("unknown.json", b'[{"question": "a", "answer": {"label": 1}}]', "'answer' holds {'label': 1}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_named(name, content, message, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    assert check(tmp_path / name) == 2
    printed = capsys.readouterr().out
    assert message in printed
    assert name in printed


def test_parquet_without_its_library_names_the_extra(tmp_path, capsys, monkeypatch):
    (tmp_path / "rows.parquet").write_bytes(parquet(PARQUET_ROWS))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert check(tmp_path) == 2
    assert "pip install 'prag-lightning[parquet]'" in capsys.readouterr().out


def test_a_folder_has_a_split_a_file_and_leaves_hidden_files_alone(tmp_path, capsys):
    (tmp_path / "easy.json").write_text(TEXT, encoding="utf-8")
    (tmp_path / "hard.jsonl").write_text(LINES, encoding="utf-8")
    for number in range(2):
        (tmp_path / f"test-0000{number}-of-00002.parquet").write_bytes(parquet(PARQUET_ROWS))
    (tmp_path / "._easy.json").write_bytes(b"\x00\x05\x16\x07\x00\x02")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "README.md").write_text("Mine.")
    assert check(tmp_path) == 0
    printed = capsys.readouterr().out
    assert [line.strip() for line in printed.splitlines()[1:]] == [
        "easy: 2 questions",
        "hard: 2 questions",
        "test: 4 questions",
    ]
    assert [question.test_id for question in load_questions("mine", str(tmp_path))["test"]] == [0, 1, 2, 3]
    (tmp_path / "easy.jsonl").write_text(LINES, encoding="utf-8")
    assert check(tmp_path) == 2
    assert "easy.json and easy.jsonl are both the split 'easy'" in capsys.readouterr().out


ANSWERS = [
    ({"answer": True}, "yes"),
    ({"answer": False}, "no"),
    ({"answer": 1931}, "1931"),
    ({"answer": 1931.0}, "1931"),
    ({"answer": 3.5}, "3.5"),
    ({"answer": ["one"]}, ["one"]),
    ({"answer": [True, 2]}, ["yes", "2"]),
    ({"answer": '["one", "two"]'}, ["one", "two"]),
    ({"answer": "[0, 1]"}, "[0, 1]"),
    ({"answers": {"text": ["one", "two", "one"], "answer_start": [1, 2, 1]}}, ["one", "two"]),
    ({"answer": {"value": "one", "aliases": ["two"], "normalized_value": "x"}}, ["one", "two"]),
    ({"golden_answers": ["one", "two"]}, ["one", "two"]),
    ({"answer": "one", "answer_aliases": ["two"]}, ["one", "two"]),
    ({"answer": "one", "answer_aliases": []}, "one"),
    ({"answer": "Cafe\u0301"}, "Caf\u00e9"),
]


def test_gold_answers_of_every_kind_keep_their_type(tmp_path):
    path = tmp_path / "q.json"
    path.write_text(json.dumps([{"question": f"Who was asked {i}?"} | row for i, (row, _) in enumerate(ANSWERS)]))
    records = augmented(tmp_path, path)
    assert [record["answer"] for record in records] == [answer for _, answer in ANSWERS]


def test_gold_answers_out_of_reach_are_counted(tmp_path, capsys):
    answers = ["12,500", "J. R. Malo", ["Port Alder, Nordelia", "Port Alder"], "two\nlines", "yes"]
    (tmp_path / "q.json").write_text(json.dumps([{"question": f"{i}?", "answer": a} for i, a in enumerate(answers)]))
    assert check(tmp_path / "q.json") == 0
    printed = capsys.readouterr().out
    assert "with model.answer_extraction paper no reply can match 3 gold answers" in printed
    assert "with model.answer_extraction full no reply can match 1 gold answers" in printed


CONTEXT = {"title": ["A", "B"], "sentences": [["One.", " Two."], ["Three."]]}
FACTS = {"title": ["A", "B"], "sent_id": [1, 0]}
HOTPOT = {"id": "h", "question": "Who was asked?", "answer": "yes", "type": "bridge", "level": "hard"}
HUB_ROWS = {
    "hotpotqa": HOTPOT | {"context": CONTEXT, "supporting_facts": FACTS},
    "2wikimultihopqa": HOTPOT
    | {
        "context": json.dumps([["A", ["One.", "Two."]], ["B", ["Three."]]]),
        "supporting_facts": json.dumps([["A", 1], ["B", 0]]),
    },
    "popqa": {"id": 7, "question": "Who was asked?", "obj": "yes", "o_aliases": '["yea"]', "possible_answers": "[]"},
    "complexwebquestions": {
        "ID": "c",
        "question": "Who was asked?",
        "answers": {"answer": ["yes"], "aliases": [["yea"]], "answer_id": ["m.1"]},
    },
}


@pytest.mark.parametrize("dataset", HUB_ROWS)
@pytest.mark.parametrize("name", ["validation-00000-of-00001.parquet", "validation.jsonl"])
def test_benchmarks_are_read_as_the_hub_serves_them(dataset, name, tmp_path, capsys):
    row = HUB_ROWS[dataset]
    (tmp_path / name).write_bytes(parquet([row]) if name.endswith("parquet") else json.dumps(row).encode())
    assert check(tmp_path, dataset) == 2
    assert f"but {name}. Set data.data_path to the file" in capsys.readouterr().out.replace(f" ({tmp_path})", "")
    (record,) = augmented(tmp_path, tmp_path / name, dataset, "--data.data_type=total")
    assert record["qid"] in ("h", "7", "c")
    assert record["answer"] == ("yes" if "type" in row else ["yes", "yea"])
    assert record.get("golden_passages", ["One. Two.", "Three."]) == ["One. Two.", "Three."]


TEST_SETS = {
    "hotpotqa": [{"_id": "a", "question": "Who?", "context": [["T", ["One."]]]}, HOTPOT | {"answer": None, "type": ""}],
    "2wikimultihopqa": [{"_id": "a", "question": "Who?", "type": "t", "supporting_facts": [], "answer": None}],
    "popqa": [{"id": 1, "question": "Who?"}],
    "complexwebquestions": [{"ID": "c", "question": "Who?"}],
    "mine": [{"question": "Who?"}, {"question": "Where?", "answer": float("nan")}, {"question": "a", "answer": ""}],
}


@pytest.mark.parametrize("dataset", TEST_SETS)
def test_test_sets_without_answers_are_read_when_asked_for(dataset, tmp_path, capsys):
    path = tmp_path / "test.json"
    path.write_text(json.dumps(TEST_SETS[dataset]))
    assert check(path, dataset) == 2
    assert "row 0" in capsys.readouterr().out
    assert check(path, dataset, "--data.require_answers=false") == 0
    assert f"total: {len(TEST_SETS[dataset])} questions".replace("total", "test" if dataset == "mine" else "total") in (
        capsys.readouterr().out
    )


def test_a_type_named_as_the_whole_is_no_trap(tmp_path, capsys):
    path = tmp_path / "h.json"
    path.write_text(json.dumps([HOTPOT | {"type": "total", "context": CONTEXT, "supporting_facts": FACTS}]))
    assert check(path, "hotpotqa") == 0
    assert "total: 1 questions" in capsys.readouterr().out


CELLS = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12)


@given(cells=st.lists(CELLS, min_size=1, max_size=5))
def test_quoted_cells_are_read_as_they_were_written(cells):
    line = "\t".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    assert tsv_cells(line) == cells


@given(cells=st.lists(CELLS.filter(lambda cell: '"' not in cell and "\t" not in cell), min_size=1, max_size=5))
def test_cells_without_quotes_are_taken_as_they_stand(cells):
    assert tsv_cells("\t".join(cells)) == cells


@given(line=st.text('"\ta ', max_size=20))
@settings(max_examples=300)
def test_no_character_of_a_line_is_lost(line):
    letters = "".join(tsv_cells(line)).replace('"', "").replace("\t", "")
    assert letters == line.replace('"', "").replace("\t", "")
