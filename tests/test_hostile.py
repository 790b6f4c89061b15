"""Hostile files: nothing in them is executed, nothing is written outside the roots, memory stays bounded, and every
error has one shape."""

import ast
import gzip
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from prag_lightning.cli.entry import main
from prag_lightning.data.chat_text import LONGEST_TEXT
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.errors import InputError, PragError, explained
from prag_lightning.retrieval import BM25sRetriever
from prag_lightning.retrieval.index_files import PASSAGES_OF
from toy import ROOT, edit, prag

SOURCES = sorted((ROOT / "src").rglob("*.py"))
SHAPE = re.compile(r"prag: error: [^\n]+\. [A-Z'][^\n]*[.?]")
QUIET = "--trainer.logger=false"


def ended(line: list[str]) -> int:
    try:
        return main(line)
    except SystemExit as error:
        return error.code


def error_of(capsys) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    (line,) = (line for line in err.splitlines() if line.startswith("prag: error: "))
    assert SHAPE.fullmatch(line), line
    return line


def calls(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_package_executes_nothing_that_it_reads(path):
    # The commit of a checkout, and whether files differ from it, is asked of git by a line with nothing of the user's.
    asks_git = path.parts[-2:] == ("pipeline", "provenance.py")
    banned = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"}
    banned |= {"yaml.full_load", "yaml.unsafe_load", "np.load_pickle", "joblib.load", "shelve.open"}
    for name, node in calls(path):
        assert name not in banned, f"{path}:{node.lineno}"
        safe = any(keyword.arg == "weights_only" and ast.unparse(keyword.value) == "True" for keyword in node.keywords)
        assert name != "torch.load" or safe, f"{path}:{node.lineno}"
        assert not name.startswith(("pickle.", "dill.", "marshal."))
        assert not name.startswith("subprocess.") or asks_git, f"{path}:{node.lineno}"
        for keyword in node.keywords:
            value = keyword.value
            assert not (keyword.arg == "allow_pickle" and ast.unparse(value) != "False"), f"{path}:{node.lineno}"
            assert not (keyword.arg == "shell" and ast.unparse(value) != "False")
            assert not (keyword.arg == "trust_remote_code" and isinstance(value, ast.Constant) and value.value)
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
    }
    assert not imported & {"pickle", "dill", "marshal", "shelve", "joblib"}
    assert "subprocess" not in imported or asks_git


def test_the_package_raises_errors_of_one_family():
    family = {"InputError", "PragError", "Terminated", "kind"}
    # SystemExit hands a failed process's exit code on to those that lost it.
    family |= {"SystemExit"}
    # A search server's refusal stays among the modules that speak with servers, which wait or turn it into one of the
    # family.
    family |= {"Refusal", "Refusal.of"}
    # ValueError stays within the module that raises it, which turns it into one of the family, or is a caller's
    # mistake in Python; AssertionError is this program's own; AttributeError is what modules with lazy names raise.
    # ApiError is what a client of the server is told; it stays within that room, with what makes one.
    of_server = {"ApiError", "failure", "overloaded", "_unknown"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                own = name.startswith(("self._named", "self._explained")) or name in (
                    "_unreadable",
                    "_unloadable",
                    "_unanswered",
                    "_in_use",
                    "refuse",
                    "refusal.named",
                )
                own = own or (name in of_server and path.parent.name == "serve")
                assert name in family | {"ValueError", "AssertionError", "AttributeError"} or own, (
                    f"{path}:{node.lineno}: {name}"
                )


CONFIGURATIONS = {
    "data: 5": "'data' holds no settings",
    "base: 5": "'base' is no file's name",
    "base: {a: b}": "'base' is no file's name",
    "a: 2001-99-99": "month must be in 1..12",
    "a: !!bool maybe": "is not YAML",
    "a: !!timestamp abc": "is not YAML",
    "a: !!python/object/apply:os.system ['touch pwned']": "could not determine a constructor",
    "a: !!python/name:os.system": "could not determine a constructor",
    "[" * 2000: "is not YAML",
}  # fmt: skip


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_hostile_configurations_are_refused(tmp_path, monkeypatch, capsys, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    for command in (["index"], ["data", "check"]):
        assert ended([*command, "--config", "c.yaml"]) == 2
        assert CONFIGURATIONS[text] in error_of(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_configurations_that_build_on_each_other_for_ever_are_refused(tmp_path, capsys):
    for i in range(30):
        (tmp_path / f"{i}.yaml").write_text(f"base: [{i + 1}.yaml, {i + 1}.yaml]", encoding="utf-8")
    (tmp_path / "30.yaml").write_text("data: {}", encoding="utf-8")
    assert ended(["index", "--config", str(tmp_path / "0.yaml")]) == 2
    assert "more than 100 files" in error_of(capsys)


MISTAKES = [
    ["nonsense"],
    ["data"],
    ["fit", "--model.no_such", "1"],
    ["fit", "--config", "configs/demo.yaml", "--data.topk", "three"],
    ["fit", "--config", "configs/demo.yaml", "--model.learning_rate", "nan"],
    ["fit", "--config", "configs/demo.yaml", "--model.learning_rate=-1"],
    ["fit", "--config", "configs/demo.yaml", "--data.dataset", "../../x"],
    ["fit", "--config", "configs/demo.yaml", "--data.dataset", "é" * 150],
    ["fit", "--config", "configs/demo.yaml", "--data.dataset", "a\u202eb"],
    ["index", "--config", "configs/demo.yaml"],
    ["index", "--data.retriever.class_path", "os.system"],
    ["index", "--trainer.logger", "false"],
    ["corpus", "--documents", "configs"],
    ["corpus", "--documents", "nowhere", "--out", "x.tsv"],
    ["corpus", "--documents", "configs", "--out", "x.tsv", "--words", "many"],
]


@pytest.mark.parametrize("line", MISTAKES, ids=" ".join)
def test_every_mistake_has_the_shape_of_errors(line, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert ended(line) == 2
    error_of(capsys)


def test_tracebacks_are_for_those_who_ask(monkeypatch, capsys):
    def fails(*_):
        raise RuntimeError("one\ntwo \x1b[2J" + "x" * 10_000)

    monkeypatch.setattr("prag_lightning.cli.entry._run", fails)
    assert main(["report"]) == 1
    error = error_of(capsys)
    assert error.startswith(r"prag: error: RuntimeError: one two \x1b[2Jxxx")
    assert len(error) < 2000
    assert "PRAG_DEBUG=1" in error
    monkeypatch.setenv("PRAG_DEBUG", "1")
    assert main(["report"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_counts_whatever_a_library_makes_of_it(monkeypatch, capsys, number, code):
    def loads(*_):
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except BaseException:
            raise AttributeError("half a module") from None

    monkeypatch.setattr("prag_lightning.cli.entry._run", loads)
    assert main(["fit"]) == code
    assert "Run the same command again" in error_of(capsys)


def test_messages_fit_a_terminal():
    message = str(InputError("x" * 10**7, where="a\nb\x1b[2J\ud800", hint="Mend it"))
    assert len(message) < 2000
    assert message.endswith(r"x (a b\x1b[2J\ud800). Mend it.")
    assert isinstance(explained(KeyError("a")), PragError)


def test_names_do_not_lead_out_of_the_roots(config, capsys, tmp_path):
    before = set(tmp_path.parent.iterdir())
    hotpot = {"_id": "a", "question": "Q?", "answer": "A", "context": [], "supporting_facts": []}
    for kind in ("../../pwned", "/tmp/pwned", "nul\0", "..", "x" * 300):
        (tmp_path / "hotpot.json").write_text(json.dumps([hotpot | {"type": kind}]), encoding="utf-8")
        assert prag("augment", config, "--data.dataset=hotpotqa", "--data.data_path=hotpot.json") == 2
        assert "cannot be a part of a path" in error_of(capsys)
    for setting in ("--data.augment_model=..", "--model.model_name=..", "--data.data_type=../x"):
        assert prag("fit", config, setting) == 2
        error_of(capsys)
    assert set(tmp_path.parent.iterdir()) == before
    assert {path.name for path in tmp_path.iterdir()} == {"aug", "corpus.tsv", "hotpot.json", "logs", "toy.yaml"}


def test_models_execute_nothing(config, capsys, model_folder, tmp_path):
    remote = tmp_path / "remote"
    shutil.copytree(model_folder, remote)
    (remote / "evil.py").write_text("open('pwned', 'w')\nclass C: pass\n", encoding="utf-8")
    settings = json.loads((remote / "config.json").read_text(encoding="utf-8"))
    automatic = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"}
    (remote / "config.json").write_text(json.dumps({**settings, "model_type": "evil", "auto_map": automatic}))
    pickled = tmp_path / "pickled"
    shutil.copytree(model_folder, pickled, ignore=lambda *_: ["model.safetensors"])
    (pickled / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    (broken / "model.safetensors").write_bytes((2**60).to_bytes(8, "little") + bytes(100))
    reasons = {remote: "model.trust_remote_code", pickled: "convert it to safetensors", broken: "cannot be loaded"}
    for folder, reason in reasons.items():
        assert prag("fit", config, QUIET, f"--model.model_name={folder}") == 2
        assert reason in error_of(capsys)
    assert not (tmp_path / "pwned").exists()


def test_fields_of_megabytes_cost_little_memory(config, capsys, tmp_path):
    def change(records):
        records[0]["augment"][0]["passage"] = "word " * 2_000_000
        records[1]["question"] = "word " * 2_000_000
        records[1]["augment"][0]["writer_qa"][0]["question"] = "__import__('os').system('touch pwned')"
        records[1]["augment"][0]["writer_rewrite"] = "half \ud83d"

    edit(config, change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert prag("fit", config, QUIET) == 1
    assert "longer than any model reads" in error_of(capsys)
    assert prag("test", config, QUIET) == 1
    assert "2 could not be answered" in error_of(capsys)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 50 * 10_000_000
    assert LONGEST_TEXT < 10_000_000
    assert not (tmp_path / "pwned").exists()


def test_a_corpus_without_line_breaks_is_not_read_into_memory(tmp_path, capsys):
    path = tmp_path / "c.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write(b"x" * 2**20)
        file.write(b'\n{"text": "It is here."}\n')
    reader = CorpusReader(path)
    assert [passage.text for passage in reader] == ["It is here."]
    assert "longer than 16,777,216 bytes" in reader.bad_rows[0]


def test_numbers_that_stand_twice_are_refused(config, capsys):
    edit(config, lambda records: records[2].update(test_id=0))
    assert prag("fit", config) == 2
    assert "test_id 0 stands there twice" in error_of(capsys)
    edit(config, lambda records: records[0]["augment"][1].update(pid=0))
    assert prag("fit", config) == 2
    assert "pid 0 stands there twice" in error_of(capsys)


def test_a_damaged_index_is_named(tmp_path, capsys):
    corpus = tmp_path / "c.tsv"
    corpus.write_text("id\ttext\ttitle\n1\tred fox\t\n2\tblue sea\t\n", encoding="utf-8")
    BM25sRetriever(tmp_path / "index", corpus).build()
    for damage in (lambda a: a.__setitem__(slice(None), 2**30), lambda a: a.__setitem__(slice(None), -5)):
        array = np.lib.format.open_memmap(tmp_path / "index" / PASSAGES_OF, "r+")
        damage(array)
        array.flush()
        with pytest.raises(InputError, match="the index is damaged: it points to passages that it does not hold"):
            BM25sRetriever(tmp_path / "index", corpus).search(["fox"], 1)
    (tmp_path / "index" / "passages.bin").write_bytes(b"\xff" * 10)
    with pytest.raises(InputError, match="the index is damaged"):
        BM25sRetriever(tmp_path / "index", corpus).search(["fox"], 1)
