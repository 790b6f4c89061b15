"""The adapters of an experiment: groups that come and go whole, sizes that are measured, passages that fail."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import PragError
from prag_lightning.files import temp_path, write_text
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.lora.store import AdapterStore
from prag_lightning.records import AugmentedPassage, QAPair
from prag_lightning.training.encoder import Encoder
from prag_lightning.training.examples import ExampleBuilder
from prag_lightning.training.groups import group_passages
from prag_lightning.training.layout import Layout
from prag_lightning.training.library import AdapterLibrary
from prag_lightning.training.recipe import TrainingRecipe
from tiny_llm import save_random_llm

PROMPTS = PromptTemplates.load(Path(__file__).parent.parent / "configs/prompts/default.yaml")
PASSAGES = [
    AugmentedPassage(text, f"again {text}", (QAPair(f"What is {text}?", "a", "It is a."),) * pairs)
    for text, pairs in (("red fox", 3), ("blue bird of the sea", 2), ("tree", 1), ("grey stone", 3), ("old man", 2))
]


@dataclass(frozen=True)
class Sizes:
    key: str
    longest: int
    count: int


@pytest.fixture
def llm(tmp_path) -> LLM:
    return load_llm(str(save_random_llm(tmp_path / "random")))


def open_library(llm: LLM, root: Path, **changes) -> AdapterLibrary:
    recipe = TrainingRecipe(**{"learning_rate": 0.01, **changes})
    layout = Layout(root, root / "out", "random", "toy", "writer", recipe, with_cot=False)
    return AdapterLibrary(llm, ExampleBuilder(PROMPTS, llm.tokenizer), recipe, layout, create=True)


def files(library: AdapterLibrary) -> dict[str, bytes]:
    return {str(path.relative_to(library.store.root)): path.read_bytes() for path in library.store.root.rglob("*.s*")}


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 7)), min_size=1, max_size=60), st.integers(1, 300), st.data()
)
@settings(max_examples=80, deadline=None)
def test_the_groups_that_are_left_are_those_that_were_formed_first(sizes, group_tokens, data):
    recipe = TrainingRecipe()
    passages = [Sizes(f"{i:03}", longest, count) for i, (longest, count) in enumerate(sizes)]
    groups = group_passages(passages, recipe, group_tokens)
    left = [group for group in groups if data.draw(st.booleans())]
    assert group_passages([p for group in left for p in reversed(group)], recipe, group_tokens) == left


def test_a_killed_process_leaves_a_whole_group_or_none(llm, tmp_path, monkeypatch):
    whole = open_library(llm, tmp_path / "whole")
    (group,) = whole.groups(whole.missing(PASSAGES), 8192)
    whole.encode(group)
    assert whole.missing(PASSAGES) == []

    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    torn = open_library(llm, tmp_path / "torn")
    with monkeypatch.context() as patch:
        patch.setattr(AdapterStore, "_place", killed)
        with pytest.raises(KilledError):
            torn.encode(group)
    assert len(torn.missing(PASSAGES)) == 5
    again = open_library(llm, tmp_path / "torn")
    assert again.missing(PASSAGES) == []
    assert files(again) == files(whole)

    early = open_library(llm, tmp_path / "early")
    with monkeypatch.context() as patch:
        patch.setattr(AdapterStore, "_write", killed)
        with pytest.raises(KilledError):
            early.encode(group)
    assert len(open_library(llm, tmp_path / "early").missing(PASSAGES)) == 5
    assert list((early.store.root / "adapters").iterdir()) == []


def test_what_dead_processes_left_unfinished_is_swept_and_what_living_ones_write_is_not(llm, tmp_path):
    library = open_library(llm, tmp_path)
    folder = library.store.root / "adapters"
    folder.mkdir(parents=True)
    mine = temp_path(folder / "group")
    mine.mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    theirs = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-"))
    (theirs / "00").mkdir(parents=True)
    library.store.recover()
    assert mine.exists()
    assert not theirs.exists()
    torn = theirs.with_name(theirs.name.replace(".group.", ".a.txt."))
    torn.write_text("torn")
    write_text(folder / "a.txt", "whole")
    assert [path.name for path in folder.iterdir() if path != mine] == ["a.txt"]


def test_a_group_too_large_for_memory_is_halved_until_it_fits(llm, tmp_path, monkeypatch):
    library, sizes = open_library(llm, tmp_path / "small"), []
    encode = Encoder.encode

    def with_little_memory(self, group, on_step=None):
        sizes.append(len(group))
        if len(group) > limit:
            raise torch.OutOfMemoryError
        return encode(self, group, on_step)

    monkeypatch.setattr(Encoder, "encode", with_little_memory)
    missing, limit = library.missing(PASSAGES), 2
    assert [passage.key for passage in library.encode(missing)] == [passage.key for passage in missing]
    assert sizes == [5, 2, 3, 1, 2]
    assert library.missing(PASSAGES) == []
    limit = 0
    with pytest.raises(PragError, match=r"memory does not suffice to encode one passage of .* tokens"):
        open_library(llm, tmp_path / "none").encode(missing)


def test_a_passage_whose_training_diverges_is_left_out_and_named(llm, tmp_path):
    library = open_library(llm, tmp_path, learning_rate=1e30, num_train_epochs=4)
    encoded = library.encode(library.missing(PASSAGES))
    assert {p.passage for p in PASSAGES} == library.failed.keys()
    assert encoded == []
    assert "not finite" in library.failed["red fox"]
    assert len(library.missing(PASSAGES)) == 5


def test_a_passage_without_room_to_learn_is_left_out_and_the_others_are_not(llm, tmp_path):
    library = open_library(llm, tmp_path)
    question = " ".join(["word"] * 4000)
    unanswerable = AugmentedPassage("endless", "endless", (QAPair(question, "a", "It is a."),))
    object.__setattr__(library.builder, "objective", "answer")
    assert len(library.missing([*PASSAGES, unanswerable])) == 5
    assert "block_size" in library.failed["endless"]


def test_the_size_of_groups_is_measured_once_and_kept(llm, tmp_path, capsys):
    library = open_library(llm, tmp_path)
    missing = library.missing(PASSAGES)
    tokens = library.measured_group_tokens(missing)
    assert tokens >= 1024
    assert tokens & (tokens - 1) == 0
    assert "suit" in capsys.readouterr().err
    assert open_library(llm, tmp_path).measured_group_tokens(missing) == tokens
    assert capsys.readouterr().err == ""
    assert len(open_library(llm, tmp_path).missing(PASSAGES)) == 5
