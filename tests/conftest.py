"""Fixtures that several tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Published data that the project may not contain; tests that read it are skipped without it."""
    folder = os.environ.get("PRAG_REAL_DATA")
    if not folder:
        pytest.skip("PRAG_REAL_DATA is not set")
    return Path(folder).resolve()
