"""General text: what a model reads and writes elsewhere, on which adapters are to change nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from prag_lightning.errors import InputError
from prag_lightning.files import read_text
from prag_lightning.resources import locate, looked_for

_SHIPPED = "configs/general_text.jsonl"


@dataclass(frozen=True)
class GeneralText:
    """A row: a passage alone, a question that the model answers by heart, or one about a passage in its prompt."""

    question: str = ""
    passage: str = ""


def general_text_of(model: str) -> str:
    """The file of a model: its folder's own, or the one that ships."""
    own = Path(model, "general_text.jsonl")
    return str(own) if own.is_file() else _SHIPPED


def load_general_text(path: str) -> list[GeneralText]:
    """Read a file of JSON lines with `question`, `passage` or both.

    Raises:
        InputError: naming the file and the line that is neither.
    """
    what = "general text"
    text = read_text(locate(Path(path)), what, f"Set model.general_text to a file like {_SHIPPED}")
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        values = row if isinstance(row, dict) else {}
        given = {name: values[name] for name in ("question", "passage") if name in values}
        if not given or not all(isinstance(value, str) and value.strip() for value in given.values()):
            raise InputError(
                "a row of general text has a 'question', a 'passage' or both, as text",
                where=f"{looked_for(path)}, line {number}",
            )
        rows.append(GeneralText(**given))
    if not rows:
        raise InputError("the file of general text is empty", where=looked_for(path), hint="Give at least one row")
    return rows
