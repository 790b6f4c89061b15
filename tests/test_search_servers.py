"""Real servers: filled whole and once whatever happens, asked as published, and patiently; see `search_servers`."""

import signal
import threading
from itertools import count
from pathlib import Path

import elasticsearch
import opensearchpy
import pytest

from prag_lightning.data.corpus import write_passages
from prag_lightning.errors import InputError, PragError
from prag_lightning.records import Passage, Source
from prag_lightning.retrieval import ElasticsearchRetriever, claim, server_index
from search_servers import behind, held, once_at

DEMO = Path(__file__).parent.parent / "data" / "demo" / "corpus.tsv"
TEXTS = ("the baker of Oldford", "a river near Oldford", "the baker bakes", "the baker of Oldford")
_NUMBERS = count()


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus.tsv", TEXTS)


@pytest.fixture
def many(tmp_path):
    """More passages than are sent at once."""
    return write_corpus(tmp_path / "many.tsv", [f"number{i} of the towns of Oldford" for i in range(3000)])


@pytest.fixture
def name():
    """Of an index that no test has used."""
    return f"wiki{next(_NUMBERS)}"


@pytest.fixture
def small_rounds(monkeypatch):
    monkeypatch.setattr(server_index, "_ROUND", 300)
    monkeypatch.setattr(server_index, "_BODY", 8_000)


def write_corpus(path, texts):
    path.write_text("id\ttext\ttitle\n" + "".join(f"{i}\t{text}\tT{i}\n" for i, text in enumerate(texts, 1)))
    return path


def client(node):
    return {"elasticsearch": elasticsearch.Elasticsearch, "opensearch": opensearchpy.OpenSearch}[node.kind](node.url)


def retriever(node, name, corpus, **settings):
    return ElasticsearchRetriever(name, corpus, node.url, node.kind, **settings)


def ids(hits):
    return [hit.passage.id for hit in hits]


@pytest.fixture(autouse=True)
def interrupts():
    """Ctrl-C raises, also in a worker of pytest-xdist, which lets it pass."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    """As Ctrl-C does, whichever thread this is."""
    signal.raise_signal(signal.SIGINT)


def test_indexes_and_searches_each_text_once(node, name, corpus):
    found = retriever(node, name, corpus)
    found.build()
    baker, river, nothing = found.search(["Who is the bakers of Oldford?", "river", "zzz"], 10)
    assert next(hit.passage for hit in baker) == Passage(TEXTS[0], "1", "T1")
    assert set(ids(baker)) == {"1", "2", "3"}
    assert ids(river) == ["2"]
    assert nothing == []
    assert ids(found.search(["the rivers"], 10_001)[0]) == ["2"]


def test_what_is_found_says_where_it_stands(node, name, tmp_path):
    passages = [
        Passage(
            "Handbook > Travel: The baker travels.", "a.md#1", "Handbook", Source("a.md", None, 12, "Handbook > Travel")
        ),
        Passage("A river near Oldford.", "2", "River", Source("b.pdf", 3)),
        Passage("Nothing else.", "3", "Other"),
    ]
    write_passages(tmp_path / "c.jsonl", passages)
    found = retriever(node, name, tmp_path / "c.jsonl")
    found.build()
    assert [hits[0].passage for hits in found.search(["baker of the handbook", "river", "nothing"], 3)] == passages
    title_alone = client(node).search(index=name, body={"query": {"match": {"title": "handbook"}}})
    assert title_alone["hits"]["hits"] == []
    found.build()
    assert found.search(["river"], 1)[0][0].passage == passages[1]


def test_both_servers_find_the_same_with_the_same_scores(search_nodes, name):
    questions = ["Who founded the town?", "Which river is near the mill", "In which year was the bridge built"]
    found = []
    for node in search_nodes.values():
        each = retriever(node, name, DEMO)
        each.build()
        found.append([[(round(hit.score, 4), hit.passage.text) for hit in hits] for hits in each.search(questions, 10)])
    assert [[score for score, _ in hits] for hits in found[0]] == [[score for score, _ in hits] for hits in found[1]]
    assert [set(hits[:3]) for hits in found[0]] == [set(hits[:3]) for hits in found[1]]
    assert all(found[0])


def test_a_new_index_replaces_the_old_one_when_it_is_whole(node, name, corpus):
    found = retriever(node, name, corpus)
    found.build()
    version = found.corpus_version()
    corpus.write_text(corpus.read_text() + "5\tone more\tT5\n")
    with pytest.raises(InputError, match=r"made with corpus_bytes .*prag index"):
        retriever(node, name, corpus).search(["river"], 1)
    with once_at(0, interrupt), pytest.raises(KeyboardInterrupt):
        retriever(node, name, corpus).build()
    assert held(node, name) == 4
    assert found.corpus_version() == version
    retriever(node, name, corpus).build()
    assert (held(node, name), behind(node, name)) == (5, [f"{name}-b"])
    assert found.corpus_version() not in (version, None)
    assert retriever(node, name, corpus).search(["one more"], 1)[0][0].passage.id == "5"


@pytest.mark.usefixtures("small_rounds")
def test_a_build_goes_on_from_what_the_server_holds(node, name, many):
    with once_at(2000, interrupt), pytest.raises(KeyboardInterrupt):
        retriever(node, name, many).build()
    asked = client(node)
    indices = asked.indices
    ((filling, begun),) = indices.get_settings(index=f"{name}-a-*").items()
    indices.refresh(index=filling)
    assert 0 < asked.count(index=filling)["count"] < 3000
    retriever(node, name, many).build()
    assert (held(node, name), behind(node, name)) == (3000, [f"{name}-a"])
    uuids = [each["settings"]["index"]["uuid"] for each in (begun, indices.get_settings(index=filling)[filling])]
    assert uuids[0] == uuids[1]
    with once_at(2000, interrupt), pytest.raises(KeyboardInterrupt):
        retriever(node, name, many).build()
    write_corpus(many, ["another corpus"])
    retriever(node, name, many).build()
    assert (held(node, name), behind(node, name)) == (1, [f"{name}-b"])


def test_one_build_at_a_time(node, name, corpus, monkeypatch):
    monkeypatch.setattr(claim, "_BEAT", 0.3)
    messages = []

    def build_too() -> None:
        with pytest.raises(InputError) as caught:
            retriever(node, name, corpus).build()
        messages.append(str(caught.value))

    second = threading.Thread(target=build_too)
    with once_at(0, lambda: (second.start(), second.join())):
        retriever(node, name, corpus).build()
    assert (held(node, name), behind(node, name)) == (4, [f"{name}-a"])
    assert len(messages) == 1
    for part in ("another build fills it: process", "since 20", node.url.removeprefix("http://")):
        assert part in messages[0]


def test_a_build_whose_claim_has_lapsed_changes_nothing(node, name, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "_LAPSE", 0.5)
    monkeypatch.setattr(claim, "_BEAT", 60.0)  # as if the process had hung
    other = write_corpus(tmp_path / "other.tsv", [f"{text}, and more" for text in TEXTS])

    def build_other() -> None:
        monkeypatch.setattr(claim, "_BEAT", 0.3)
        retriever(node, name, other).build()

    with once_at(0, build_other), pytest.raises(PragError, match=r"others changed|taken over"):
        retriever(node, name, corpus).build()
    assert (held(node, name), behind(node, name)) == (4, [f"{name}-a"])
    assert {hit.passage.text for hit in retriever(node, name, other).search(["Oldford baker"], 4)[0]} == {
        f"{text}, and more" for text in (*TEXTS[:1], *TEXTS[1:3])
    }


def test_an_index_of_other_software_is_searched_and_never_overwritten(node, name, corpus):
    client(node).index(index=name, id="7", body={"title": "T", "txt": "a mill"}, refresh=True)
    found = retriever(node, name, corpus)
    assert found.search(["mill"], 3)[0][0].passage == Passage("a mill", "7", "T")
    assert found.corpus_version() == f"{name} 1"
    with pytest.raises(InputError, match="prag did not make"):
        found.build()
    assert held(node, name) == 1


def test_rows_that_no_server_takes_are_skipped_and_named(node, name, tmp_path, capsys):
    path = tmp_path / "corpus.tsv"
    path.write_text(f"id\ttext\n{'ä' * 257}\ta mill\n{'b' * 512}\ta bridge\n")
    found = retriever(node, name, path)
    found.build()
    assert "1 row was skipped, the first: row 2: its id has more than 512 bytes" in capsys.readouterr().err
    assert ids(found.search(["mill", "bridge"], 3)[1]) == ["b" * 512]


def test_an_alias_that_cannot_be_set_leaves_nothing_behind(node, name, corpus):
    with (
        once_at(0, lambda: client(node).indices.create(index=name)),
        pytest.raises(InputError, match="the server refuses"),
    ):
        retriever(node, name, corpus).build()
    assert behind(node, name) == [name]


@pytest.mark.parametrize(
    ("path", "on", "off"),
    [
        (
            "/{index}-a-*/_settings",
            {"index.blocks.read_only_allow_delete": True},
            {"index.blocks.read_only_allow_delete": None},
        ),
        (
            "/_cluster/settings",
            {"transient": {"cluster.blocks.read_only": True}},
            {"transient": {"cluster.blocks.read_only": None}},
        ),
    ],
)
def test_what_is_blocked_is_said(node, name, corpus, path, on, off, monkeypatch):
    monkeypatch.setattr(claim, "_LAPSE", 0.5)  # a cluster that is read-only keeps the claim as well
    block = once_at(0, lambda: node.put(path.format(index=name), on))
    with block, pytest.raises(PragError, match=r"takes nothing in: .*blocked by.*disk") as caught:
        retriever(node, name, corpus).build()
    node.put(path.format(index=name), off)
    assert caught.value.exit_code == 1
    retriever(node, name, corpus).build()
    assert (held(node, name), behind(node, name)) == (4, [f"{name}-a"])


def test_no_index_and_no_server_are_named(node, name, corpus):
    with pytest.raises(InputError, match=r"there is no index .*prag index"):
        retriever(node, name, corpus).search(["x"], 1)
    nobody = ElasticsearchRetriever(name, corpus, "http://127.0.0.1:9", node.kind, patience=0)
    with pytest.raises(PragError, match=r"does not answer as it should.*ELASTICSEARCH_URL"):
        nobody.search(["x"], 1)


def test_a_client_of_the_other_kind_is_named(search_nodes, name):
    with pytest.raises(InputError, match=r"server to opensearch"):
        ElasticsearchRetriever(name, None, search_nodes["opensearch"].url).search(["x"], 1)


@pytest.mark.usefixtures("small_rounds")
def test_a_build_outlives_its_server(search_nodes, name, many, capsys):
    node = search_nodes["elasticsearch"]

    def restart() -> None:
        node.kill()
        node.start()

    with once_at(2000, restart):
        retriever(node, name, many).build()
    assert held(node, name) == 3000
    assert "asking again in 1 s" in capsys.readouterr().err
