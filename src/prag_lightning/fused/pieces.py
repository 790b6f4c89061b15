"""How work is cut so that what one step writes is still in the cache when the next one reads it."""

from __future__ import annotations

from collections.abc import Iterator

TOKENS_AT_ONCE = 2048


def pieces(rows: int, tokens: int) -> Iterator[slice]:
    """Slices of rows that each have so many tokens."""
    size = max(1, TOKENS_AT_ONCE // tokens)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
