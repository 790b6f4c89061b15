"""Fixtures that several tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

# Sums over two threads differ in the last bit from those over one, and Lightning gives each of several processes fewer:
# with one thread everywhere, what must be the same can be compared to the last bit.
os.environ["OMP_NUM_THREADS"] = "1"
# A search server that lives for seconds gains nothing from Java's slower compiler.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

import pytest

import search_servers
from tiny_llm import save_random_llm
from toy import write_experiment


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Published data that the project may not contain; tests that read it are skipped without it."""
    folder = os.environ.get("PRAG_REAL_DATA")
    if not folder:
        pytest.skip("PRAG_REAL_DATA is not set")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def search_nodes(tmp_path_factory) -> Iterator[dict[str, search_servers.Node]]:
    """A real server of each kind; tests that need one are skipped where none can be started."""
    if reason := search_servers.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("search")
    nodes = {kind: search_servers.Node(kind, folder / kind) for kind in search_servers.KINDS}
    try:
        for node in nodes.values():
            node.start()
        for node in nodes.values():
            node.wait()
        yield nodes
    finally:
        for node in nodes.values():
            node.kill()


@pytest.fixture(params=search_servers.KINDS)
def node(request, search_nodes) -> search_servers.Node:
    """A server of either kind, which others use too."""
    return search_nodes[request.param]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A Llama with random weights."""
    return save_random_llm(tmp_path_factory.mktemp("llm") / "random")


@pytest.fixture(scope="module")
def llm(model_folder):
    """That Llama, loaded."""
    from prag_lightning.llm.loading import load_llm

    return load_llm(str(model_folder))


@pytest.fixture
def config(tmp_path, model_folder, monkeypatch) -> Path:
    """A configuration with augmented data and a corpus beside it; the working directory is its folder."""
    monkeypatch.chdir(tmp_path)
    return write_experiment(tmp_path, model_folder)
