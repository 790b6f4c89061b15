"""Adapters' tensors in safetensors files, with a checksum of their values and what they came from."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

LARGEST_HEADER = 2**20
_METADATA, _CHECKSUM = "prag_lightning", "crc32"


@dataclass(frozen=True)
class Origin:
    """What an adapter came from, as its file says; empty where it says nothing, or where any will do.

    Args:
        key: Of passage, recipe and model; see `AdapterStore`.
        base_weight: The hash of the adapter that its training started from.
    """

    key: str = ""
    base_weight: str = ""


UNKNOWN = Origin()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], origin: Origin = UNKNOWN) -> None:
    """Write a file; the same tensors always give the same bytes.

    Its metadata is one entry of JSON, since the library writes several in any order.
    """
    said = {name: value for name, value in asdict(origin).items() if value}
    metadata = json.dumps({_CHECKSUM: _checksum(tensors), **said}, sort_keys=True)
    path.write_bytes(save(dict(tensors), {_METADATA: metadata}))


def read_tensors(path: Path, most: int, origin: Origin = UNKNOWN) -> dict[str, torch.Tensor]:
    """The tensors of a file, on the CPU.

    Args:
        path: Of the file.
        most: Bytes of values that it should hold at most; a larger one is not read.
        origin: What they should have come from. A file that does not say, as PEFT writes them, is taken.

    Raises:
        OSError: if there is none.
        ValueError: if it is none of safetensors, its values are not those that were written, or they came from
            something else than `origin`.
    """
    if (size := path.stat().st_size) > LARGEST_HEADER + most:
        raise ValueError(f"{path.name} has {size:,} bytes, and an adapter of this rank no more than {most:,}")
    try:
        with safe_open(path, "pt") as file:
            said = json.loads((file.metadata() or {}).get(_METADATA, "{}"))
            # A copy, since what the library gives is the file itself: whoever changes that would change the adapter.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path.name} is no whole safetensors file: {error}") from error
    if not isinstance(said, dict):
        raise ValueError("what it says of its origin is no mapping")
    if said.get(_CHECKSUM) not in (None, _checksum(tensors)):
        raise ValueError("its values have changed since they were written")
    grown_from = str(said.get("base_weight", ""))
    if origin.base_weight and grown_from not in ("", origin.base_weight):
        raise ValueError(
            f"it grew from base_weight {grown_from[:8]}, not {origin.base_weight[:8]}: those of two are not merged"
        )
    if origin.key and said.get("key", origin.key) != origin.key:
        raise ValueError("it is of another passage, recipe or model, and was copied here")
    return tensors


def is_complete(path: Path) -> bool:
    """Whether a file is as long as it should be: told by its header, without reading its values."""
    try:
        with safe_open(path, "pt"):
            return True
    except (SafetensorError, FileNotFoundError, NotADirectoryError):
        return False


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """CRC-32 of all values, by order of their names: quick enough to be looked at each time."""
    checksum = 0
    for name in sorted(tensors):
        values: Any = tensors[name].contiguous().flatten().view(torch.uint8).numpy()
        checksum = zlib.crc32(values, checksum)
    return f"{checksum:08x}"
