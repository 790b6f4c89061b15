"""Files are whole or absent, and journals outlive a killed process."""

import json
from pathlib import Path

import pytest

from prag_lightning.errors import InputError
from prag_lightning.files import read_json, safe_name, write_json
from prag_lightning.journal import Journal


def test_journal_gives_back_what_was_added(tmp_path):
    Journal(tmp_path, rank=0).add([{"key": "a", "text": "x\ny"}, {"key": "b", "text": "é"}])
    Journal(tmp_path, rank=1).add([{"key": "c", "text": ""}])
    journal = Journal(tmp_path, rank=0)
    assert [journal.get(key)["text"] for key in "abc"] == ["x\ny", "é", ""]
    assert journal.get("d") is None


@pytest.mark.parametrize("torn", ['{"key": "b", "te', '{"key": "b"}', "\x00\x00"])
def test_torn_last_line_is_dropped_and_written_over(tmp_path, torn):
    first = Journal(tmp_path)
    first.add([{"key": "a", "text": "x"}])
    with first.path.open("a", encoding="utf-8") as file:
        file.write(torn)
    second = Journal(tmp_path)
    assert second.get("b") is None
    second.add([{"key": "b", "text": "y"}])
    lines = second.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["a", "b"]


def test_damage_before_the_last_line_is_named(tmp_path):
    journal = Journal(tmp_path)
    journal.path.write_text('{"key": "a"}\nnot json\n{"key": "b"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="byte 13"):
        Journal(tmp_path)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert read_json(path, "") == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "/etc", "nul\0", "x" * 300])
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(InputError, match=r"data\.dataset"):
        safe_name(name, "data.dataset")


@pytest.mark.parametrize("text", ["", "{", "[1,]", "[" * 100_000])
def test_broken_json_is_named(tmp_path, text):
    path: Path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.json.*Mend it"):
        read_json(path, "Mend it")
