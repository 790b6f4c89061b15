"""Questions of one's own, and what an experiment still takes, on the embedded model."""

import io
import json
import os
import pty
import re
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from prag_lightning.cli.entry import main
from prag_lightning.commands.ask import PROMPT
from prag_lightning.data.corpus import CorpusReader

ROOT = Path(__file__).parent.parent


@pytest.fixture
def settings(tmp_path, monkeypatch) -> list[str]:
    """The demo's settings, with folders of its own."""
    monkeypatch.chdir(ROOT)
    settings = ["--config", "configs/demo.yaml", "--data.sample=4", "--data.augment.augment_batch_size=2"]
    settings += [f"--data.augment_root={tmp_path / 'aug'}", f"--model.offline_root={tmp_path / 'adapters'}"]
    return [*settings, f"--model.output_root={tmp_path / 'results'}"]


def answers(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_question_is_answered_from_adapters_that_are_made_for_it(settings, capsys):
    row = json.loads((ROOT / "data/demo/questions/single.json").read_text(encoding="utf-8"))[0]
    corpus = {passage.text: passage for passage in CorpusReader(ROOT / "data/demo/corpus.tsv")}
    assert main(["ask", *settings, row["question"], "--json"]) == 0
    first, second = answers(capsys)[0], None
    (used,) = first["passages"]
    assert corpus[used["text"]].id == used["id"]
    assert corpus[used["text"]].title == used["title"]
    assert used["score"] > 0
    assert first["answer"] == row["answer"]
    assert first["encoded"] == 1
    assert set(first["seconds"]) == {"retrieve", "augment", "encode", "answer", "confidence"}
    assert main(["ask", *settings, row["question"], "--json"]) == 0
    (second,) = answers(capsys)
    assert second["encoded"] == 0
    assert {**second, "encoded": 1, "seconds": first["seconds"]} == first

    assert main(["test", *settings, "--trainer.logger=false", "--data.sample=1"]) == 2
    assert "prag augment" in capsys.readouterr().err
    assert main(["ask", *settings, row["question"], "--model.inference_method=vanilla"]) == 0
    assert row["answer"] not in capsys.readouterr().out
    assert main(["ask", *settings, row["question"], "--model.inference_method=icl"]) == 0
    assert row["answer"] in capsys.readouterr().out.splitlines()[0]


def test_questions_come_line_by_line_and_a_bad_one_does_not_end_it(settings, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Who is it?\n\n???\nGdzie urodził się Łukasz [red]?\n"))
    assert main(["ask", *settings, "--json", "--model.inference_method=icl"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["question"] for line in out.splitlines()] == [
        "Who is it?",
        "Gdzie urodził się Łukasz [red]?",
    ]
    assert err.count("prag: error: the question is empty") == 1


def test_the_standard_input_may_be_any_bytes_or_nothing(settings, capsys, monkeypatch):
    lines = "Где родился Пушкин?\n".encode() + b"Who \xff is it?\n" + "東京？\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="ascii"))
    assert main(["ask", *settings, "--json", "--model.inference_method=vanilla"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["question"] for line in out.splitlines()] == ["Где родился Пушкин?", "東京？"]
    assert err.count("prag: error: the question is not UTF-8 ('Who \\udcff is it?')") == 1
    for nothing in (io.StringIO(""), None):
        monkeypatch.setattr("sys.stdin", nothing)
        assert main(["ask", *settings, "--model.inference_method=vanilla"]) == 2
        assert "there is no question, and no terminal to ask for one" in capsys.readouterr().err


def test_an_answer_that_rests_on_no_passage_says_so(settings, capsys):
    assert main(["ask", *settings, "東京はどこですか？", "--model.inference_method=icl"]) == 0
    assert "no passage was found" in capsys.readouterr().out


def test_passages_are_whole_where_there_is_no_terminal(settings, capsys):
    assert main(["ask", *settings, "Which country does Helstead belong to?", "--model.inference_method=icl"]) == 0
    passage = next(p for p in CorpusReader(ROOT / "data/demo/corpus.tsv") if p.title == "Helstead")
    assert f"  {passage.title}: {passage.text}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  "], "the question is empty"),
        (["？!"], "the question is empty"),
        (["Who \udcff?"], "the question is not UTF-8"),
        (["Who?", "--data.corpus=absent.tsv"], "absent.tsv"),
        (["Who?", "--data.corpus=null"], "data.corpus"),
        (["Who?", "and what?"], "and what?"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(settings, capsys, arguments, message):
    try:
        code = main(["ask", *settings, *arguments])
    except SystemExit as error:
        code = error.code
    err = capsys.readouterr().err
    assert code == 2, err
    assert message in [line for line in err.splitlines() if line.startswith("prag: error:")][-1]


def test_test_makes_the_adapters_of_passages_that_it_retrieves(settings, capsys, tmp_path):
    assert main(["augment", *settings, "--data.sample=1"]) == 0
    assert main(["fit", *settings, "--trainer.logger=false"]) == 0
    adapters = len(list(tmp_path.glob("adapters/**/adapters/*/*")))
    on_demand = [*settings, "--trainer.logger=false", "--data.retrieve_at_test=true", "--data.topk=3"]
    assert main(["test", *on_demand]) == 0
    assert len(list(tmp_path.glob("adapters/**/adapters/*/*"))) == adapters + 2
    (path,) = tmp_path.glob("results/**/prag/single/predict.json")
    assert len(json.loads(path.read_text(encoding="utf-8"))) == 1


def test_a_plan_counts_what_is_left_and_keeps_what_it_measures_with(settings, capsys, tmp_path):
    assert main(["plan", *settings, "--measure=false"]) == 0
    nothing_done = capsys.readouterr().out
    assert re.search(r"4 questions, 4 passages, 4 of them distinct", nothing_done)
    assert re.search(r"augment +0 +4 passages +not yet known", nothing_done)
    assert re.search(r"fit +0 +4 passages +not yet known +1\.\d MB", nothing_done)
    assert not list(tmp_path.glob("adapters/**/adapters"))

    assert main(["plan", *settings]) == 0
    measured = capsys.readouterr().out
    assert re.search(r"augment +2 +2 passages +0:00:\d\d", measured)
    assert re.search(r"fit +2 +2 passages +0:00:\d\d", measured)
    assert re.search(r"test +0 +4 questions +0:00:\d\d", measured)
    tokens, each = (
        int(text.replace(",", "")) for text in re.search(r"([\d,]+) tokens, ([\d,]+) each", measured).groups()
    )
    assert abs(tokens - 2 * each) <= 1

    assert main(["augment", *settings]) == 0
    assert main(["fit", *settings, "--trainer.logger=false"]) == 0
    assert re.search(r"^2 of 4 passages to encode", capsys.readouterr().out, re.MULTILINE)
    assert main(["plan", *settings]) == 0
    done = capsys.readouterr().out
    assert re.search(r"augment +4 +0 passages +0:00:00", done)
    assert re.search(r"fit +4 +0 passages +0:00:00", done)
    assert main(["plan", *settings, "--data.topk=2", "--measure=false"]) == 0
    assert re.search(r"augment +4 +4 passages +not yet known", capsys.readouterr().out)


def test_a_plan_knows_what_has_been_answered(settings, capsys):
    icl = [*settings, "--model.inference_method=icl"]
    assert main(["augment", *icl]) == 0
    assert main(["test", *icl, "--data.sample=3", "--trainer.logger=false"]) == 0
    capsys.readouterr()
    assert main(["plan", *icl, "--measure=false"]) == 0
    assert re.search(r"test +3 +1 questions", capsys.readouterr().out)


def test_a_plan_says_what_does_not_fit(settings, capsys, monkeypatch):
    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:
        patch.setattr("prag_lightning.commands.plan.free_memory", lambda device: 1_000_000)
        assert main(["plan", *settings]) == 2
        assert "checkpoints/prag-tiny takes 0.0 GB in float32, and 0.0 GB of memory are free" in capsys.readouterr().err
    monkeypatch.setattr("prag_lightning.training.encoder.Encoder.encode", no_memory)
    monkeypatch.setattr("prag_lightning.inference.answerer.generate_each", no_memory)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    assert main(["plan", *settings]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "memory does not suffice to encode one passage" in out
    assert "only 1 MB are free on disk" in out
    assert "16 at once, up to 20 tokens, which does not fit into memory" in out
    assert re.search(r"fit +0 +4 passages +not yet known", out)


def test_at_a_terminal_lines_are_edited_called_back_and_ended(settings, tmp_path):
    """A process of its own at a pseudo-terminal, with the keys that a person presses."""
    pid, terminal = pty.fork()
    if pid == 0:
        line = ["-m", "prag_lightning.cli.entry", "ask", *settings, "--model.inference_method=vanilla"]
        os.execvpe(sys.executable, [sys.executable, *line], {**os.environ, "TERM": "xterm", "NO_COLOR": "1"})
    shown, up, left = b"", b"\x1b[A", b"\x1b[D"
    for answered, keys in enumerate((b"Who was it\x7fs?\n", up + 4 * left + b"x\n", b"\x04")):
        parts = shown.split(b"vanilla: answer")
        while len(parts) <= answered or PROMPT.encode() not in parts[-1]:
            assert select.select([terminal], [], [], 60)[0], shown
            shown += os.read(terminal, 4096)
            parts = shown.split(b"vanilla: answer")
        time.sleep(0.2)  # the prompt is shown just before the terminal hands over every key
        os.write(terminal, keys)
    _, status = os.waitpid(pid, 0)
    with suppress(OSError):  # the other side has been closed
        while more := os.read(terminal, 4096):
            shown += more
    assert os.waitstatus_to_exitcode(status) == 0
    assert shown.endswith(PROMPT.encode() + b"\r\n")
