"""Retrieval from a server: filled whole or not at all, asked as published, and named when it misbehaves."""

import os

import pytest

from prag_lightning.errors import InputError, PragError
from prag_lightning.records import Passage
from prag_lightning.retrieval import ElasticsearchRetriever
from search_server import SearchServer

TEXTS = ("the baker of Oldford", "a river near Oldford", "the baker bakes", "the baker of Oldford")


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.tsv"
    path.write_text("id\ttext\ttitle\n" + "".join(f"{i}\t{text}\tT{i}\n" for i, text in enumerate(TEXTS, 1)))
    return path


@pytest.fixture(params=["elasticsearch", "opensearch"])
def server(request):
    return request.param, SearchServer("Elasticsearch" if request.param == "elasticsearch" else None)


def test_indexes_and_searches_each_text_once(server, corpus):
    kind, stand_in = server
    with stand_in as url:
        retriever = ElasticsearchRetriever("wiki", corpus, url, kind)
        retriever.build()
        baker, river, nothing = retriever.search(["Who is the baker of Oldford?", "river", "zzz"], 10)
        assert next(hit.passage for hit in baker) == Passage(TEXTS[0], "1", "T1")
        assert {hit.passage.id for hit in baker} == {"1", "2", "3"}
        assert [hit.passage.id for hit in river] == ["2"]
        assert nothing == []
        fields = stand_in.indices["wiki-a"]["mappings"]["properties"]
        assert {name: field["analyzer"] for name, field in fields.items()} == {"title": "english", "txt": "english"}


def test_a_new_index_replaces_the_old_one_when_it_is_whole(server, corpus):
    kind, stand_in = server
    with stand_in as url:
        retriever = ElasticsearchRetriever("wiki", corpus, url, kind)
        retriever.build()
        version = retriever.corpus_version()
        stand_in.fail_bulk_after = 2
        with pytest.raises(PragError, match="disk_full"):
            ElasticsearchRetriever("wiki", corpus, url, kind).build()
        assert list(stand_in.indices) == ["wiki-a"]
        stand_in.fail_bulk_after = None
        corpus.write_text(corpus.read_text() + "5\tone more\tT5\n")
        with pytest.raises(InputError, match=r"made with corpus_bytes .*prag index"):
            ElasticsearchRetriever("wiki", corpus, url, kind).search(["river"], 1)
        ElasticsearchRetriever("wiki", corpus, url, kind).build()
        assert list(stand_in.indices) == ["wiki-b"]
        assert retriever.corpus_version() not in (version, None)
        assert stand_in.aliases == {"wiki": "wiki-b"}
        assert ElasticsearchRetriever("wiki", corpus, url, kind).search(["one more"], 1)[0][0].passage.id == "5"


def test_an_index_of_other_software_is_searched_and_never_overwritten(server, corpus):
    kind, stand_in = server
    stand_in.indices["wiki"] = {"mappings": {}, "passages": {"7": {"title": "T", "txt": "a mill"}}}
    with stand_in as url:
        retriever = ElasticsearchRetriever("wiki", corpus, url, kind)
        assert retriever.search(["mill"], 3)[0][0].passage == Passage("a mill", "7", "T")
        with pytest.raises(InputError, match="prag did not make"):
            retriever.build()
    assert list(stand_in.indices) == ["wiki"]


def test_credentials_come_from_the_environment_and_are_never_shown(server, corpus, monkeypatch):
    kind, stand_in = server
    monkeypatch.setenv("ELASTICSEARCH_USERNAME", "ada")
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", "secret")
    with stand_in as url:
        with pytest.raises(InputError) as caught:
            ElasticsearchRetriever("wiki", corpus, url.replace("//", "//ada:secret@"), kind).search(["x"], 1)
        assert "secret" not in str(caught.value)
        monkeypatch.delenv("ELASTICSEARCH_USERNAME")
        monkeypatch.setenv("ELASTICSEARCH_API_KEY", "a2V5")
        with pytest.raises(InputError, match=r"there is no index .*prag index"):
            ElasticsearchRetriever("wiki", corpus, url, kind).search(["x"], 1)
    sent = [
        value
        for _, _, headers in stand_in.requests
        for name, value in headers.items()
        if name.lower() == "authorization"
    ]
    assert sent[0].startswith("Basic ")
    assert sent[-1] == "ApiKey a2V5"


@pytest.mark.parametrize(
    ("misbehaviour", "error", "message"),
    [
        ("unauthorized", InputError, r"the server refuses.*ELASTICSEARCH_API_KEY"),
        ("fails", PragError, r"does not answer as it should"),
        ("hangs", PragError, r"does not answer as it should"),
        ("cuts", PragError, r"does not answer as it should"),
    ],
)
def test_a_misbehaving_server_is_named(server, corpus, misbehaviour, error, message):
    kind, stand_in = server
    stand_in.misbehaviour = misbehaviour
    with stand_in as url, pytest.raises(error, match=message) as caught:
        ElasticsearchRetriever("wiki", corpus, url, kind, timeout=0.3).search(["x"], 1)
    assert url.removeprefix("http://") in str(caught.value)


def test_an_absent_server_and_one_of_another_kind_are_named(corpus):
    with pytest.raises(PragError, match=r"does not answer as it should.*ELASTICSEARCH_URL"):
        ElasticsearchRetriever("wiki", corpus, "http://127.0.0.1:9").search(["x"], 1)
    with SearchServer(product=None) as url, pytest.raises(InputError, match=r"server to opensearch"):
        ElasticsearchRetriever("wiki", corpus, url).search(["x"], 1)
    with pytest.raises(InputError, match=r"Check the url"):
        ElasticsearchRetriever("wiki", corpus, "nowhere").search(["x"], 1)


@pytest.mark.skipif("ELASTICSEARCH_URL" not in os.environ, reason="ELASTICSEARCH_URL names no server")
def test_a_real_server_finds_real_passages(real_data):
    kind = os.environ.get("ELASTICSEARCH_SERVER", "elasticsearch")
    retriever = ElasticsearchRetriever(
        "prag-test", real_data / "corpus" / "wiki_30938.tsv.gz", os.environ["ELASTICSEARCH_URL"], kind
    )
    retriever.build()
    lines = (real_data / "corpus" / "hotpotqa_349.queries.tsv").read_text(encoding="utf-8").splitlines()
    gold: dict[str, set[str]] = {}
    for line in (real_data / "corpus" / "hotpotqa_349.qrels.txt").read_text(encoding="utf-8").splitlines():
        query, _, passage, _ = line.split()
        gold.setdefault(query, set()).add(passage)
    queries = [line.split("\t") for line in lines]
    found = retriever.search([text for _, text in queries], 10)
    hits = [len(gold[key] & {hit.passage.id for hit in each}) for (key, _), each in zip(queries, found, strict=True)]
    assert sum(hits) > 0.7 * sum(map(len, gold.values()))
