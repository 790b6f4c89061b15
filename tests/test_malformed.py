"""What is malformed is refused with a clear message, or gives sound values: cases that are kept, and new ones."""

import json
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prag_lightning.errors import PragError
from readers import READERS, malformed

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "malformed/cases.jsonl").read_text(encoding="utf-8").splitlines()
]
LONGEST_MESSAGE = 3200


def look_at(name: str, content: bytes) -> str:
    """Read it; gives the message, or nothing if the reader took it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            READERS[name].read(content, Path(folder))
        except PragError as error:
            message = str(error)
        else:
            return ""
    assert message.isprintable()
    assert 0 < len(message) < LONGEST_MESSAGE
    return message


def test_the_sound_inputs_are_taken():
    for name, reader in READERS.items():
        if name not in ("prompts", "configuration"):
            assert look_at(name, reader.seed) == ""


def test_there_are_enough_cases_of_every_reader():
    assert len(CASES) >= 500
    assert {case["reader"] for case in CASES} == READERS.keys()


@pytest.mark.parametrize("name", READERS)
def test_kept_cases_are_refused_or_give_sound_values(name, capsys):
    messages = [look_at(name, case["content"].encode("latin-1")) for case in CASES if case["reader"] == name]
    if name not in ("answer", "costs", "documents.md", "documents.html"):
        assert sum(map(bool, messages)) >= 5


@pytest.mark.parametrize("name", READERS)
@given(rng=st.randoms(use_true_random=True))
@settings(max_examples=20, deadline=None)
def test_new_faults_are_refused_or_give_sound_values(name, rng):
    if name != "configuration" or rng.random() < 0.2:  # the parser of settings takes a tenth of a second
        look_at(name, malformed(READERS[name].seed, random.Random(rng.getrandbits(32))))


@pytest.mark.parametrize("name", READERS)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
@settings(max_examples=15, deadline=None)
def test_bytes_of_any_kind_are_refused_or_give_sound_values(name, content):
    look_at(name, content)
