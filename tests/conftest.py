"""Fixtures that several tests share."""

import os
from pathlib import Path

# Sums over two threads differ in the last bit from those over one, and Lightning gives each of several processes fewer:
# with one thread everywhere, what must be the same can be compared to the last bit.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Published data that the project may not contain; tests that read it are skipped without it."""
    folder = os.environ.get("PRAG_REAL_DATA")
    if not folder:
        pytest.skip("PRAG_REAL_DATA is not set")
    return Path(folder).resolve()
