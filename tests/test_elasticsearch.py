"""Retrieval from a server: what is refused before it is asked, credentials, certificates, and answers that are none."""

import shutil
import subprocess

import pytest

from prag_lightning.cli import main
from prag_lightning.errors import InputError, PragError
from prag_lightning.records import Passage
from prag_lightning.retrieval import ElasticsearchRetriever
from search_server import SearchServer


@pytest.fixture(params=["elasticsearch", "opensearch"])
def server(request):
    stand_in = SearchServer("Elasticsearch" if request.param == "elasticsearch" else None)
    stand_in.passages["7"] = "a mill"
    return request.param, stand_in


@pytest.mark.parametrize("name", ["", "wi*", "_all", "Wiki", "-x", "a/b", "a,b", "a b", "x" * 250])
def test_a_name_that_no_index_has_is_refused_before_the_server_is_asked(name):
    with pytest.raises(InputError, match=r"no index can be called .*[Ii]ndex names are lower case"):
        ElasticsearchRetriever(name)


def test_a_bad_name_in_a_configuration_ends_a_command_in_one_line(capsys):
    line = ["index", "--config", "configs/retrieval/elasticsearch.yaml", "--data.retriever.index=wi*"]
    assert main(line) == 2
    assert "no index can be called 'wi*'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["shards", "threads", "replicas", "patience", "timeout"])
def test_numbers_that_cannot_be_are_refused(name):
    with pytest.raises(InputError, match=f"{name} is -1"):
        ElasticsearchRetriever("wiki", **{name: -1})


def test_credentials_come_from_the_environment_and_are_never_shown(server, monkeypatch):
    kind, stand_in = server
    monkeypatch.setenv("ELASTICSEARCH_USERNAME", "ada")
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", "secret")
    stand_in.misbehaviour = "unauthorized"
    with stand_in as url:
        with pytest.raises(InputError, match=r"the server refuses.*ELASTICSEARCH_API_KEY") as caught:
            ElasticsearchRetriever("wiki", None, url.replace("//", "//ada:secret@"), kind).search(["x"], 1)
        assert "secret" not in str(caught.value)
        monkeypatch.delenv("ELASTICSEARCH_USERNAME")
        monkeypatch.setenv("ELASTICSEARCH_API_KEY", "a2V5")
        stand_in.misbehaviour = None
        assert ElasticsearchRetriever("wiki", None, url, kind).search(["mill"], 1)[0][0].passage == Passage(
            "a mill", "7"
        )
    sent = [
        value
        for _, _, headers in stand_in.requests
        for name, value in headers.items()
        if name.lower() == "authorization"
    ]
    assert sent[0].startswith("Basic ")
    assert sent[-1] == "ApiKey a2V5"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to make a certificate with")
def test_a_certificate_is_checked(server, tmp_path):
    kind, plain = server
    file = tmp_path / "server.pem"
    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*made.split(), "-keyout", file, "-out", tmp_path / "ca.pem"], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + (tmp_path / "ca.pem").read_bytes())
    stand_in = SearchServer(plain.product, certificate=file)
    stand_in.passages["7"] = "a mill"
    with stand_in as url:
        trusting = ElasticsearchRetriever("wiki", None, url, kind, ca_certs=str(tmp_path / "ca.pem"))
        assert [hit.passage.id for hit in trusting.search(["mill"], 1)[0]] == ["7"]
        with pytest.raises(InputError, match=r"certificate is not trusted.*ca_certs"):
            ElasticsearchRetriever("wiki", None, url, kind).search(["mill"], 1)


@pytest.mark.parametrize("misbehaviour", ["fails", "hangs", "cuts"])
def test_a_misbehaving_server_is_named(server, misbehaviour):
    kind, stand_in = server
    stand_in.misbehaviour = misbehaviour
    with stand_in as url, pytest.raises(PragError, match="does not answer as it should") as caught:
        ElasticsearchRetriever("wiki", None, url, kind, timeout=0.2, patience=0).search(["x"], 1)
    assert url.removeprefix("http://") in str(caught.value)


def test_a_server_that_misbehaves_for_a_while_is_waited_for(server, capsys):
    kind, stand_in = server
    stand_in.misbehaviour, stand_in.times = "fails", 3
    with stand_in as url:
        found = ElasticsearchRetriever("wiki", None, url, kind).search(["mill"], 1)
    assert [hit.passage.id for hit in found[0]] == ["7"]
    assert "out of order; asking again in 1 s, 600 s at most" in capsys.readouterr().err


def test_another_node_is_asked_where_one_is_gone(server, monkeypatch):
    kind, stand_in = server
    with stand_in as url:
        monkeypatch.setenv("ELASTICSEARCH_URL", f"http://127.0.0.1:9, {url}")
        for _ in range(3):
            found = ElasticsearchRetriever("wiki", server=kind, patience=0)
            assert [hit.passage.id for hit in found.search(["mill"], 1)[0]] == ["7"]


def test_servers_that_are_none_are_named():
    with SearchServer(product=None) as url, pytest.raises(InputError, match=r"server to opensearch"):
        ElasticsearchRetriever("wiki", None, url).search(["x"], 1)
    with pytest.raises(InputError, match=r"Check the url"):
        ElasticsearchRetriever("wiki", None, "nowhere").search(["x"], 1)
