"""Corpora as people have them, through the command line: small ones, quotes, ids, encodings, scripts without spaces,
and files that change."""

import gzip
import hashlib
import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from own_data import augment
from prag_lightning.cli.entry import main
from prag_lightning.data.corpus import CorpusReader, read_corpus, write_passages
from prag_lightning.errors import InputError
from prag_lightning.records import Passage, Source
from prag_lightning.retrieval import BM25sRetriever, RankBM25Retriever, Tokenisation
from readers import parquet


def tsv(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in ("id\ttext\ttitle", *rows)).encode()


def check(path, capsys) -> str:
    assert main(["data", "check", "--data.dataset=none", f"--data.corpus={path}"]) == 2  # there are no questions
    return capsys.readouterr().out.partition("corpus: ")[2]


def found(tmp_path, corpus, *questions: str, backend: str = "memory") -> list[list[str]]:
    """What `prag augment` takes for the questions, from the corpus or an index that `prag index` made of it."""
    path = tmp_path / "questions.json"
    path.write_text(json.dumps([{"question": text, "answer": "a"} for text in questions]), encoding="utf-8")
    options = []
    if backend == "bm25s":
        options = ["--data.retriever=BM25sRetriever", f"--data.retriever.index={tmp_path / 'index'}"]
        options.append(f"--data.retriever.corpus={corpus}")
        assert main(["index", *options]) == 0
    return [record["passages"] for record in augment(tmp_path, corpus, path, "mine", *options)]


SAILOR, COMPANY = "Paula Zalville is a sailor from North Walton.", "The company is from Eastham."
OTHERS = ["The company hired a person from Oldwick.", "Paula Zalville hired nobody.", "It rains.", "A mill stands."]


@pytest.mark.parametrize("backend", ["memory", "bm25s"])
@pytest.mark.parametrize("others", range(len(OTHERS) + 1))
def test_the_right_passage_is_first_whatever_the_size(others, backend, tmp_path):
    rows = [f"{i}\t{text}\t" for i, text in enumerate([COMPANY, *OTHERS[:others], SAILOR])]
    (tmp_path / "c.tsv").write_bytes(tsv(*rows))
    assert found(tmp_path, tmp_path / "c.tsv", "Where is Paula Zalville from?", backend=backend) == [[SAILOR]]


@given(half=st.integers(1, 20))
def test_a_word_in_half_of_the_passages_counts(half):
    texts = [f"harbour {i}" for i in range(half)] + [f"mill {i}" for i in range(half)]
    hits = RankBM25Retriever([Passage(text) for text in texts]).search(["harbour"], 2 * half)[0]
    assert {hit.passage.text for hit in hits} == set(texts[:half])
    assert all(hit.score > 0 for hit in hits)


def test_quotes_that_quote_nothing_are_text(tmp_path, capsys):
    texts = [
        '"Heroes" is a song.',
        'He said "no".',
        '"The Wall" and "Animals" are albums.',
        'Said "x" and\\"y\\"',
        '12" is a foot',
    ]
    rows = [f"{i}\t{text}\tT" for i, text in enumerate(texts)]
    quoted = [
        '5\t"""Heroes"" is\ta song."\t"T"',
        '6\t"Unclosed is a film.\tFilm',
        '7\tThe film\t"Up',
        "8\ta tab\tmore\tT",
    ]
    (tmp_path / "c.tsv").write_bytes(tsv(*rows, *quoted))
    passages = list(CorpusReader(tmp_path / "c.tsv"))
    assert [passage.text for passage in passages] == [*texts, '"Heroes" is\ta song.', "The film"]
    assert passages[-1].title == '"Up'
    printed = check(tmp_path / "c.tsv", capsys)
    assert "7 passages, 2 bad rows" in printed
    assert "row 8: 2 columns instead of 3" in printed
    assert "row 10: 4 columns instead of 3" in printed


def jsonl(*rows: dict) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


IDS = {
    "beir.jsonl": jsonl({"_id": "d0", "title": "T", "text": "one"}, {"_id": "d1", "title": "", "text": "two"}),
    "pyserini.jsonl": jsonl({"docid": "d0", "contents": "one"}, {"docid": "d1", "contents": "two"}),
    "plain.jsonl": jsonl({"id": "d0", "text": "one"}, {"id": "d1", "text": "two"}),
    "beir.parquet": parquet([{"_id": "d0", "title": "T", "text": "one"}, {"_id": "d1", "title": "", "text": "two"}]),
    "beir.tsv": b"_id\ttext\nd0\tone\nd1\ttwo\n",
    "other_order.tsv": b"title\tText\tdocid\nT\tone\td0\n\ttwo\td1\n",
    "windows.tsv": tsv("d0\tone\tT", "d1\ttwo\t").replace(b"\n", b"\r\n"),
    "blank_lines.tsv": tsv("d0\tone\tT", "", "d1\ttwo\t", "", ""),
    "bom.tsv": b"\xef\xbb\xbf" + tsv("d0\tone\tT", "d1\ttwo\t"),
    "utf16.tsv": tsv("d0\tone\tT", "d1\ttwo\t").decode().encode("utf-16"),
    "gzipped_named_tsv.tsv": gzip.compress(tsv("d0\tone\tT", "d1\ttwo\t"), mtime=0),
    "plain_named_gz.tsv.gz": tsv("d0\tone\tT", "d1\ttwo\t"),
    "UPPER.TSV": tsv("d0\tone\tT", "d1\ttwo\t"),
}


@pytest.mark.parametrize("name", IDS)
def test_ids_and_texts_are_those_of_the_file(name, tmp_path, capsys):
    (tmp_path / name).write_bytes(IDS[name])
    assert "2 passages, 0 bad rows" in check(tmp_path / name, capsys)
    assert [(p.id, p.text) for p in CorpusReader(tmp_path / name)] == [("d0", "one"), ("d1", "two")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("zip.tsv", b"PK\x03\x04" + bytes(50), "it is a zip archive"),
        ("cut.tsv", gzip.compress(tsv("1\tone\tT") * 50, mtime=0)[:40], "cannot read the corpus"),
        ("no_ids.tsv", b"number\ttext\n1\tone\n", "the first row is ['number', 'text']"),
        ("latin1.tsv", "id\ttext\n1\té\n".encode("latin-1"), "byte 0xe9 ({path}). Save it as UTF-8"),
        ("damaged.parquet", IDS["beir.parquet"][:100], "the parquet file is damaged"),
        ("a.csv", b"id,text\n", "a .tsv or .jsonl file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_named(name, content, message, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    assert message.replace("{path}", str(tmp_path / name)) in check(tmp_path / name, capsys)


def test_a_row_in_another_encoding_costs_itself_alone(tmp_path, capsys):
    rows = tsv("1\tHeroes is a song.\tHeroes", "2\tCafé here.\tCafé", "3\tThird.\tT").decode()
    (tmp_path / "c.tsv").write_bytes(rows.encode("latin-1"))
    printed = check(tmp_path / "c.tsv", capsys)
    assert "2 passages, 1 bad rows" in printed
    assert "row 3: not UTF-8: byte 0xe9" in printed
    assert found(tmp_path, tmp_path / "c.tsv", "What is third?") == [["Third."]]
    assert "c.tsv: 1 row was skipped, the first: row 3: not UTF-8" in capsys.readouterr().err


LANGUAGES = {
    "zh": ("爱因斯坦出生在哪里？", "爱因斯坦出生于德国乌尔姆，是著名的物理学家。", "北京是中华人民共和国的首都。"),
    "ja": ("夏目漱石はどこで生まれた？", "夏目漱石は江戸の牛込で生まれた小説家である。", "京都は日本の古都である。"),
    "th": ("กรุงเทพมหานครอยู่ที่ไหน", "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", "เชียงใหม่อยู่ทางเหนือ"),
    "ko": ("서울은 어디에 있나?", "대한민국의 수도 서울에는 한강이 흐른다.", "부산은 항구 도시이다."),
    "hi": ("दिल्ली कहाँ है?", "दिल्ली भारत की राजधानी है।", "मुंबई एक शहर है।"),
    "one character": ("猫？", "黑猫在睡觉。", "狗在跑。"),
    "NFD": (
        "Who founded Cafe\u0301 Mu\u0308ller?",
        "Caf\u00e9 M\u00fcller was founded by Zo\u00eb.",
        "The founder is a mill.",
    ),
    "NFD corpus": ("Who is Zo\u00eb?", "Zoe\u0308 Lo\u0308wen bakes.", "The founder is a mill."),
    "full width": ("Ｐａｕｌａ？", "Paula sails.", "Ada bakes."),
}


@pytest.mark.parametrize("backend", ["memory", "bm25s"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_text_of_any_language_is_found(language, backend, tmp_path):
    question, right, wrong = LANGUAGES[language]
    (tmp_path / "c.tsv").write_bytes(tsv(f"1\t{wrong}\t", f"2\t{right}\t", "3\tA river flows.\t"))
    ((passage,),) = found(tmp_path, tmp_path / "c.tsv", question, backend=backend)
    assert passage == right.replace("e\u0308", "\u00eb").replace("o\u0308", "\u00f6")


@given(text=st.text(max_size=80))
def test_every_text_finds_itself_unless_it_has_no_word(text):
    words = Tokenisation()(text)
    hits = RankBM25Retriever([Passage("another text"), Passage(text)]).search([text], 2)[0]
    assert bool(words) == (text in [hit.passage.text for hit in hits])


def test_what_cannot_be_found_is_said(tmp_path, capsys):
    (tmp_path / "c.tsv").write_bytes(tsv("1\tA river flows.\t", "2\t!!!\t"))
    assert found(tmp_path, tmp_path / "c.tsv", "Which river?", "Zzyzx?") == [["A river flows."], []]
    captured = capsys.readouterr()
    assert "passages without a word to search by, which are never found: 1" in captured.err
    assert "questions that share no word with any passage: 1 of 2, the first: Zzyzx?" in captured.err


def test_a_corpus_that_changed_is_read_again_and_its_index_refused(tmp_path, capsys):
    corpus = tmp_path / "c.tsv"
    corpus.write_bytes(tsv("1\tA river flows.\t", "2\tIt rains.\t"))
    in_memory = RankBM25Retriever(corpus)
    options = ["--data.retriever=BM25sRetriever", f"--data.retriever.index={tmp_path / 'index'}"]
    options += [f"--data.retriever.corpus={corpus}", "--data.dataset=none"]
    assert main(["index", *options[:3]]) == 0
    on_disk = BM25sRetriever(tmp_path / "index", corpus)
    assert [r.search(["river"], 1)[0][0].passage.text for r in (in_memory, on_disk)] == ["A river flows."] * 2
    os.utime(corpus, (1, 1))
    assert on_disk.search(["river"], 1)[0]
    corpus.write_bytes(corpus.read_bytes().replace(b"flows", b"dries"))
    assert in_memory.search(["river"], 1)[0][0].passage.text == "A river dries."
    capsys.readouterr()
    assert main(["data", "check", *options]) == 2
    assert "the index was made with corpus_sha256" in capsys.readouterr().out
    assert main(["index", *options[:3]]) == 0
    assert on_disk.search(["river"], 1)[0][0].passage.text == "A river dries."


FOUND = [
    Passage("Handbook > Travel: Three days.", "a.md#1", "Handbook", Source("a.md", None, 12, "Handbook > Travel")),
    Passage("Report: The mill is old.", "b.pdf#2", "Report", Source("b.pdf", 3)),
    Passage("The bridge is new.", "3", "Bridge"),
]


@pytest.mark.parametrize("name", ["c.tsv", "c.jsonl", "c.parquet"])
def test_a_corpus_says_where_its_passages_stand(name, tmp_path):
    if name == "c.parquet":
        write_passages(tmp_path / "c.jsonl", FOUND)
        rows = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
        keys = {key: None for row in rows for key in row}
        (tmp_path / name).write_bytes(parquet([keys | row for row in rows]))
    else:
        write_passages(tmp_path / name, FOUND)
    assert read_corpus(tmp_path / name) == FOUND


def test_a_corpus_without_sources_has_no_columns_for_them(tmp_path):
    write_passages(tmp_path / "c.tsv", FOUND[2:])
    assert (tmp_path / "c.tsv").read_text() == "id\ttext\ttitle\n3\tThe bridge is new.\tBridge\n"
    with pytest.raises(InputError, match=r"written as \.tsv or \.jsonl .*c\.csv"):
        write_passages(tmp_path / "c.csv", FOUND)


def test_a_source_of_a_wrong_type_costs_its_row(tmp_path):
    rows = [
        {"id": 1, "text": "A.", "document": "a.pdf", "page": "ten"},
        {"id": 2, "text": "B.", "document": ["a.pdf"]},
        {"id": 3, "text": "C.", "document": "a.pdf", "page": 3.0, "line": None, "heading": ""},
        {"id": 4, "text": "D.", "document": "a.pdf", "line": -1},
        {"id": 5, "text": "E.", "document": "a.pdf", "heading": {}},
        {"id": 6, "text": "F.", "page": "of no document"},
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reader = CorpusReader(tmp_path / "c.jsonl")
    assert [(each.id, each.source) for each in reader] == [
        ("3", Source("a.pdf", 3)),
        ("5", Source("a.pdf")),
        ("6", None),
    ]
    assert reader.bad_rows == ["row 1: its page is 'ten'", "row 2: its document is ['a.pdf']", "row 4: its line is -1"]


@pytest.mark.parametrize("backend", ["rank_bm25", "bm25s"])
def test_what_is_found_says_where_it_stands_and_its_title_counts_once(backend, tmp_path):
    path = tmp_path / "c.jsonl"
    write_passages(path, FOUND)
    retriever = RankBM25Retriever(path) if backend == "rank_bm25" else BM25sRetriever(tmp_path / "index", path)
    if backend == "bm25s":
        retriever.build()
    found = retriever.search(["travel three days", "report mill", "bridge"], 1)
    assert [hits[0].passage for hits in found] == FOUND
    once = [Passage(each.text) for each in FOUND[:2]]
    plain = RankBM25Retriever(once).search(["report"], 1)[0][0].score
    assert RankBM25Retriever(FOUND[:2]).search(["report"], 1)[0][0].score == plain
    assert FOUND[2].searched == "Bridge The bridge is new."


def test_passages_without_a_source_are_the_corpus_that_they_were():
    expected = hashlib.sha256(b'[["The bridge is new.", "3", "Bridge"]]').hexdigest()
    assert RankBM25Retriever(FOUND[2:]).corpus_version() == expected
    moved = [replace(FOUND[1], source=Source("b.pdf", 4))]
    assert RankBM25Retriever(FOUND[1:2]).corpus_version() != RankBM25Retriever(moved).corpus_version()
