"""Real servers that refuse, hang and die, alone and as a cluster; `make search` runs these."""

import random
import threading
from itertools import count

import pytest

from prag_lightning.errors import PragError
from prag_lightning.retrieval import ElasticsearchRetriever
from search_servers import (
    KINDS,
    Node,
    behind,
    cluster,
    held,
    index_command,
    kill_program_often,
    kill_server_often,
    missing,
    once_at,
)

pytestmark = [pytest.mark.search, pytest.mark.skipif(bool(missing()), reason=missing())]
PASSAGES, KILLS = 20_000, 3
_TOWNS = ("Oldford", "Newport", "Eastham", "Westbury", "Northwick")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """So many passages that a build takes a while."""
    path, rng = tmp_path_factory.mktemp("corpus") / "corpus.tsv", random.Random(0)
    with path.open("w") as file:
        file.write("id\ttext\ttitle\n")
        for number in range(PASSAGES):
            words = " ".join(f"word{rng.randrange(5000)}" for _ in range(60))
            file.write(f"{number}\tnumber{number} of {rng.choice(_TOWNS)} {words}\tTown {number % 97}\n")
    return path


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def start(kind, tmp_path):
    """Starts a node with settings."""
    nodes = []

    def started(*settings):
        nodes.append(Node(kind, tmp_path / f"node{len(nodes)}", *settings))
        nodes[-1].start()
        nodes[-1].wait()
        return nodes[-1]

    yield started
    for node in nodes:
        node.kill()


@pytest.fixture
def three(kind, tmp_path):
    """The nodes of a cluster."""
    nodes = cluster(kind, tmp_path)
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait(nodes=3)
    yield nodes
    for node in nodes:
        node.kill()


def retriever(node, corpus, **settings):
    return ElasticsearchRetriever("wiki", corpus, settings.pop("url", node.url), node.kind, **settings)


def same_scores(left, right):
    return [[hit.score for hit in hits] for hits in left] == [
        pytest.approx([hit.score for hit in hits], rel=1e-4) for hits in right
    ]


def later(seconds, act):
    """Do something in a while."""
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def test_smaller_bodies_where_the_server_asks_for_them(start, corpus, capsys):
    node = start("indexing_pressure.memory.limit=400kb", "http.max_content_length=200kb")
    retriever(node, corpus).build()
    assert held(node, "wiki") == PASSAGES
    capsys.readouterr()


def test_a_server_that_is_killed_in_builds(start, corpus):
    node = start()
    killed = kill_server_often(node, index_command(node, "wiki", corpus), KILLS, random.Random(0))
    assert killed
    assert (held(node, "wiki"), behind(node, "wiki")) == (PASSAGES, ["wiki-a"])


def test_a_program_that_is_killed_in_builds(start, corpus):
    node = start()
    killed = kill_program_often(index_command(node, "wiki", corpus), KILLS, random.Random(0))
    assert killed
    assert held(node, "wiki") == PASSAGES
    assert behind(node, "wiki") in (["wiki-a"], ["wiki-b"])  # the last may have ended before it was killed


def test_a_server_that_hangs(start, corpus, capsys):
    node = start()
    node.halt()
    timer = later(6, node.go_on)
    retriever(node, corpus, timeout=2).build()
    timer.join()
    assert held(node, "wiki") == PASSAGES
    assert "asking again" in capsys.readouterr().err


def test_a_search_as_the_server_starts_and_after_patience(start, corpus):
    node = start()
    found = retriever(node, corpus)
    found.build()
    node.kill()
    with pytest.raises(PragError, match="does not answer as it should"):
        retriever(node, None, patience=2).search(["number17"], 1)
    node.start()
    assert [hit.passage.id for hit in found.search(["number17"], 1)[0]] == ["17"]


def test_more_passages_than_a_server_gives_at_once(start, corpus):
    found = retriever(start(), corpus)
    found.build()
    hits = found.search(["town"], 15_000)[0]
    assert len({hit.passage.id for hit in hits}) == 15_000
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_cluster_finds_what_one_node_finds_and_outlives_a_node(three, corpus):
    queries = [f"number{i} of {town} word{i}" for i, town in zip(range(0, 1000, 10), _TOWNS * 20, strict=True)]
    one = ElasticsearchRetriever("one", corpus, three[0].url, three[0].kind)
    one.build()
    expected = one.search(queries, 10)
    urls = [node.url for node in three]
    found = retriever(three[0], corpus, url=urls, shards=3, replicas=1)
    with once_at(PASSAGES // 2, three[1].kill):
        found.build()
    assert held(three[0], "wiki") == PASSAGES
    three[1].start()
    three[1].wait(nodes=3, status="green")
    assert same_scores(found.search(queries, 10), expected)
    killed, answers = later(0.5, three[2].kill), []
    for _ in count():
        answers.append(found.search(queries, 10))
        if not killed.is_alive():
            break
    answers.append(found.search(queries, 10))
    assert all(same_scores(each, answers[0]) for each in answers)
