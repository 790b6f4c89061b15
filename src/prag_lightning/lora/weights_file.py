"""Adapters' tensors in safetensors files, with a checksum of their values and what they came from.

Other software reads these files as any of their kind. They are read here, and not by the library, because a question's
adapters come from disk while it waits: the tensors are views of what was read, all values are looked at in one go.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

LARGEST_HEADER = 2**20
_CHECKSUM = "crc32"
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8}


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


def serialised(tensors: dict[str, torch.Tensor], origin: Origin) -> bytes:
    """A file's content. The library would write several entries of metadata in any order; here the same tensors always
    give the same bytes."""
    header, values = _parts(bytearray(save(tensors)))
    said = {name: value for name, value in asdict(origin).items() if value}
    header["__metadata__"] = {"format": "pt", _CHECKSUM: _checksum(values), **said}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + values


def read_bounded(path: Path, most: int) -> bytearray:
    """A file's content.

    Raises:
        ValueError: if it is larger than what it should hold, so that it is not read.
    """
    with path.open("rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise ValueError(f"{path.name} has {size:,} bytes, and an adapter of this rank no more than {most:,}")
        content = bytearray(size)
        del content[file.readinto(content) :]
        return content


def deserialised(file: bytearray, origin: Origin) -> dict[str, torch.Tensor]:
    """The tensors of a file, as views of it.

    Raises:
        ValueError: if it is none, its values are not those that were written or not finite, or they came from something
            else than `origin`.
    """
    try:
        header, values = _parts(file)
        metadata = header.pop("__metadata__", {})
        if metadata.get(_CHECKSUM) not in (None, _checksum(values)):
            raise ValueError("its values have changed since they were written")
        tensors = dict(_views(file, len(file) - len(values), header))
    except (LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"it is no safetensors file: {error}") from error
    grown_from = metadata.get("base_weight", "")
    if origin.base_weight and grown_from not in ("", origin.base_weight):
        raise ValueError(
            f"it grew from base_weight {grown_from[:8]}, not {origin.base_weight[:8]}: those of two are not merged"
        )
    if origin.key and metadata.get("key", origin.key) != origin.key:
        raise ValueError("it is of another passage, recipe or model, and was copied here")
    return tensors


def _views(file: bytearray, start: int, header: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors, which must lie one after the other without a gap, from `start` to the file's end."""
    entries = sorted(header.items(), key=lambda entry: entry[1]["data_offsets"])
    end = start
    for dtype_name, run in groupby(entries, key=lambda entry: entry[1]["dtype"]):
        if (dtype := _DTYPES.get(dtype_name)) is None:
            raise ValueError(f"it holds {dtype_name}, not numbers of a model")
        begin, named = end, list(run)
        sizes = [_elements(entry["shape"]) for _, entry in named]
        for (name, entry), size in zip(named, sizes, strict=True):
            if entry["data_offsets"] != [end - start, end - start + size * dtype.itemsize]:
                raise ValueError(f"its header does not fit its values at {name}")
            end += size * dtype.itemsize
        if end > len(file):
            raise ValueError("it is shorter than its header says")
        flat = torch.frombuffer(file, dtype=dtype, count=sum(sizes), offset=begin)
        if dtype.is_floating_point and not all(math.isfinite(float(extreme)) for extreme in torch.aminmax(flat)):
            raise ValueError("it holds values that are not finite")
        for (name, entry), piece in zip(named, torch.split(flat, sizes), strict=True):
            yield name, piece.view(entry["shape"])
    if end != len(file):
        raise ValueError("it is longer than its header says")


def _elements(shape: list[int]) -> int:
    if not all(type(extent) is int and extent > 0 for extent in shape):
        raise ValueError(f"it holds a tensor of shape {shape}")
    return math.prod(shape)


def is_complete(path: Path) -> bool:
    """Whether a file is as long as it should be: told by its header, without reading its values."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, LARGEST_HEADER)))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return bool(os.fstat(file.fileno()).st_size == 8 + length + max(ends))
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _parts(file: bytearray) -> tuple[dict[str, Any], memoryview]:
    """Header and values of a safetensors file."""
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start].decode())
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header, memoryview(file)[start:]


def _checksum(values: memoryview) -> str:
    """CRC-32: quick enough to be looked at each time."""
    return f"{zlib.crc32(values):08x}"
