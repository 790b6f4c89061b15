"""Adapters' tensors in safetensors files, with a checksum of their values and what they came from.

Other software reads these files as any of their kind. They are read here, and not by the library, because a question's
adapters come from disk while it waits: all values are looked at in one go, and tensors are views of what was read that
are only made when they are asked for.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save

LARGEST_HEADER = 2**20
_CHECKSUM = "crc32"
_METADATA = "__metadata__"
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
    metadata = {"format": "pt", _CHECKSUM: _checksum(values), **said}
    text = json.dumps({**json.loads(header), _METADATA: metadata}, separators=(",", ":")).encode()
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


def deserialised(file: bytearray, origin: Origin) -> FileTensors:
    """The tensors of a file.

    Raises:
        ValueError: if it is none, its values are not those that were written or not finite, or they came from something
            else than `origin`.
    """
    try:
        text, values = _parts(file)
        header, metadata = _split(text)
        if metadata.get(_CHECKSUM) not in (None, _checksum(values)):
            raise ValueError("its values have changed since they were written")
        tensors = FileTensors(header, _runs(file, len(file) - len(values), contents(header).runs))
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


class Place(NamedTuple):
    """Where a tensor's values lie: in which run, from which of its values on, and its shape."""

    run: int
    start: int
    shape: tuple[int, ...]

    def view(self, values: torch.Tensor) -> torch.Tensor:
        """The tensor, `[..., *shape]` of the values of one or more files, `[..., P]`."""
        return values[..., self.start : self.start + math.prod(self.shape)].view((*values.shape[:-1], *self.shape))


class Contents(NamedTuple):
    """What a file holds: runs of values, each of one kind and so many; and where in them its tensors lie."""

    runs: list[tuple[torch.dtype, int]]
    places: dict[str, Place]


class FileTensors(Mapping[str, torch.Tensor]):
    """A file's tensors by name.

    Args:
        header: What the file says of them.
        runs: All values, those of one kind that lie side by side in one tensor `[P]`.
    """

    def __init__(self, header: str, runs: list[torch.Tensor]) -> None:
        self.header, self.runs = header, runs

    @property
    def places(self) -> dict[str, Place]:
        """Where each lies in the runs; the same object for files that are laid out alike."""
        return contents(self.header).places

    def __getitem__(self, name: str) -> torch.Tensor:
        place = self.places[name]
        return place.view(self.runs[place.run])

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


@lru_cache(maxsize=8)
def contents(header: str) -> Contents:
    """What a header says of a file's tensors, which must lie without a gap; the same object for equal headers.

    Raises:
        ValueError: if they do not, or hold what is no number of a model.
    """
    entries = {name: entry for name, entry in json.loads(header).items() if name != _METADATA}
    runs: list[tuple[torch.dtype, int]] = []
    places = {}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda entry: entry[1]["data_offsets"]):
        if (dtype := _DTYPES.get(entry["dtype"])) is None:
            raise ValueError(f"it holds {entry['dtype']}, not numbers of a model")
        if not runs or runs[-1][0] != dtype:
            runs.append((dtype, 0))
        start, size = runs[-1][1], _elements(entry["shape"])
        if entry["data_offsets"] != [end, end + size * dtype.itemsize]:
            raise ValueError(f"its header does not fit its values at {name}")
        end += size * dtype.itemsize
        places[name] = Place(len(runs) - 1, start, tuple(entry["shape"]))
        runs[-1] = dtype, start + size
    return Contents(runs, places)


def _runs(file: bytearray, start: int, runs: list[tuple[torch.dtype, int]]) -> list[torch.Tensor]:
    """All values of a file, from `start` to its end."""
    if (end := start + sum(dtype.itemsize * size for dtype, size in runs)) != len(file):
        raise ValueError(f"it is {'shorter' if end > len(file) else 'longer'} than its header says")
    found = []
    for dtype, size in runs:
        run = torch.frombuffer(file, dtype=dtype, count=size, offset=start)
        if dtype.is_floating_point and not all(math.isfinite(float(extreme)) for extreme in torch.aminmax(run)):
            raise ValueError("it holds values that are not finite")
        found.append(run)
        start += run.nbytes
    return found


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
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != _METADATA]
            return bool(os.fstat(file.fileno()).st_size == 8 + length + max(ends))
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False


def _parts(file: bytearray) -> tuple[str, memoryview]:
    """Header and values of a safetensors file."""
    start = 8 + int.from_bytes(file[:8], "little")
    return file[8:start].decode(), memoryview(file)[start:]


def _split(header: str) -> tuple[str, dict[str, Any]]:
    """What a header says of tensors, and its metadata. `serialised` puts that last, and then it alone is parsed: what
    stands before it is the same for all adapters of a recipe."""
    places, mark, metadata = header.rpartition(f',"{_METADATA}":')
    if mark:
        with suppress(ValueError):
            (parsed,) = json.loads(f'{{"":{metadata}').values()
            return places + "}", parsed
    return header, json.loads(header).get(_METADATA, {})


def _checksum(values: memoryview) -> str:
    """CRC-32: quick enough to be looked at each time."""
    return f"{zlib.crc32(values):08x}"
