"""Rows of a file of questions, in whichever of the usual shapes it has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prag_lightning.errors import InputError
from prag_lightning.files import parse_json, read_text, visible
from prag_lightning.records import Json

Row = Mapping[str, Json]
SUFFIXES = (".json", ".jsonl", ".parquet")
"""Of question files; `.gz` may follow."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"(?=\t|$)')
_PARQUET = b"PAR1"
_ROWS_AT_ONCE = 1000


def split_files(folder: Path) -> dict[str, list[Path]]:
    """The question files of a folder by split; see `split_name`.

    Raises:
        InputError: if there are none, or two files are the same split.
    """
    splits: dict[str, list[Path]] = {}
    for path in visible(folder, "*"):
        if file_suffix(path) in SUFFIXES and path.is_file():
            splits.setdefault(split_name(path), []).append(path)
    for split, paths in splits.items():
        if len(paths) > 1 and not all(_SHARD.search(_stem(path)) for path in paths):
            names = " and ".join(path.name for path in paths)
            raise InputError(f"{names} are both the split {split!r}", where=str(folder), hint="Move one away")
    if not splits:
        raise InputError(
            f"the folder holds no file of questions ({', '.join(SUFFIXES)})",
            where=str(folder),
            hint="Put questions there, a split a file",
        )
    return splits


def split_name(path: Path) -> str:
    """The split that a file is: its name, without the number of a piece as the Hugging Face hub cuts splits into."""
    return _SHARD.sub("", _stem(path))


def file_suffix(path: Path) -> str:
    """How a file's name ends, in lower case, but for `.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _stem(path: Path) -> str:
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem


def read_rows(path: Path) -> list[Row]:
    """Rows of a file: a JSON list of objects, JSON lines, a list a column, what the hub's viewer serves
    (`{"rows": [{"row": {...}}]}`), a tab-separated table, or parquet.

    Raises:
        InputError: if the file is missing or malformed, or holds no row.
    """
    hint = "Set data.data_path to where it is"
    if is_parquet(path):
        rows: Json = list(parquet_rows(path))
    else:
        text = read_text(path, "questions", hint)
        rows = _table(text, path) if file_suffix(path) == ".tsv" else _unwrapped(_parse(text, path))
    if not isinstance(rows, list):
        raise InputError("the file is no list of questions", where=str(path), hint="Give a list of objects")
    if not rows:
        raise InputError("the file holds no question", where=str(path), hint="Give at least one")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"not an object but {type(row).__name__}", where=f"{path}, row {number}")
    return rows


def _parse(text: str, path: Path) -> Json:
    """Parse JSON or, where that ends after the first object, JSON lines."""
    if not text.strip():
        raise InputError("the file is empty", where=str(path), hint="Give at least one question")
    try:
        return parse_json(text)
    except ValueError as error:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        try:
            if not lines or not isinstance(parse_json(lines[0][1]), dict):
                raise ValueError("no JSON lines")
        except ValueError:
            hint = "Correct it there: JSON, JSON lines, .tsv and .parquet are read"
            raise InputError(f"the file is not JSON: {error}", where=str(path), hint=hint) from error
    return [_parse_line(line, f"{path}, line {number}") for number, line in lines]


def _parse_line(line: str, where: str) -> Json:
    try:
        return parse_json(line)
    except ValueError as error:
        raise InputError(f"the line is not JSON: {error}", where=where, hint="Correct it there") from error


def _unwrapped(value: Json) -> Json:
    """The rows within what is wrapped around them."""
    if not isinstance(value, dict):
        return value
    for key in ("rows", "data"):
        if isinstance(value.get(key), list):
            return [
                row["row"] if isinstance(row, dict) and isinstance(row.get("row"), dict) else row for row in value[key]
            ]
    if isinstance(value.get("question"), str):
        return [value]  # the only one of JSON lines
    columns = {name: list(column.values()) if isinstance(column, dict) else column for name, column in value.items()}
    lengths = {len(column) if isinstance(column, list) else -1 for column in columns.values()}
    if "question" in columns and len(lengths) == 1 and -1 not in lengths:
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return value


def _table(text: str, path: Path) -> list[Row]:
    header, *lines = [tsv_cells(line.rstrip("\r")) for line in text.split("\n") if line.strip()] or [[""]]
    for number, cells in enumerate(lines):
        if len(cells) != len(header):
            raise InputError(
                f"{len(cells)} columns instead of {len(header)}", where=f"{path}, row {number}", hint="Correct it there"
            )
    return [dict(zip(header, cells, strict=True)) for cells in lines]


def tsv_cells(line: str) -> list[str]:
    """The cells of one line of a tab-separated table.

    A cell is quoted if a quote begins it and another ends it; in between, quotes are doubled and tabs are text. One
    that merely begins with a quote, such as `"Heroes" is a song`, is taken as it stands. A quote that is never closed
    takes the rest of its line, and none after it.
    """
    if '"' not in line:
        return line.split("\t")
    cells, at = [], 0
    while True:
        quoted = _QUOTED.match(line, at)
        if quoted:
            end = quoted.end()
            cells.append(quoted[1].replace('""', '"'))
        else:
            end = line.find("\t", at)
            end = len(line) if end < 0 or _unclosed(line[at:end]) else end
            cells.append(line[at:end])
        if end == len(line):
            return cells
        at = end + 1


def _unclosed(cell: str) -> bool:
    return cell.startswith('"') and '"' not in cell[1:].replace('""', "")


def is_parquet(path: Path) -> bool:
    """Whether a file is parquet, told by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except OSError:
        return False


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file.

    Raises:
        InputError: if pyarrow is not installed, or the file is damaged.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "reading parquet needs pyarrow", where=str(path), hint="pip install 'prag-lightning[parquet]'"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"the parquet file is damaged: {error}", where=str(path), hint="Fetch it again") from error
