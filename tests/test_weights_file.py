"""Adapters' files: the same bytes for the same tensors, and what is damaged or of something else is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from prag_lightning.lora.weights_file import Origin, is_complete, read_tensors, write_tensors

ORIGIN = Origin("key", "base")
TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(3, dtype=torch.bfloat16), "c": torch.ones(2).byte()}
SCRIPT = """
import sys
from pathlib import Path
import torch
from prag_lightning.lora.weights_file import Origin, write_tensors
tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(3, dtype=torch.bfloat16), "c": torch.ones(2).byte()}
write_tensors(Path(sys.argv[1]), tensors, Origin("key", "base"))
"""


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def test_the_library_reads_what_is_written_and_what_it_writes_is_read(tmp_path):
    write_tensors(tmp_path / "ours", TENSORS, ORIGIN)
    save_file(TENSORS, tmp_path / "theirs")
    assert same(load_file(tmp_path / "ours"), TENSORS)
    assert same(read_tensors(tmp_path / "ours", 100, ORIGIN), TENSORS)
    assert same(read_tensors(tmp_path / "theirs", 100, ORIGIN), TENSORS)


def test_two_processes_write_the_same_bytes(tmp_path):
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "theirs")], check=True)
    write_tensors(tmp_path / "ours", dict(reversed(TENSORS.items())), ORIGIN)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_what_is_read_is_no_view_of_the_file(tmp_path):
    path = tmp_path / "file"
    write_tensors(path, TENSORS)
    read = read_tensors(path, 100)
    path.write_bytes(b"")
    assert same(read, TENSORS)


@given(st.data())
def test_a_damaged_file_is_refused_or_holds_what_was_written(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged"
    write_tensors(path, TENSORS, ORIGIN)
    file = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del file[data.draw(st.integers(0, len(file) - 1)) :]
        path.write_bytes(file)
        assert not is_complete(path)
    else:
        file[data.draw(st.integers(0, len(file) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(file)
    try:
        read = read_tensors(path, 100, ORIGIN)
    except ValueError:
        return
    for name, tensor in TENSORS.items():  # metadata, or a name, was hit
        assert name not in read or read[name].tolist() == tensor.tolist()


@pytest.mark.parametrize(
    ("most", "origin", "message"),
    [
        (-(2**20), ORIGIN, "no more than"),
        (100, Origin("key", "other"), "grew from base_weight base, not other"),
        (100, Origin("other", "base"), "of another passage"),
    ],
)
def test_files_that_are_too_large_or_of_something_else(most, origin, message, tmp_path):
    write_tensors(tmp_path / "file", TENSORS, ORIGIN)
    with pytest.raises(ValueError, match=message):
        read_tensors(tmp_path / "file", most, origin)
