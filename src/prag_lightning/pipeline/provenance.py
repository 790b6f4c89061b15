"""What makes results: versions of the software, and the commit of its source."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

import prag_lightning

_DISTRIBUTIONS = ("prag-lightning", "torch", "transformers", "tokenizers", "peft", "lightning", "torchmetrics")
_SECONDS = 10


@cache
def versions() -> dict[str, str]:
    """The versions that decide results, by distribution; of those that are installed."""
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str | None:
    """The commit of the checkout that this package runs from, with "-dirty" behind it where files differ; nothing
    for an installed one, or without git."""
    package = Path(prag_lightning.__file__).resolve().parent
    top = package.parents[1]
    if not (top / ".git").exists() or package != top / "src" / "prag_lightning":
        return None
    line = ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def file_hash(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
