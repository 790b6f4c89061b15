"""Documents become passages of whole sentences, and nothing of them is lost."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prag_lightning.cli.entry import main
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.data.documents import cut

TEXT = "Dr. Ada Lind lives in St. Gallen, e.g. in winter. She sells 3.5 kg of bread a day! Does she bake? She does. "


SENTENCES = (
    "Dr. Ada Lind lives in St. Gallen, e.g. in winter.",
    "She sells 3.5 kg a day!",
    "Does she bake?",
    "She does.",
)


@given(sentences=st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=60), words=st.integers(5, 60))
def test_passages_are_whole_sentences_of_about_the_length(sentences, words):
    passages = cut(" ".join(sentences), words)
    assert " ".join(passages) == " ".join(sentences)
    assert all(passage.endswith(tuple(SENTENCES)) for passage in passages)
    longest = max(len(sentence.split()) for sentence in SENTENCES)
    assert all(len(passage.split()) <= words + longest for passage in passages)


@given(length=st.integers(1, 500), words=st.integers(1, 60))
def test_text_without_full_stops_is_cut_between_words(length, words):
    passages = cut("entry " * length, words)
    assert " ".join(passages).split() == ["entry"] * length
    assert all(len(passage.split()) <= 2 * words for passage in passages)


@given(text=st.text(max_size=300))
def test_any_text_is_cut(text):
    letters = [char for char in text if char.isalnum()]
    assert [char for char in "".join(cut(text, 5)) if char.isalnum()] == letters


def test_abbreviations_headings_and_other_scripts():
    assert cut(TEXT, 9) == [
        "Dr. Ada Lind lives in St. Gallen, e.g. in winter.",
        "She sells 3.5 kg of bread a day!",
        "Does she bake? She does.",
    ]
    assert cut("# Life\nShe is old. C# is a language.", 100) == ["Life. She is old. C# is a language."]
    assert len(cut("今日は晴れです。" * 40, 20, "ja")) > 3


def test_a_folder_becomes_a_corpus(tmp_path, capsys):
    (tmp_path / "docs/deep").mkdir(parents=True)
    (tmp_path / "docs/a.txt").write_text(TEXT * 10)
    (tmp_path / "docs/deep/b.md").write_text("# The Mill\n\nIt stands in Oldford.\tIt is old.\n")
    rows = [{"title": "Café\tX", "text": 'He said "no".'}, {"contents": "Two."}, {"text": "   "}]
    (tmp_path / "docs/c.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "docs/image.png").write_bytes(b"\x00")
    out = tmp_path / "my/passages.tsv"
    assert main(["corpus", "--documents", str(tmp_path / "docs"), "--out", str(out), "--words", "30"]) == 0
    said = capsys.readouterr().err
    assert "read 3 files: a.txt, c.jsonl, deep/b.md" in said
    assert "left out 1, without text: c.jsonl, line 3" in said
    assert "left out 1, .png is not read: image.png" in said
    reader = CorpusReader(out)
    passages = list(reader)
    assert reader.bad_row_count == 0
    assert [passage.id for passage in passages] == [str(i) for i in range(1, len(passages) + 1)]
    assert [(p.title, p.text) for p in passages[-3:]] == [
        ("Café X", 'He said "no".'),
        ("c", "Two."),
        ("The Mill", "The Mill. It stands in Oldford. It is old."),
    ]


def test_every_file_is_accounted_for(tmp_path, capsys):
    docs = tmp_path / "docs"
    (docs / ".hidden").mkdir(parents=True)
    (docs / "sub").mkdir()
    files = {
        "NOTES.TXT": b"The harbour is old.",
        "README.MD": b"# Readme\nThe mill stands.",
        "b.markdown": b"The bridge is old.",
        "bom.txt": "\ufeffThe church is new.".encode(),
        "utf16.txt": "The tower is tall.".encode("utf-16"),
        "sub/cafe\u0301.txt": "Cafe\u0301 here.".encode(),
        "rows.jsonl": b'{"title": "T", "text": "A row."}\nno json\n{"body": "x"}\n',
        "latin1.txt": b"Caf\xe9 here.",
        "empty.txt": b" \n",
        "page.html": b"<p>A page.</p>",
        "report.pdf": b"%PDF-1.4",
        "Makefile": b"all:",
        "._NOTES.TXT": b"\x00\x05\x16\x07",
        ".hidden/COMMIT.txt": b"ref",
    }
    for name, content in files.items():
        (docs / name).write_bytes(content)
    (docs / "link").symlink_to(tmp_path, target_is_directory=True)
    (docs / "gone.txt").symlink_to(tmp_path / "nowhere")
    assert main(["corpus", "--documents", str(docs), "--out", str(tmp_path / "c.tsv")]) == 0
    said = capsys.readouterr().err
    for line in (
        "read 7 files: NOTES.TXT, README.MD, b.markdown, bom.txt, rows.jsonl, utf16.txt, sub/cafe\u0301.txt",
        "left out 2, hidden: ._NOTES.TXT, .hidden/COMMIT.txt",
        "left out 1, no suffix says what it is: Makefile",
        "left out 1, .html is not read: page.html",
        "left out 1, .pdf is not read: report.pdf",
        "left out 1, a link to a folder: link",
        "left out 1, no file: gone.txt",
        "left out 1, cannot read the document: it is not UTF-8: byte 0xe9 in line 1: latin1.txt",
        "left out 1, without text: empty.txt",
        "left out 1, no JSON: rows.jsonl, line 2",
        "left out 1, no 'text': rows.jsonl, line 3",
    ):
        assert f"\n{line}\n" in said
    passages = list(CorpusReader(tmp_path / "c.tsv"))
    assert [(p.title, p.text) for p in passages][1] == ("Readme", "Readme. The mill stands.")
    assert {p.text for p in passages} >= {"The church is new.", "The tower is tall.", "A row.", "Caf\u00e9 here."}
    assert "caf\u00e9" in {p.title for p in passages}


@pytest.mark.parametrize("character", ["\u5b57", "\u0e17\u0e35\u0e48", "\u3042"])
def test_text_without_spaces_is_cut_too(character):
    passages = cut(character * 1000, 50)
    assert "".join(passages) == character * 1000
    assert {len(passage) for passage in passages} == {100 * len(character)}


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, [], "there is no document"),
        ({"a.txt": b"  \n"}, [], "hold no text"),
        ({"a.txt": b"\xff\xfe\x00"}, [], "cannot read the document"),
        ({"a.jsonl": b"no json"}, [], "no JSON: a.jsonl, line 1"),
        ({"a.jsonl": b""}, [], "without text: a.jsonl"),
        ({"a.pdf": b"%PDF"}, [], ".pdf is not read: a.pdf"),
        ({"a.jsonl": b'{"body": "x"}'}, [], "no 'text'"),
        ({"a.txt": b"x"}, ["--words", "0"], "words is 0"),
        ({"a.txt": b"x"}, ["--out", "x.csv"], "written as .tsv"),
        ({"a.txt": b"x"}, ["--documents", "nowhere"], "no documents"),
    ],
)
def test_mistakes_are_named(tmp_path, capsys, files, options, message):
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert main(["corpus", "--documents", str(folder), "--out", str(tmp_path / "out.tsv"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.tsv").exists()
