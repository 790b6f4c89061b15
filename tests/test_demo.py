"""The whole pipeline on the embedded model and a part of the demo's data; and the README's example."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from prag_lightning.augment import AugmentSettings, Failures, LLMAugmenter
from prag_lightning.cli.entry import main
from prag_lightning.costs import read_costs
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.journal import Journal
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.lora.adapters import read_adapter
from prag_lightning.lora.merge import merge_all

ROOT = Path(__file__).parent.parent
PROMPTS = PromptTemplates.load(ROOT / "configs/prompts/default.yaml")
QUESTIONS = 8


@pytest.fixture(scope="module")
def llm() -> LLM:
    return load_llm(str(ROOT / "checkpoints/prag-tiny"))


@pytest.fixture(scope="module")
def passages() -> list[str]:
    return [passage.text for passage, _ in zip(CorpusReader(ROOT / "data/demo/corpus.tsv"), range(12), strict=False)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, list[str]]:
    """The demo's first questions, augmented and encoded; its output folder and the command line's settings."""
    out = tmp_path_factory.mktemp("demo")
    settings = ["--config", str(ROOT / "configs/demo.yaml"), "--trainer.logger=false", f"--data.sample={QUESTIONS}"]
    settings += [f"--data.augment_root={out / 'aug'}", f"--model.offline_root={out / 'adapters'}"]
    settings += [f"--model.output_root={out / 'results'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(["augment", *settings]) == 0
        assert main(["fit", *settings]) == 0
    return out, settings


def test_two_processes_augment_a_share_each_and_write_the_same(demo, tmp_path):
    out, settings = demo
    command = [sys.executable, "-m", "prag_lightning.cli.entry", "augment", *settings]
    command += [f"--data.augment_root={tmp_path}", "--trainer.devices=2", "--trainer.accelerator=cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    file = "demo/prag-tiny/single.json"
    assert (tmp_path / file).read_bytes() == (out / "aug" / file).read_bytes()
    lines = [len(path.read_text().splitlines()) for path in (tmp_path / file).parent.glob("journal-*.jsonl")]
    assert sorted(lines) == [QUESTIONS // 2, QUESTIONS // 2]
    for folder, processes in ((tmp_path, 2), (out / "aug", 1)):
        costs = read_costs((folder / file).parent)
        assert [cost.processes for cost in costs] == [processes] * processes
        assert sum(cost.passages for cost in costs) == QUESTIONS
        assert all(cost.seconds > 0 for cost in costs)


def test_augmented_file_has_the_published_format(demo):
    out, _ = demo
    records = json.loads((out / "aug/demo/prag-tiny/single.json").read_text(encoding="utf-8"))
    assert [record["test_id"] for record in records] == list(range(QUESTIONS))
    for record in records:
        assert record["passages"] == [item["passage"] for item in record["augment"]]
        for pid, item in enumerate(record["augment"]):
            assert set(item) == {"pid", "passage", "prag-tiny_rewrite", "prag-tiny_qa", "id", "title"}
            assert item["pid"] == pid
            assert len(item["prag-tiny_qa"]) == 3
    assert sum(len(record["augment"]) for record in records) >= QUESTIONS - 1


def test_finished_stages_do_nothing_when_run_again(demo, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    out, settings = demo
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if "results" not in path.parts}
    assert main(["augment", *settings]) == 0
    assert main(["fit", *settings]) == 0
    assert files == {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if "results" not in path.parts}
    assert re.search(r"^0 of \d+ passages", capsys.readouterr().out, re.MULTILINE)


def test_adapters_answer_what_the_model_does_not_know(demo, monkeypatch):
    monkeypatch.chdir(ROOT)
    out, settings = demo
    right = {}
    for method in ("vanilla", "icl", "prag", "combine"):
        assert main(["test", *settings, f"--model.inference_method={method}"]) == 0
        (path,) = out.glob(f"results/**/{method}/single/predict.json")
        right[method] = sum(row["em"] for row in json.loads(path.read_text(encoding="utf-8")))
    assert right["vanilla"] <= 2
    assert right["prag"] > right["vanilla"]
    assert min(right["icl"], right["combine"]) > QUESTIONS / 2


def test_answers_on_a_trained_model_do_not_depend_on_the_batch_and_equal_pefts(demo, llm):
    out, _ = demo
    records = json.loads((out / "aug/demo/prag-tiny/single.json").read_text(encoding="utf-8"))
    (recipe,) = out.glob("adapters/prag-tiny/rank=*/demo/*/aug_model=prag-tiny")
    config = json.loads(next(recipe.rglob("adapter_config.json")).read_text(encoding="utf-8"))
    rank, alpha = config["r"], config["lora_alpha"]
    places = [
        [recipe / f"single/data_{r['test_id']}/passage_{p['pid']}" for p in r["augment"]]
        for r in records
        if r["augment"]
    ]
    prompts = [PROMPTS.question_ids(llm.tokenizer, r["question"]) for r in records if r["augment"]]
    adapters = [[read_adapter(place, llm.stack, rank, alpha) for place in row] for row in places]
    together = generate(llm, prompts, 12, adapters=merge_all(adapters), scaling=alpha / rank)
    alone = [
        generate(llm, [prompt], 12, adapters=merge_all([adapter]), scaling=alpha / rank)[0]
        for prompt, adapter in zip(prompts, adapters, strict=True)
    ]
    assert together == alone
    plain = AutoModelForCausalLM.from_pretrained(ROOT / "checkpoints/prag-tiny", dtype="float32")
    for n in range(2):
        model = PeftModel.from_pretrained(plain, str(places[n][0]), adapter_name="0")
        for i, place in enumerate(places[n][1:], 1):
            model.load_adapter(str(place), adapter_name=str(i))
        names = [str(i) for i in range(len(places[n]))]
        model.add_weighted_adapter(names, [1.0] * len(names), "merged", combination_type="cat")
        model.set_adapter("merged")
        ids = llm.tokenizer.pad({"input_ids": [prompts[n]]}, return_tensors="pt")
        output = model.generate(**ids, max_new_tokens=12, do_sample=False)
        assert llm.tokenizer.decode(output[0, len(prompts[n]) :], skip_special_tokens=True) == together[n]
        plain = model.unload()


def test_augmented_texts_do_not_depend_on_the_batch(llm, passages, tmp_path):
    texts = []
    for size in (1, 8):
        settings = AugmentSettings(augment_batch_size=size, augment_max_new_tokens=160)
        journal = Journal(tmp_path / str(size))
        augmenter = LLMAugmenter(llm, PROMPTS, settings, journal, Failures(tmp_path / "failed.jsonl"))
        texts.append(dict(augmenter.augment(passages[:8])))
    assert texts[0] == texts[1]
    assert sum(value is not None for value in texts[0].values()) >= 6


def python_of(document: str) -> str:
    """The Python blocks of a document, as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL))


def test_the_page_about_python_runs(tmp_path):
    for name in ("checkpoints", "configs", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    checks = """
assert [stage.stage for stage in stages] == ["augment", "fit", "test"]
assert scores["single/em"] > 0.5, scores
assert (answer.answer, answer.passages[0].title) == ("Nordelia", "Helstead")
assert len(adapters) == 4
assert page.is_file() and table.is_file()
assert reply == "Nordelia.", reply
"""
    command = [sys.executable, "-c", python_of("docs/python.md") + checks]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
