"""Fixtures that several tests share."""

import os
from pathlib import Path

# Sums over two threads differ in the last bit from those over one, and Lightning gives each of several processes fewer:
# with one thread everywhere, what must be the same can be compared to the last bit.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest

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
def model_folder(tmp_path_factory) -> Path:
    """A Llama with random weights."""
    return save_random_llm(tmp_path_factory.mktemp("llm") / "random")


@pytest.fixture
def config(tmp_path, model_folder, monkeypatch) -> Path:
    """A configuration with augmented data and a corpus beside it; the working directory is its folder."""
    monkeypatch.chdir(tmp_path)
    return write_experiment(tmp_path, model_folder)
