"""Documents become passages of whole sentences that know where they stand, and nothing of them is lost."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prag_lightning.cli.entry import main
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.data.documents import Block, Document, DocumentReader, document_of_text, split
from prag_lightning.records import Source

TEXT = "Dr. Ada Lind lives in St. Gallen, e.g. in winter. She sells 3.5 kg of bread a day! Does she bake? She does. "
SENTENCES = (
    "Dr. Ada Lind lives in St. Gallen, e.g. in winter.",
    "She sells 3.5 kg a day!",
    "Does she bake?",
    "She does.",
)
LONGEST = max(len(sentence.split()) for sentence in SENTENCES)


def texts(text, words, language="en", overlap=0):
    """The passages of a text without a title."""
    return [passage.text for passage in split(document_of_text("a.txt", text), words, overlap, language)]


def read(folder, name, content):
    """The one document of a file, and its reader."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    reader = DocumentReader(path)
    (document,) = reader
    assert (reader.read, reader.skipped, reader.failed) == ([name], {}, {})
    return document


@settings(deadline=None)
@given(sentences=st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=60), words=st.integers(6, 60))
def test_passages_are_whole_sentences_of_about_the_length(sentences, words):
    numbered = [f"{sentence[:-1]} {number}{sentence[-1]}" for number, sentence in enumerate(sentences)]
    passages = texts(" ".join(numbered), words)
    assert " ".join(passages) == " ".join(numbered)
    sizes = [len(passage.split()) for passage in passages]
    assert all(size <= words + LONGEST + 1 + words // 3 for size in sizes)
    assert all(size * 3 >= words for size in sizes) or len(sizes) == 1


@settings(deadline=None)
@given(sentences=st.integers(1, 60), words=st.integers(20, 60), overlap=st.integers(0, 3))
def test_a_passage_begins_with_the_last_sentences_of_the_one_before(sentences, words, overlap):
    said = [f"The mill number {number} is old." for number in range(sentences)]
    passages = texts(" ".join(said), words, overlap=overlap)
    starts = [passage.split(". ")[0] for passage in passages]
    assert len(starts) == len(set(starts))
    for before, after in pairwise(passages):
        shared = [sentence for sentence in said if sentence in before and sentence in after]
        assert len(shared) == min(overlap, words // 3 // 6)
        assert before.endswith(" ".join(shared))
        assert after.startswith(" ".join(shared))


@settings(deadline=None)
@given(length=st.integers(1, 500), words=st.integers(1, 60))
def test_text_without_full_stops_is_cut_between_words(length, words):
    entries = [f"entry{number}" for number in range(length)]
    passages = texts(" ".join(entries), words, overlap=1)
    assert " ".join(passages).split() == entries
    assert all(len(passage.split()) <= 2 * words for passage in passages)


@settings(deadline=None)
@given(text=st.text(max_size=300))
def test_any_text_is_cut(text):
    document = document_of_text("a.txt", text)
    letters = [char for block in document.blocks for char in block.text if char.isalnum()]
    found = [char for passage in split(document, 5, 0) for char in passage.text if char.isalnum()]
    assert set(found) == set(letters)
    assert len(found) <= len(letters)


BLOCKS = st.builds(
    lambda words, path, row: Block(" ".join(words) + ".", path, row=row),
    st.lists(st.sampled_from("alder birch cedar Dr. e.g. fig".split()), min_size=1, max_size=40),
    st.lists(st.sampled_from("North South East".split()), max_size=3).map(tuple),
    st.booleans(),
)


@settings(deadline=None)
@given(blocks=st.lists(BLOCKS, max_size=12), words=st.integers(1, 60), overlap=st.integers(0, 2))
def test_every_word_stands_in_a_passage_and_every_passage_below_its_title(blocks, words, overlap):
    named = tuple(
        Block(" ".join(f"{word}{number}" for word in block.text.split()), block.headings, row=block.row)
        for number, block in enumerate(blocks)
    )
    passages = split(Document("a.md", "The Trees", named), words, overlap)
    said = " ".join(passage.text for passage in passages).split()
    assert {word for block in named for word in block.text.split()} <= set(said)
    assert {word for block in named for heading in block.headings for word in heading.split()} <= {
        word.rstrip(":") for word in said
    }
    assert all(passage.text.startswith(("The Trees: ", "The Trees > ")) for passage in passages)
    assert len({passage.id for passage in passages}) == len(passages)
    assert all(passage.source.document == "a.md" for passage in passages)


@settings(deadline=None)
@given(number=st.integers(0, 5), inserted=st.integers(1, 30), words=st.sampled_from([20, 50, 100]))
def test_an_edit_leaves_the_passages_of_other_sections_as_they_were(number, inserted, words):
    sections = [[f"The {tree} number {i} is old and tall." for i in range(40)] for tree in "alder birch cedar".split()]

    def passages():
        blocks = [Block(" ".join(each), (f"Part {place}",)) for place, each in enumerate(sections)]
        return [(passage.id, passage.text) for passage in split(Document("a.md", "Trees", tuple(blocks)), words)]

    before = passages()
    sections[number % 3].insert(number, "Another stands there. " * inserted)
    changed = set(passages()) ^ set(before)
    assert changed
    assert all(f"Part {number % 3}" in text for _, text in changed)


def test_sentences_are_not_cut_after_titles_and_abbreviations():
    assert texts(TEXT, 9) == [
        "Dr. Ada Lind lives in St. Gallen, e.g. in winter.",
        "She sells 3.5 kg of bread a day!",
        "Does she bake? She does.",
    ]
    for whole in (
        "See Form No. 5 and Vol. 3, Eq. (2).",
        "Ms. Bell met Rev. Gray, i.e. Tom.",
        "It has approx. 5 rooms.",
    ):
        for language in ("en", "fr", "xx"):
            assert texts(f"{whole} {whole[:-1]} too.", len(whole.split()), language) == [whole, f"{whole[:-1]} too."]
    assert len(texts("今日は晴れです。" * 40 + "明日は雨です。" * 40, 20, "ja")) > 3


def test_a_passage_says_what_it_stands_under_and_a_short_section_joins_its_neighbour(tmp_path):
    long = " ".join(f"Trip {number} takes three days." for number in range(12))
    document = read(
        tmp_path,
        "handbook.md",
        f"# Handbook\n\nWelcome to all.\n\n## Travel\n\n{long}\n\n### Meals\n\nThey are paid.\n\n## Leave\n\n"
        + long.replace("Trip", "Leave"),
    )
    passages = split(document, 30, 0)
    assert {passage.source.heading for passage in passages} == {"Handbook", "Handbook > Travel", "Handbook > Leave"}
    assert passages[0].text.startswith("Handbook: Welcome to all. Travel: Trip 0 takes three days.")
    assert passages[0].source == Source("handbook.md", None, 3, "Handbook")
    assert next(each.text for each in passages if "They are paid." in each.text).endswith("Meals: They are paid.")
    assert passages[-1].text.startswith("Handbook > Leave: Leave ")


def test_a_folder_becomes_a_corpus(tmp_path, capsys):
    (tmp_path / "docs/deep").mkdir(parents=True)
    (tmp_path / "docs/a.txt").write_text(TEXT * 10)
    (tmp_path / "docs/deep/b.md").write_text("# The Mill\n\nIt stands in Oldford.\tIt is old.\n")
    rows = [{"title": "Café\tX", "text": 'He said "no".'}, {"contents": "Two.", "_id": "two"}, {"text": "   "}]
    (tmp_path / "docs/c.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "docs/image.png").write_bytes(b"\x00")
    out = tmp_path / "my/passages.tsv"
    assert main(["corpus", "--documents", str(tmp_path / "docs"), "--out", str(out), "--words", "30"]) == 0
    said = capsys.readouterr().err
    assert "read 3 files: a.txt, c.jsonl, deep/b.md" in said
    assert "skipped 1, without text: c.jsonl, line 3" in said
    assert "skipped 1, .png is not read: image.png" in said
    reader = CorpusReader(out)
    passages = list(reader)
    assert reader.bad_row_count == 0
    assert len({passage.id for passage in passages}) == len(passages)
    assert [(p.title, p.text, p.source) for p in passages[-3:]] == [
        ("Café X", 'Café X: He said "no".', Source("c.jsonl#1", None, 1)),
        ("c", "c: Two.", Source("c.jsonl#two", None, 2)),
        ("The Mill", "The Mill: It stands in Oldford. It is old.", Source("deep/b.md", None, 3, "The Mill")),
    ]
    assert passages[-1].id.startswith("deep/b.md#")
    assert main(["corpus", "--documents", str(tmp_path / "docs"), "--out", f"{out}.jsonl", "--words", "30"]) == 0
    assert list(CorpusReader(f"{out}.jsonl")) == passages


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
        "photo.png": b"",
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
        "read 8 files: NOTES.TXT, README.MD, b.markdown, bom.txt, page.html, rows.jsonl, utf16.txt, sub/caf\u00e9.txt",
        "skipped 2, hidden: ._NOTES.TXT, .hidden/COMMIT.txt",
        "skipped 1, no suffix says what it is: Makefile",
        "skipped 1, .png is not read: photo.png",
        "skipped 1, a link to a folder: link",
        "skipped 1, no file: gone.txt",
        "failed 1, cannot read the document: it is not UTF-8: byte 0xe9 in line 1: Save it as UTF-8: latin1.txt",
        "skipped 1, without text: empty.txt",
        "failed 1, no JSON: rows.jsonl, line 2",
        "failed 1, no 'text': rows.jsonl, line 3",
    ):
        assert f"\n{line}\n" in said
    passages = list(CorpusReader(tmp_path / "c.tsv"))
    assert [(p.title, p.text) for p in passages][1] == ("Readme", "Readme: The mill stands.")
    assert {p.text for p in passages} >= {
        "bom: The church is new.",
        "utf16: The tower is tall.",
        "T: A row.",
        "caf\u00e9: Caf\u00e9 here.",
    }
    assert "caf\u00e9" in {p.title for p in passages}


@pytest.mark.parametrize("character", ["\u5b57", "\u0e17\u0e35\u0e48", "\u3042"])
def test_text_without_spaces_is_cut_too(character):
    passages = texts(character * 1000, 50, overlap=1)
    assert passages == [character * 100]
    spoken = "".join(f"{character}{number}" for number in range(1000))
    assert "".join(texts(spoken, 50, overlap=1)) == spoken


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, [], "there is no document"),
        ({"a.txt": b"  \n"}, [], "hold no text"),
        ({"a.txt": b"\xff\xfe\x00"}, [], "cannot read the document"),
        ({"a.jsonl": b"no json"}, [], "no JSON: a.jsonl, line 1"),
        ({"a.jsonl": b""}, [], "without text: a.jsonl"),
        ({"a.png": b"%PNG"}, [], ".png is not read: a.png"),
        ({"a.jsonl": b'{"body": "x"}'}, [], "no 'text'"),
        ({"a.txt": b"x"}, ["--words", "0"], "words is 0"),
        ({"a.txt": b"x"}, ["--overlap", "-1"], "overlap is -1"),
        ({"a.txt": b"x"}, ["--out", "x.csv"], "written as .tsv or .jsonl"),
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
