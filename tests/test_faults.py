"""Full disks, folders that go away, adapters that are not what they seem, passages that no model takes, two at once."""

import ctypes
import json
import multiprocessing
import os
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from killing import command, differences, run, start
from prag_lightning.augment import replies
from prag_lightning.cli.entry import main
from prag_lightning.journal import Journal
from prag_lightning.lora.store import AdapterStore
from toy import EXPERIMENT, RECORDS, edit, prag

QUIET = "--trainer.logger=false"
QUESTIONS = [{"question": row["question"], "answer": row["answer"]} for row in RECORDS]


@contextmanager
def files_of_at_most(size: int):
    """What is longer cannot be written, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def read_only(folder: Path):
    """No folder below can be written into, not even by root."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]
    for path in folders:
        path.chmod(0o555)
    try:
        with permissions_respected():
            yield
    finally:
        for path in folders:
            path.chmod(0o755)


@contextmanager
def permissions_respected():
    """Without the capability by which root's thread writes where it may not (capabilities(7))."""
    libc = ctypes.CDLL(None)
    header, held = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    effective = held[0]
    held[0] &= ~(1 << 1)
    assert libc.capset(header, held) == 0
    try:
        yield
    finally:
        held[0] = effective
        assert libc.capset(header, held) == 0


def last_error(capsys) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    (line,) = (line for line in err.splitlines() if line.startswith("prag: error: "))
    return line


def write_inputs(folder: Path) -> None:
    (folder / "questions.json").write_text(json.dumps(QUESTIONS), encoding="utf-8")
    (folder / "document.txt").write_text("A red fox sat by the sea. " * 200, encoding="utf-8")
    retriever = "{class_path: prag_lightning.retrieval.BM25sRetriever, init_args: {index: index, corpus: c.tsv}}"
    (folder / "index.yaml").write_text(f"data: {{retriever: {retriever}}}", encoding="utf-8")


AUGMENT = ("--data.augment_model=null", "--data.data_path=questions.json", "--data.augment.augment_max_new_tokens=8")


def test_a_disk_that_takes_nothing_is_named_and_what_is_there_is_whole(config, capsys, tmp_path):
    write_inputs(tmp_path)
    steps = {
        "offline": ["fit", "--config", str(config), QUIET],
        "output": ["test", "--config", str(config), QUIET],
        "merged": ["export", "--config", str(config), "--out=merged"],
        "page": ["report", "--config", str(config), "--out=page"],
        "aug/toy/random": ["augment", "--config", str(config), *AUGMENT],
        "c.tsv": ["corpus", "--documents=document.txt", "--out=c.tsv"],
        "index": ["index", "--config=index.yaml"],
    }
    for place, line in steps.items():
        for trouble, reason, code in (
            (read_only(tmp_path), "Permission denied", 2 if place in ("merged", "page", "c.tsv") else 1),
            (files_of_at_most(64), "File too large", 1),
        ):
            with trouble:
                assert main(line) == code, line
            error = last_error(capsys)
            assert reason in error or "cannot write the report" in error
            assert place in error
            assert ".unfinished" not in error
        left = [path for path in (tmp_path / place).rglob("*") if path.is_file() and path.stat().st_size]
        assert all(path.suffix == ".lock" for path in left), left
        assert main(line) == 0, line
    assert prag("check", config) == 0
    assert len(json.loads((tmp_path / "output" / EXPERIMENT / "prag/total/predict.json").read_text())) == 3


def test_a_file_where_a_folder_should_be_is_named(config, capsys, tmp_path):
    (tmp_path / "taken").write_text("", encoding="utf-8")
    write_inputs(tmp_path)
    assert prag("fit", config, QUIET) == 0
    for stage, setting, code in (
        ("fit", "--model.offline_root=taken", 1),
        ("test", "--model.output_root=taken", 1),
        ("export", "--out=taken", 2),
        ("augment", "--data.augment_root=taken", 1),
    ):
        more = AUGMENT if stage == "augment" else ()
        capsys.readouterr()
        assert prag(stage, config, *more, setting) == code
        assert "taken" in last_error(capsys)


def test_adapters_that_vanish_while_others_are_made_are_missed(config, capsys, monkeypatch, tmp_path):
    save_all = AdapterStore.save_all

    def and_lose_the_first(self, adapters):
        save_all(self, adapters)
        if adapters:
            shutil.rmtree(self.directory(next(iter(adapters))))

    with monkeypatch.context() as patch:
        patch.setattr(AdapterStore, "save_all", and_lose_the_first)
        assert prag("fit", config, QUIET) == 1
    assert "1 adapters are gone" in last_error(capsys)
    assert prag("fit", config, QUIET) == 0
    assert prag("check", config) == 0


def test_bad_adapters_are_named_and_never_used(config, capsys, tmp_path):
    assert prag("fit", config, QUIET) == 0
    recipe = tmp_path / "offline" / EXPERIMENT
    places = sorted((recipe / "adapters").glob("*/*"))
    whole = {path: path.read_bytes() for place in places for path in place.iterdir()}
    weights, settings = "adapter_model.safetensors", "adapter_config.json"

    def with_tensors(change):
        def do(place):
            tensors = load_file(place / weights)
            change(tensors, next(iter(tensors)))
            save_file(tensors, place / weights, {"format": "pt"})

        return do

    damage = {
        "was copied here": lambda place: (place / weights).write_bytes(whole[places[4] / weights]),
        "values that are not finite": with_tensors(lambda t, name: t[name].fill_(float("nan"))),
        "values that are not finite ": with_tensors(lambda t, name: t[name].fill_(float("inf"))),
        "holds torch.int64": with_tensors(lambda t, name: t.update({name: t[name].to(torch.int64)})),
        "is missing: the adapter is of another model": with_tensors(lambda t, name: t.pop(name)),
        "unknown tensor extra": with_tensors(lambda t, name: t.update(extra=torch.zeros(2))),
        "of shape [4, 4]": with_tensors(lambda t, name: t.update({name: torch.zeros(4, 4)})),
        "an adapter of this rank no more than": lambda place: (place / weights).write_bytes(bytes(3_000_000)),
        "recursion": lambda place: (place / settings).write_text("[" * 50_000, encoding="utf-8"),
        "rank None": lambda place: (place / settings).write_text("[]", encoding="utf-8"),
        "rank 4": lambda place: (place / settings).write_text('{"r": 4, "lora_alpha": 32}', encoding="utf-8"),
    }
    waiting = list(damage)
    while waiting:
        messages, waiting = waiting[:4], waiting[4:]
        for message, place in zip(messages, places, strict=False):
            damage[message](place)
        capsys.readouterr()
        assert prag("check", config) == 1
        out, err = capsys.readouterr()
        assert f"{len(messages)} damaged (" in err
        assert "'prag check' with --delete true" in err
        for message, place in zip(messages, places, strict=False):
            (line,) = (line for line in out.splitlines() if line.startswith(f"damaged: {place.relative_to(tmp_path)}"))
            assert message.strip() in line
        assert prag("test", config, QUIET) == 2
        assert "adapter" in last_error(capsys)
        for path, content in whole.items():
            path.write_bytes(content)
    (places[0] / weights).write_bytes(whole[places[0] / weights][:-1])
    capsys.readouterr()
    assert prag("fit", config, QUIET) == 0
    assert "damaged, and made anew: " in capsys.readouterr().err
    for name, tensor in load_file(places[0] / weights).items():
        torch.testing.assert_close(tensor, load(whole[places[0] / weights])[name], rtol=1e-3, atol=1e-6)


def test_two_recipes_in_one_directory_are_kept_apart(config, capsys, tmp_path):
    other = "--model.block_size=40"
    answers = {}
    for setting, folder in (("--model.block_size=3000", "prag"), (other, "prag_block_size=40")):
        assert prag("fit", config, QUIET, setting) == 0
        assert prag("test", config, QUIET, setting) == 0
        path = tmp_path / "output" / EXPERIMENT / folder / "total/predict.json"
        rows = json.loads(path.read_text(encoding="utf-8"))
        answers[setting] = [row["text"] for row in rows]
    assert len(list((tmp_path / "offline" / EXPERIMENT / "adapters").glob("*/*"))) == 10
    assert answers["--model.block_size=3000"] != answers[other]
    shutil.rmtree(tmp_path / "output")
    assert prag("test", config, QUIET, "--model.block_size=3000") == 0
    rows = json.loads((tmp_path / "output" / EXPERIMENT / "prag/total/predict.json").read_text(encoding="utf-8"))
    assert [row["text"] for row in rows] == answers["--model.block_size=3000"]
    capsys.readouterr()
    assert prag("check", config, other) == 0
    assert prag("check", config) == 1
    assert "points to the adapter of another text or recipe" in capsys.readouterr().out


def with_broken_letter(model_folder: Path, folder: Path) -> Path:
    """A model that makes no numbers of a text with a tilde in it."""
    shutil.copytree(model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    weights["model.embed_tokens.weight"][vocabulary["~"]] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_what_the_model_cannot_take_costs_itself_alone(config, capsys, model_folder, tmp_path):
    broken = f"--model.model_name={with_broken_letter(model_folder, tmp_path / 'broken')}"
    long = "Why " + "so " * 1000 + "long?"

    def change(records):
        records[2]["augment"][0]["passage"] = "sea ~"
        records[1]["question"] = long

    edit(config, change)
    assert prag("fit", config, QUIET, broken) == 1
    error = last_error(capsys)
    assert "1 passages could not be encoded, the others were: 'sea ~': its loss at step 0 is not finite" in error
    experiment = str(EXPERIMENT).replace("random", "broken", 1)
    assert len(list((tmp_path / "offline" / experiment / "adapters").glob("*/*"))) == 4
    for method, reasons in {
        "prag": ("question 2 of total: the passage 'sea ~' could not be encoded", "question 1 of total: its prompt of"),
        "icl": ("question 2 of total: the model's scores are not finite", "question 1 of total: its prompt of"),
        "vanilla": ("question 1 of total: its prompt of",),
    }.items():
        assert prag("test", config, QUIET, broken, f"--model.inference_method={method}") == 1
        error = last_error(capsys)
        assert all(reason in error for reason in reasons)
        assert error.startswith(f"prag: error: {len(reasons)} could not be answered")
        results = tmp_path / "output" / experiment / method / "total"
        answered = [row["test_id"] for row in json.loads((results / "predict.json").read_text(encoding="utf-8"))]
        assert answered == ([0, 2] if method == "vanilla" else [0])
        assert f"unanswered\t{len(reasons)}\n" in (results / "result.txt").read_text(encoding="utf-8")


def test_passages_that_the_model_cannot_take_are_named_by_augment(config, capsys, model_folder, tmp_path):
    broken = f"--model.model_name={with_broken_letter(model_folder, tmp_path / 'broken')}"
    write_inputs(tmp_path)
    rows = ["id\ttext\ttitle", "1\tquestion ~\t", f"2\tquestion {'of the long ' * 400}\t", "3\tquestion fox\t"]
    (tmp_path / "corpus.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for _ in range(2):
        settings = ("--data.augment.attempts=1", "--data.augment.augment_max_new_tokens=1")
        assert prag("augment", config, *AUGMENT, broken, *settings) == 1
        error = last_error(capsys)
        assert "2 passages could not be augmented, and 3 questions have too few for it: " in error
        assert "'question ~': the model's scores are not finite" in error
        assert "leaves no room for 1 more in the model's context of 2048" in error
    assert (tmp_path / "aug/toy/broken/questions.json").is_file()


def test_a_passage_whose_place_another_takes_is_no_failure(config, capsys, model_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(replies, "LONGEST_FIELD", 6)
    write_inputs(tmp_path)
    rows = ["id\ttext\ttitle", f"1\tquestion {'question 0 ' * 600}\t", "2\ta question\t"]
    (tmp_path / "corpus.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    settings = (f"--model.model_name={model_folder}", "--data.topk=1", "--data.augment.constrained=true")
    more = ("--data.augment.augment_max_new_tokens=400", "--data.augment.attempts=1", "--data.sample=1")
    assert prag("augment", config, *AUGMENT[:2], *settings, *more) == 0
    assert "1 passages could not be augmented, the next best took their places" in capsys.readouterr().err
    (row,) = json.loads((tmp_path / "aug/toy/random/questions.json").read_text(encoding="utf-8"))
    assert row["passages"] == ["a question"]


def run_both(line: list[str], log: Path) -> None:
    """A command twice at the same time."""
    logs = [log.with_name(f"{log.name}-{i}") for i in range(2)]
    for place in logs:
        place.write_text("", encoding="utf-8")
    both = [start(line, str(place)) for place in logs]
    for process, place in zip(both, logs, strict=True):
        process.join(120)
        assert process.exitcode == 0, place.read_text(encoding="utf-8")


def test_two_fits_at_once_give_a_whole_store(config, tmp_path):
    line = ["fit", "--config", str(config), QUIET, f"--data.corpus={tmp_path / 'corpus.tsv'}"]
    line += [f"--data.augment_root={tmp_path / 'aug'}", "--model.group_tokens=200"]
    run_both([*line, f"--model.offline_root={tmp_path / 'both'}"], tmp_path / "log")
    assert main([*line, f"--model.offline_root={tmp_path / 'alone'}"]) == 0
    assert differences(tmp_path / "alone", tmp_path / "both") == []
    assert prag("check", config, f"--model.offline_root={tmp_path / 'both'}") == 0


def test_two_augments_at_once_write_what_one_writes(tmp_path):
    run_both(command("augment", tmp_path / "both", 6), tmp_path / "log")
    run(command("augment", tmp_path / "alone", 6))
    differing = [Path(name).name for name in differences(tmp_path / "alone", tmp_path / "both")]
    assert set(differing) <= {"journal-0.jsonl"}, "a passage may be written by both, and then stands in it twice"


def append(folder: Path, first: int) -> None:
    for number in range(first, first + 30):
        Journal(folder).add([{"key": f"{number}-{i}", "text": "x" * 20_000} for i in range(3)])


def test_two_commands_append_to_one_journal(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=append, args=(tmp_path, 1000 * i)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    journal = Journal(tmp_path)
    assert all(journal.get(f"{1000 * p + n}-{i}") for p in range(2) for n in range(30) for i in range(3))


def test_a_journal_that_could_not_be_written_to_goes_on_where_it_was(tmp_path):
    journal = Journal(tmp_path)
    journal.add([{"key": "a", "text": "x"}])
    size = journal.path.stat().st_size
    with files_of_at_most(size + 10), pytest.raises(OSError, match="too large"):
        journal.add([{"key": "b", "text": "y" * 100}])
    assert journal.get("b") is None
    assert journal.path.stat().st_size == size
    journal.add([{"key": "c", "text": "z"}])
    assert [Journal(tmp_path).get(key) is not None for key in "abc"] == [True, False, True]
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["journal-0.jsonl"]
