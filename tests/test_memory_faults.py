"""Documents that live, where something is odd: names, places, links, kills in between, and values of other types."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from prag_lightning import ParametricRAG
from prag_lightning.cli.entry import main
from prag_lightning.errors import InputError
from prag_lightning.memory.contents import Changes, Contents
from prag_lightning.memory.incoming import Incoming
from prag_lightning.memory.settings import check_place
from prag_lightning.pipeline.settings import SplitterSettings
from prag_lightning.training.library import AdapterLibrary

DEMO = str(Path(__file__).parent.parent / "configs/demo.yaml")
SELMA = "Selma Drumkin was born in the year 1960. She worked as a sailor. She grew up in North Dorminster."
PAULA = "Paula Kersworth worked as a astronomer. She came into the world in High Kalham. She was born in the year 1976."


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "home/handbook").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home")


def opened(store: str | None = "memory") -> ParametricRAG:
    return ParametricRAG(store=store, config=DEMO, settings={"model.group_tokens": 1}, progress=False)


def changed(held: Contents, *paths: str | Path) -> Changes:
    """What syncing these paths makes of a store."""
    incoming = Incoming(Path("memory"), held, SplitterSettings())
    for path in paths:
        incoming.add_files(Path(path), removes=True)
    return Changes.between(held, incoming.all())


def ids(changes: Changes) -> list[str]:
    return list(changes.after.by_document())


def test_a_document_has_one_id_whatever_way_leads_to_it():
    Path("handbook/a.md").write_text(SELMA)
    Path("../x.md").write_text(PAULA)
    Path("../link").symlink_to(Path.cwd())
    ways = ["handbook", "handbook/a.md", "./handbook/../handbook", Path("handbook").absolute(), "../link/handbook", "."]
    first = changed(Contents(), *ways, "../x.md")
    assert ids(first) == ["../x.md", "handbook/a.md"]
    assert not changed(first.after, "..").removed
    assert ids(changed(first.after, "..")) == ["../x.md", "handbook/a.md"]
    assert ids(changed(first.after, ".")) == ["../x.md", "handbook/a.md"]  # what is elsewhere stays
    Path("handbook/a.md").unlink()
    assert changed(first.after, "..").removed == ("handbook/a.md",)


def test_a_store_among_the_documents_is_none_of_them():
    Path("handbook/a.md").write_text(SELMA)
    first = changed(Contents(), ".")
    Path("memory").mkdir()
    first.after.write(Path("memory"))
    assert ids(changed(first.after, ".")) == ["handbook/a.md"]
    with pytest.raises(InputError, match="a store does not hold itself"):
        changed(first.after, "memory")


def test_files_of_one_id_do_not_take_turns():
    """Composed and decomposed characters, or bytes that are no UTF-8."""
    for name in ("e\u0301.txt", "\u00e9.txt"):
        Path("handbook", name).write_text(f"{SELMA} {len(name)}")
    if len(os.listdir("handbook")) < 2:
        pytest.skip("this file system takes both names for one")
    first = changed(Contents(), "handbook")
    held = Contents(tuple(replace(stored, adapter="somewhere") for stored in first.after.passages))
    assert ids(first) == ["handbook/\u00e9.txt"]
    assert not changed(held, "handbook")


def test_what_is_in_a_folder_that_cannot_be_read_stays(monkeypatch):
    Path("handbook/secret").mkdir()
    Path("handbook/secret/a.md").write_text(SELMA)
    Path("handbook/b.md").write_text(PAULA)
    first = changed(Contents(), "handbook")
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert ids(changed(first.after, "handbook")) == ["handbook/b.md", "handbook/secret/a.md"]


def test_a_store_that_was_killed_before_it_had_a_configuration_is_no_obstacle():
    Path("memory").mkdir()
    Path("memory/prompts.yaml").write_text("of somebody else")
    with pytest.raises(InputError, match="something that is no store"):
        check_place(Path("memory"))
    Path("memory/.lock").touch()
    check_place(Path("memory"))


def test_an_interrupted_sync_keeps_what_it_made_and_answers_meanwhile(monkeypatch, capfd):
    rag = opened()
    rag.add({"id": "selma", "text": SELMA})
    encode = AdapterLibrary.encode
    groups = []

    def interrupted(library, group):
        groups.append(group)
        if len(groups) == 2:
            raise KeyboardInterrupt
        return encode(library, group)

    monkeypatch.setattr(AdapterLibrary, "encode", interrupted)
    texts = [{"id": "paula", "text": PAULA}, {"id": "bruno", "text": PAULA.replace("Paula", "Bruno")}]
    with pytest.raises(KeyboardInterrupt):
        rag.add(texts)
    with next(Path("memory").rglob("journal-0.jsonl")).open("ab") as journal:
        journal.write('{"key": "x", "passage": "é'.encode()[:-1])  # as a kill leaves it
    assert rag.ask("What did Selma Drumkin work as?").text == "sailor"
    made = rag.add(texts)
    assert (made.changes.added, made.augmented, made.encoded) == (("bruno", "paula"), 0, 1)
    rag.forget("bruno")
    assert rag.documents == {"paula": 1, "selma": 1}


def test_forgetting_what_stands_in_other_words_too_and_a_file_of_several(capsys):
    short = "She worked as a sailor."
    Path("handbook/people.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in (PAULA, short)))
    rag = opened()
    rag.add(["handbook", {"id": "selma", "text": SELMA}, {"id": "short", "text": short}])
    questions = next(Path("memory").rglob("journal-0.jsonl")).with_name("questions.json")
    questions.write_text(json.dumps([{"passages": [{"passage": short}]}]))  # as prag augment --store leaves it
    rag.forget("short")  # its words stand in Selma's passage
    assert not questions.exists()
    rag.forget("handbook/people.jsonl#2")
    assert rag.documents == {"handbook/people.jsonl#1": 1, "selma": 1}
    assert rag.sync("handbook").changes.added == ("handbook/people.jsonl#2",)  # it is still in the file
    assert main(["forget", "./handbook/people.jsonl"]) == 0
    assert rag.documents == {"selma": 1}
    with pytest.raises(InputError, match="the store holds no document ''"):
        rag.forget("")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "None is no document"),
        ([3], "3 is no document"),
        ("", "'' is no document"),
        ({"id": "a", "text": None}, "a document's text is None"),
        ({"id": "a", "text": "b", "title": 3}, "a document's title is 3"),
    ],
)
def test_what_is_no_document_is_refused(document, message):
    with pytest.raises(InputError, match=message):
        opened().add(document)
    assert not Path("memory").exists()


def test_what_is_no_question_is_refused_and_an_empty_store_says_so():
    rag = opened()
    for question, options, message in (
        (None, {}, "None is no question"),
        (["Who?", 3], {"method": "vanilla"}, "3 is no question"),
        ("Who?", {"topk": 0}, "topk is 0"),
        ("Who?", {"method": "magic"}, "there is no method 'magic'"),
        ("Who?", {}, "the store holds no document"),
    ):
        with pytest.raises(InputError, match=message):
            rag.ask(question, **options)
    with opened(None) as closed:
        pass
    with pytest.raises(InputError, match="the store is gone"):
        closed.add(SELMA)


def test_a_text_may_be_longer_than_a_name_and_a_copy_is_no_part_of_the_store():
    rag = opened()
    rag.add(SELMA + " Rain fell on that day." * 10)
    with pytest.raises(InputError, match="it is within the store"):
        rag.save("memory/copy")
    assert rag.save("copies/first").documents == rag.documents
    assert os.listdir("copies") == ["first"]
    with pytest.raises(InputError, match="precision is 'bf16-true', and the store was made with '32-true'"):
        ParametricRAG(store="memory", settings={"trainer.precision": "bf16-true"})
