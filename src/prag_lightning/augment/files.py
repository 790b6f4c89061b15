"""Augmented files of the published format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prag_lightning.errors import InputError
from prag_lightning.files import read_json, write_json
from prag_lightning.records import AugmentedQuestion


def read_records(path: Path, augment_model: str) -> list[AugmentedQuestion]:
    """Read an augmented file in the published format.

    Raises:
        InputError: naming the file and record that is malformed.
    """
    data = read_json(path, "Write it again with 'prag augment'")
    if not isinstance(data, list):
        raise InputError("an augmented file is a list of records, and this is not", where=str(path))
    records = [
        AugmentedQuestion.from_json(record, augment_model, f"{path}, record {i}") for i, record in enumerate(data)
    ]
    taken: set[tuple[int, int | None]] = set()
    for i, record in enumerate(records):
        test_id = record.question.test_id
        for place in ((test_id, None), *((test_id, passage.pid) for passage in record.passages)):
            if place in taken:
                twice = f"test_id {test_id}" if place[1] is None else f"pid {place[1]}"
                raise InputError(f"{twice} stands there twice", where=f"{path}, record {i}", hint="Number them apart")
            taken.add(place)
    return records


def write_records(path: Path, augment_model: str, records: Sequence[AugmentedQuestion]) -> None:
    """Write an augmented file, whole or not at all."""
    write_json(path, [record.to_json(augment_model) for record in records])
