"""Our reading of safetensors files beside the library's."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save

from prag_lightning.lora.weights_file import Origin, deserialised, serialised

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8)
TENSORS = st.dictionaries(
    st.text(min_size=1, max_size=6).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 5), max_size=3)),
    min_size=1,
    max_size=5,
).map(lambda shapes: {name: torch.ones(shape).mul(7).to(dtype) for name, (dtype, shape) in shapes.items()})


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@given(TENSORS)
def test_what_is_written_is_read_as_the_library_reads_it(tensors):
    file = serialised(tensors, Origin("key", "base"))
    assert file == serialised(tensors, Origin("key", "base"))
    assert same(load(file), tensors)
    assert same(deserialised(bytearray(file), Origin("key", "base")), tensors)
    assert same(deserialised(bytearray(save(tensors)), Origin("key", "base")), tensors)


@given(TENSORS, st.data())
def test_a_damaged_file_is_refused_or_what_the_library_makes_of_it(tensors, data):
    """Files without a checksum, so that nothing but the header's own sense can tell."""
    file = bytearray(save(tensors))
    end = 8 + int.from_bytes(file[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        file[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del file[data.draw(st.integers(0, len(file))) :]
    try:
        read = deserialised(file, Origin())
    except (ValueError, RecursionError):
        return
    try:
        wanted = load(bytes(file))
    except (SafetensorError, KeyError):
        pytest.fail(f"the library refuses {bytes(file)!r}")
    assert same(read, wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [2, 4]}, "does not fit"),
        ({"shape": [-2, -2]}, "of shape"),
        ({"shape": [4.0]}, "of shape"),
        ({"shape": []}, "does not fit"),
        ({"data_offsets": [-16, 0]}, "does not fit"),
        ({"data_offsets": [0, 2**62], "shape": [2**60]}, "shorter"),
        ({"data_offsets": None}, "does not fit"),
        ({"dtype": "I32"}, "holds I32"),
        ({"dtype": ["F32"]}, "no safetensors file"),
    ],
)
def test_a_header_that_lies(change, message):
    header = {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | change}
    text = json.dumps(header).encode()
    with pytest.raises(ValueError, match=message):
        deserialised(bytearray(len(text).to_bytes(8, "little") + text + bytes(16)), Origin())


def test_values_beyond_the_header_are_refused():
    with pytest.raises(ValueError, match="longer"):
        deserialised(bytearray(save({"a": torch.ones(3)}) + b"\0"), Origin())
