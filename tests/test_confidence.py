"""How sure a model is of its answers, the same in any company, and what it does not say for that."""

import json
import random
import subprocess
import sys
from math import inf, nan
from pathlib import Path

import pytest
import torch

from prag_lightning import load_pipeline
from prag_lightning.cli.entry import main
from prag_lightning.data.chat_text import text_ids
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError, PragError
from prag_lightning.inference.confidence import ClosedPrompt, answer_part, mean_log_probabilities
from prag_lightning.llm.generation import stream
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.merge import stack
from prag_lightning.pipeline.settings import ModelSettings
from test_demo import python_of
from tiny_llm import load_random_llm
from toy import EXPERIMENT, prag

ROOT = Path(__file__).parent.parent
QUESTION = "Which country does Helstead belong to?"
RNG = random.Random(0)
ROWS = [ClosedPrompt([RNG.randrange(5, 250) for _ in range(n)], n - k) for n, k in ((5, 2), (40, 9), (12, 1), (30, 29))]


def some_adapters(llm):
    generator = torch.Generator().manual_seed(1)
    return [
        {n: (a, 0.02 * torch.randn(b.shape, generator=generator)) for n, (a, b) in each.items()}
        for each in (random_adapter(llm.stack, 4, seed) for seed in range(len(ROWS)))
    ]


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2", "mistral, short window"])
def test_it_is_the_mean_of_each_row_alone(name, tmp_path, monkeypatch):
    llm = load_random_llm(name, tmp_path / "llm")
    adapters = some_adapters(llm)
    expected = []
    for row, adapter in zip(ROWS, adapters, strict=True):
        llm.stack.set(stack([adapter]), 16.0)
        logits = llm.model(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
        llm.stack.clear()
        expected.append(sum(float(logits[t - 1, row.ids[t]]) for t in range(row.start, len(row.ids))))
        expected[-1] /= len(row.ids) - row.start
    found = mean_log_probabilities(llm, ROWS, stack(adapters), 16.0)
    assert found == pytest.approx(expected, abs=1e-4)
    assert found != pytest.approx(mean_log_probabilities(llm, ROWS), abs=1e-2)
    monkeypatch.setattr("prag_lightning.training.loss.LOGITS_AT_ONCE", 1000)
    assert mean_log_probabilities(llm, ROWS, stack(adapters), 16.0) == pytest.approx(found, abs=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert mean_log_probabilities(llm, ROWS, stack(adapters), 16.0) == pytest.approx(found, abs=0.5)
    pieces = stream(llm, ROWS[0].ids, 20)
    next(pieces)
    with pytest.raises(PragError, match="still writing"):
        mean_log_probabilities(llm, ROWS)
    pieces.close()


@pytest.mark.parametrize(
    ("reply", "with_cot", "part"),
    [
        (" In Rome. It is old.", False, "In Rome"),
        ("Washington, D.C.\nQuestion: no", False, "Washington, D.C."),
        ("", False, ""),
        ("He ran. So the answer is yes. Why?", True, "He ran. So the answer is yes"),
        ("yes, the answer is yes", True, "yes, the answer is yes"),
    ],
)
def test_a_reply_counts_as_far_as_its_answer_goes(reply, with_cot, part):
    assert answer_part(reply, with_cot) == part


@pytest.mark.parametrize("boundary", ["token", "published"])
def test_an_answer_has_every_token_that_its_prompt_lacks(boundary, llm):
    templates = PromptTemplates.load(ROOT / "configs/prompts/default.yaml", boundary)
    prompt = templates.question_ids(llm.tokenizer, QUESTION)
    for answer in ("Nordelia", "", "東京 is"):
        closed = templates.question_ids(llm.tokenizer, QUESTION, answer=answer)
        row = ClosedPrompt.of(prompt, closed, llm.context)
        assert row.ids == closed
        assert len(row.ids) - row.start >= len(text_ids(llm.tokenizer, f"{answer}."))
    cut = ClosedPrompt.of(prompt, closed, len(prompt))
    assert (len(cut.ids), cut.start) == (len(prompt), len(prompt) - 1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("confidence")
    return [f"--data.augment_root={folder / 'aug'}", f"--model.offline_root={folder / 'adapters'}", "--data.topk=1"]


def test_passages_raise_it_in_weights_and_prompt(folders, monkeypatch):
    monkeypatch.chdir(ROOT)
    answers = {}
    for method in ("vanilla", "prag", "icl", "combine"):
        pipeline = load_pipeline("configs/demo.yaml", *folders, f"--model.inference_method={method}")
        answers[method] = pipeline.asker().ask(QUESTION)
        assert answers[method].log_probability < 0
        assert not answers[method].abstained
    vanilla = answers.pop("vanilla")
    assert {answer.answer for answer in answers.values()} == {"Nordelia"}
    assert all(answer.log_probability > vanilla.log_probability / 10 for answer in answers.values())
    unknown = pipeline.asker().ask("東京はどこですか？")
    assert not unknown.passages
    assert unknown.log_probability < answers["combine"].log_probability


def test_ask_says_that_it_does_not_know(folders, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = ["ask", "--config", "configs/demo.yaml", *folders, QUESTION]
    assert main([*settings, "--json"]) == 0
    sure = json.loads(capsys.readouterr().out)
    assert sure["abstained"] is False
    value = sure["log_probability"]
    for threshold, abstained in ((value + value / 10, False), (value - value / 10, True)):
        assert main([*settings, "--json", f"--model.abstain_below={threshold}"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["abstained"] is abstained
        assert {**answer, "encoded": 0, "seconds": 0, "abstained": False} == {**sure, "encoded": 0, "seconds": 0}
    assert main([*settings, "--model.abstain_below=0"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "I don't know."
    assert sure["answer"] in second
    assert main([*settings, "--model.abstain_below=0.5"]) == 2
    assert "model.abstain_below" in capsys.readouterr().err


@pytest.mark.parametrize("threshold", [0.1, nan, inf, -inf])
def test_a_threshold_is_a_log_probability(threshold):
    with pytest.raises(InputError, match="abstain_below"):
        ModelSettings("some", abstain_below=threshold)


def test_results_count_what_was_not_answered(config, capsys):
    results = Path("output") / EXPERIMENT
    icl = ["--model.inference_method=icl"]

    def contents(folder):
        return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".txt")}

    def rows(folder):
        return json.loads((results / folder / "total/predict.json").read_text(encoding="utf-8"))

    assert prag("test", config, *icl) == 0
    plain = contents(results)
    assert "abstain" not in "".join(content.decode() for content in plain.values())
    assert prag("test", config, *icl, "--model.abstain_below=-100") == 0
    sure = rows("icl_abstain_below=-100.0")
    assert [row["abstained"] for row in sure] == [False] * 3
    values = sorted(row["log_probability"] for row in sure)
    capsys.readouterr()
    threshold = (values[0] + values[1]) / 2
    with_threshold = [*icl, f"--model.abstain_below={threshold}"]
    assert prag("test", config, *with_threshold) == 0
    assert "abstained" in capsys.readouterr().out
    (folder,) = {path.name for path in results.iterdir() if path.is_dir()} - {"icl", "icl_abstain_below=-100.0"}
    unsure = rows(folder)
    assert sum(row["abstained"] for row in unsure) == 1
    assert [{**row, "abstained": False} for row in unsure] == sure
    text = (results / folder / "total/result.txt").read_text(encoding="utf-8")
    scores = dict(line.split("\t") for line in text.splitlines())
    assert scores["abstained"] == "1"
    assert float(scores["answered"]) == pytest.approx(2 / 3, abs=1e-4)
    answered = [row["f1"] for row in unsure if not row["abstained"]]
    assert float(scores["answered_f1"]) == pytest.approx(sum(answered) / 2, abs=1e-4)

    capsys.readouterr()
    for row, em in zip(unsure, (0, 1, 1), strict=True):
        row["em"] = em
    Path("predict.json").write_text(json.dumps(unsure), encoding="utf-8")
    subprocess.run([sys.executable, "-c", python_of("docs/confidence.md")], check=True)
    journal = (results / "icl/total/journal-0.jsonl").read_bytes()
    assert prag("test", config, *with_threshold) == 0
    assert (results / "icl/total/journal-0.jsonl").read_bytes() == journal
    assert prag("predict", config, *with_threshold) == 0
    answers = json.loads((results / folder / "total/answers.json").read_text(encoding="utf-8"))
    assert [row["abstained"] for row in answers] == [row["abstained"] for row in unsure]
    assert prag("test", config, *icl) == 0
    assert {path: content for path, content in contents(results).items() if "abstain" not in str(path)} == plain
    capsys.readouterr()
    assert main(["report", "output", "--out", "report"]) == 0
    assert "abstained" in capsys.readouterr().out
    page = "".join(path.read_text(encoding="utf-8") for path in Path("report").glob("*.md"))
    assert "abstained" in page
    assert "F1, answered" in page
