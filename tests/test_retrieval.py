"""Corpora are read in a stream, and BM25 finds the passage that was asked for."""

import gzip
import json
import subprocess
import sys

import pytest
from jsonargparse import ArgumentParser

from prag_lightning.data.corpus import CorpusReader
from prag_lightning.errors import InputError
from prag_lightning.records import Passage
from prag_lightning.retrieval import RankBM25Retriever, Retriever, Tokenisation

ROWS = 'id\ttext\ttitle\n1\t"He said ""hello"" to all."\tGreeting\n2\tplain text\tOther\n'


def test_tsv_and_jsonl_plain_and_gzipped(tmp_path):
    expected = [Passage('He said "hello" to all.', "1", "Greeting"), Passage("plain text", "2", "Other")]
    (tmp_path / "a.tsv").write_text(ROWS, encoding="utf-8")
    with gzip.open(tmp_path / "b.tsv.gz", "wt", encoding="utf-8") as file:
        file.write(ROWS)
    lines = [json.dumps({"id": p.id, "text": p.text, "title": p.title}) for p in expected]
    (tmp_path / "c.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for name in ("a.tsv", "b.tsv.gz", "c.jsonl"):
        assert list(CorpusReader(tmp_path / name)) == expected


def test_bad_rows_are_counted_and_named(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(ROWS + "3\tonly two\n4\t\tempty\n5\ta\tb\tc\n6\tgood\tx\n", encoding="utf-8")
    reader = CorpusReader(path)
    assert [p.id for p in reader] == ["1", "2", "6"]
    assert reader.bad_row_count == 3
    assert reader.bad_rows == ["row 4: 2 columns instead of 3", "row 5: no text", "row 6: 4 columns instead of 3"]
    path = tmp_path / "b.jsonl"
    path.write_text('{"text": "a"}\nnot json\n{"text": ""}\n[]\n{"contents": "b", "id": 7}\n', encoding="utf-8")
    reader = CorpusReader(path)
    assert [(p.id, p.text) for p in reader] == [("1", "a"), ("7", "b")]
    assert reader.bad_row_count == 3


def test_an_unclosed_quote_costs_its_own_row(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(ROWS + '3\t"never closed\tx\n' + "".join(f"{i}\ttext\tx\n" for i in range(4, 50)) + '50\t"q"\tx\n')
    reader = CorpusReader(path)
    assert [int(p.id) for p in reader] == [1, 2, *range(4, 51)]
    assert reader.bad_rows == ["row 4: 2 columns instead of 3"]


def test_byte_order_mark_is_no_part_of_the_corpus(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(ROWS, encoding="utf-8-sig")
    assert len(list(CorpusReader(path))) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", r"\.tsv or \.jsonl"),
        ("a.tsv", b"", "first row"),
        ("a.tsv", b"id\ttext\ttitle\n", "no passage"),
        ("a.tsv", b"1\tsome text\ttitle\n", "columns"),
        ("a.jsonl", b"", "no passage"),
        ("a.jsonl", b"\xff\xfe", "read"),
        ("a.tsv.gz", b"no gzip", "read"),
        ("a.tsv.gz", gzip.compress(ROWS.encode() * 50, mtime=0)[:60], "read"),
    ],
)
def test_unreadable_corpora_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(CorpusReader(path))
    assert name in str(caught.value)


PASSAGES = [
    Passage("The harbour of Oslo freezes in winter.", "1", "Oslo"),
    Passage("Rome was not built in a day.", "2", "Rome"),
    Passage("Fishing boats wait for the ice to melt.", "3", "Harbour of Oslo"),
    Passage("Rome was not built in a day.", "4", "Copy"),
]


def test_search_finds_by_text_and_title_each_text_once():
    retriever = RankBM25Retriever(PASSAGES)
    oslo, rome, none = retriever.search(["Oslo's frozen harbours?", "building Rome", "xyzzy the"], 3)
    assert {hit.passage.id for hit in oslo} == {"1", "3"}
    assert [hit.passage.id for hit in rome] == ["2"]
    assert none == []
    assert [hit.score for hit in oslo] == sorted((hit.score for hit in oslo), reverse=True)
    assert len(retriever.search(["Oslo harbour Rome ice"], 100)[0]) == 3
    assert retriever.search(["Oslo"], 0) == retriever.search(["Oslo"], -1) == [[]]


def test_tokenisation_is_a_setting():
    assert Tokenisation()("The Harbours' BOATS") == ["harbour", "boat"]
    assert Tokenisation(stop_words=False, stemmer=None)("The Harbours") == ["the", "harbours"]
    with pytest.raises(InputError, match="english"):
        Tokenisation(stemmer="klingon")


class Stage:
    def __init__(self, retriever: Retriever):
        self.retriever = retriever


def test_a_configuration_can_name_the_corpus_file(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(ROWS, encoding="utf-8")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Stage, "stage", sub_configs=True)
    setting = {"class_path": "prag_lightning.retrieval.RankBM25Retriever", "init_args": {"corpus": str(path)}}
    stage = parser.instantiate(parser.parse_object({"stage": {"retriever": setting}})).stage
    assert [hit.passage.id for hit in stage.retriever.search(["greetings"], 3)[0]] == ["1"]


def test_empty_corpus_is_named():
    with pytest.raises(InputError, match="no passage"):
        RankBM25Retriever([]).search(["a"], 1)


def test_retrieval_needs_no_torch():
    code = "import sys, prag_lightning.retrieval; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_gold_passages_of_real_questions_are_found(real_data):
    lines = (real_data / "corpus/hotpotqa_349.queries.tsv").read_text(encoding="utf-8").splitlines()
    queries = dict(line.split("\t")[:2] for line in lines[:40])
    gold: dict[str, set[str]] = {}
    for line in (real_data / "corpus/hotpotqa_349.qrels.txt").read_text(encoding="utf-8").splitlines():
        query, _, passage, _ = line.split()
        gold.setdefault(query, set()).add(passage)
    retriever = RankBM25Retriever(str(real_data / "corpus/wiki_30938.tsv.gz"))
    asked = {query: text for query, text in queries.items() if query in gold}
    found = retriever.search(list(asked.values()), 10)
    recalls = [
        len(gold[query] & {hit.passage.id for hit in hits}) / len(gold[query])
        for query, hits in zip(asked, found, strict=True)
    ]
    assert len(recalls) > 20
    assert sum(recalls) / len(recalls) > 0.6
