"""Warm-ups: their rows are never those of tests, their training is plain PEFT's, and what follows uses what it made."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from benchmarks import baselines
from prag_lightning.cli.entry import main
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.lightning.warmup.batches import ShuffledBatches
from prag_lightning.llm.loading import load_llm
from prag_lightning.lora.adapters import lora_config, random_adapter, read_adapter, write_adapter
from prag_lightning.warmup.questions import TestSet, WarmupSource, draw, question_hash, question_hashes
from toy import RECORDS, write_experiment

ROOT = Path(__file__).parent.parent
PROMPTS = ROOT / "configs/prompts/default.yaml"
ROWS = [{"question": f"What is b{i:03}?", "answer": f"{random.Random(i).randrange(1000):03}"} for i in range(60)]
"""Of equal length, so that a mean of means is the mean."""


@pytest.fixture
def config(tmp_path, model_folder, monkeypatch) -> Path:
    """A warm-up on 20 of 60 questions, the first ten of which testing asks; the working directory is its folder."""
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path, model_folder)


def write_config(folder: Path, model_folder: Path, rows: int = 20, questions: list[dict] = ROWS) -> Path:
    (folder / "own.json").write_text(json.dumps(questions), encoding="utf-8")
    own = {"dataset": "own", "data_path": "own.json"}
    config = {
        "trainer": {"accelerator": "cpu", "logger": False},
        "model": {
            "class_path": "prag_lightning.WarmupModule",
            "init_args": {"model_name": str(model_folder), "learning_rate": 0.01, "warmup_root": "warmup"},
        },
        "data": {
            "class_path": "prag_lightning.WarmupDataModule",
            "init_args": {
                "sources": [{**own, "rows": rows}],
                "test_sets": [{**own, "sample": 10}],
                "prompts": str(PROMPTS),
                "rows_root": "rows",
            },
        },
    }
    path = folder / "warmup.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


def prag(stage: str, config: Path, *overrides: str) -> int:
    return main([stage, "--config", str(config), *overrides])


def rows_of(folder: Path) -> list[dict]:
    return json.loads((folder / "rows/direct/own.json").read_text(encoding="utf-8"))


# Rows

TEXTS = st.lists(
    st.sampled_from(["Who is Ana?", "who is  the Ana", "What?", "Where is Oru?", "Is it?", "Oru"]), min_size=1
)


@settings(max_examples=40, deadline=None)
@given(texts=TEXTS, sample=st.integers(1, 6), seed=st.integers(0, 3), wanted=st.sampled_from([-1, 1, 2]))
def test_no_row_asks_what_testing_asks(tmp_path_factory, texts, sample, seed, wanted):
    path = tmp_path_factory.mktemp("q") / "own.json"
    path.write_text(json.dumps([{"question": text, "answer": "a"} for text in texts]), encoding="utf-8")
    source, tests = WarmupSource("own", str(path), rows=wanted), [TestSet("own", str(path), sample=sample)]
    asked = question_hashes(texts[:sample])
    free = question_hashes(texts[sample:]) - asked
    if len(free) < max(1, wanted):
        with pytest.raises(InputError, match="can be learnt from"):
            draw(source, tests, seed)
        return
    drawn = draw(source, tests, seed)
    hashes = [question_hash(question.question) for question in drawn.questions]
    assert set(hashes) == free
    assert len(set(hashes)) == len(hashes)
    assert min(question.test_id for question in drawn.questions) >= drawn.first_row == min(sample, len(texts))
    assert drawn.asked_in_tests == sum(question_hash(text) in asked for text in texts[sample:])


def test_rows_come_after_the_last_that_testing_can_use(tmp_path):
    rows = [
        {
            "_id": str(i),
            "question": f"Question {i}?",
            "answer": "a",
            "type": "late" if i in (7, 9) else "early",
            "supporting_facts": [["T", 1]],
            "context": [["T", ["One. ", "Two. "]], ["U", ["Three."]]],
        }
        for i in range(14)
    ]
    (tmp_path / "hotpot_dev_distractor_v1.json").write_text(json.dumps(rows), encoding="utf-8")
    tests = [TestSet("hotpotqa", str(tmp_path), sample=2)]
    drawn = draw(WarmupSource("hotpotqa", str(tmp_path), candidates=3), tests, seed=0)
    assert drawn.first_row == 10
    assert sorted(question.test_id for question in drawn.questions) == [10, 11, 12]
    assert drawn.questions[0].golden_sentences == ("Two.",)
    assert drawn.questions[0].golden_passages == ("One. Two.",)


def test_published_rows_are_drawn_from_real_data(real_data):
    popqa = str(real_data / "popqa")
    drawn = draw(WarmupSource("popqa", popqa, first_row=400, rows=50), [TestSet("popqa", popqa, sample=300)], seed=42)
    asked = question_hashes(question.question for question in TestSet("popqa", popqa, sample=300).questions())
    assert drawn.questions == draw(drawn.source, [TestSet("popqa", popqa, sample=300)], seed=42).questions
    assert all(question.test_id >= 400 for question in drawn.questions)
    assert not asked & question_hashes(question.question for question in drawn.questions)
    hotpotqa = str(real_data / "hotpotqa/hotpot_dev_distractor_53.json")
    drawn = draw(WarmupSource("hotpotqa", hotpotqa), [TestSet("hotpotqa", hotpotqa, sample=10)], seed=42)
    tested = {question.test_id for question in TestSet("hotpotqa", hotpotqa, sample=10).questions()}
    assert all(question.golden_sentences and question.test_id > max(tested) for question in drawn.questions)


def test_warmup_data_is_written_once_and_the_same(config, tmp_path, capsys):
    assert prag("warmup-data", config) == 0
    assert "20 rows from row 10 on, written to" in capsys.readouterr().out
    rows = rows_of(tmp_path)
    assert len(rows) == 20
    assert all(ROWS[row["row"]]["question"] == row["question"] and row["row"] >= 10 for row in rows)
    written = (tmp_path / "rows/direct/own.json").stat().st_mtime_ns
    assert prag("warmup-data", config) == 0
    assert (tmp_path / "rows/direct/own.json").stat().st_mtime_ns == written


def test_rows_that_testing_asks_fail_loudly(config, tmp_path, capsys):
    assert prag("warmup-data", config) == 0
    rows = rows_of(tmp_path)
    rows[3]["question"] = ROWS[5]["question"].upper()
    (tmp_path / "rows/direct/own.json").write_text(json.dumps(rows), encoding="utf-8")
    assert prag("fit", config) == 2
    assert "1 questions that testing asks, such as 'What is b005?' (rows/direct/own.json)" in capsys.readouterr().err
    assert not (tmp_path / "warmup").exists()


# Training


def plain_peft(model_folder: Path, folder: Path, rows: list[dict], **how: int) -> tuple[dict, dict]:
    """What a plain PEFT loop makes of rows, and what it starts from."""
    llm = load_llm(str(model_folder))
    tokenizer = llm.tokenizer
    prompts = PromptTemplates.load(PROMPTS)
    examples = [
        ([*prompts.question_ids(tokenizer, row["question"], answer=row["answer"][0]), tokenizer.eos_token_id], 1)
        for row in rows
    ]
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    config = lora_config(llm.name, 2, 32, llm.stack.targets)
    write_adapter(folder / "start", random_adapter(llm.stack, 2, seed=0), config)
    start = load_tensors(folder / "start")
    return baselines.train(model, folder / "start", examples, learning_rate=0.01, **how), start


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def assert_equal(trained: dict, wanted: dict, start: dict) -> None:
    assert trained.keys() == wanted.keys()
    for name, tensor in wanted.items():
        error = (trained[name] - tensor).norm() / (tensor - start[name]).norm()
        assert error < 1e-4, (name, error)


ADAPTER = Path("warmup/lora_base_weight/random/direct")


@pytest.mark.parametrize(
    "how",
    [
        ["--data.per_device_train_batch_size=20", "--trainer.max_epochs=20"],
        ["--data.per_device_train_batch_size=5", "--trainer.accumulate_grad_batches=4", "--trainer.max_epochs=20"],
    ],
)
def test_twenty_steps_equal_plain_peft(config, model_folder, tmp_path, how):
    assert prag("warmup-data", config) == 0
    assert prag("fit", config, *how) == 0
    wanted, start = plain_peft(model_folder, tmp_path, rows_of(tmp_path), batch_size=20, epochs=20)
    assert_equal(load_tensors(tmp_path / ADAPTER), wanted, start)
    assert json.loads((tmp_path / ADAPTER / "training_config.json").read_text())["steps"] == 20


def test_twenty_single_rows_equal_plain_peft_and_load_with_peft(config, model_folder, tmp_path):
    assert prag("warmup-data", config) == 0
    assert prag("fit", config) == 0
    rows, trainer = rows_of(tmp_path), SimpleNamespace(world_size=1, global_rank=0, current_epoch=0)
    order = [row for batch in ShuffledBatches(20, 1, 42, trainer) for row in batch]
    assert sorted(order) == list(range(20)) != order
    wanted, start = plain_peft(model_folder, tmp_path, [rows[i] for i in order])
    assert_equal(load_tensors(tmp_path / ADAPTER), wanted, start)
    plain = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7, 8]])
    before = plain(ids).logits
    assert not torch.allclose(PeftModel.from_pretrained(plain, str(tmp_path / ADAPTER))(ids).logits, before, atol=1e-2)


def test_two_devices_average_their_gradients(config, model_folder, tmp_path):
    assert prag("warmup-data", config) == 0
    command = [sys.executable, "-m", "prag_lightning.cli.entry", "fit", "--config", str(config), "--trainer.devices=2"]
    command += ["--data.per_device_train_batch_size=10", "--trainer.max_epochs=5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    wanted, start = plain_peft(model_folder, tmp_path, rows_of(tmp_path), batch_size=20, epochs=5)
    assert_equal(load_tensors(tmp_path / ADAPTER), wanted, start)


def test_a_killed_training_goes_on_to_the_same_weights(model_folder, tmp_path, monkeypatch, capsys):
    questions = [{"question": f"What is b{i}?" + " so" * (i % 7), "answer": str(i)} for i in range(400)]
    overrides = ["--model.resume_every_n_steps=7", "--trainer.max_epochs=2", "--data.per_device_train_batch_size=2"]
    adapters = []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        config = write_config(folder, model_folder, 300, questions)
        assert prag("warmup-data", config) == 0
        if name == "killed":
            line = [sys.executable, "-m", "prag_lightning.cli.entry", "fit", "--config", str(config), *overrides]
            process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not (ADAPTER.with_name("direct.unfinished") / "last.ckpt").exists() and process.poll() is None:
                time.sleep(0.02)
            process.kill()
            assert process.wait() != 0
            assert not ADAPTER.exists()
        capsys.readouterr()
        assert prag("fit", config, *overrides) == 0
        assert ("300/300" in capsys.readouterr().err) == (name == "whole")
        adapters.append({path.name: path.read_bytes() for path in ADAPTER.iterdir()})
    assert adapters[0] == adapters[1]
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_finished_warmup_is_left_alone_and_other_settings_are_refused(config, tmp_path, capsys):
    assert prag("warmup-data", config) == 0
    assert prag("fit", config) == 0
    written = (tmp_path / ADAPTER / "adapter_model.safetensors").stat().st_mtime_ns
    assert prag("fit", config) == 0
    assert "trained already" in capsys.readouterr().out
    assert prag("fit", config, "--model.learning_rate=0.02") == 2
    assert "learning_rate is 0.01, not 0.02" in capsys.readouterr().err
    assert (tmp_path / ADAPTER / "adapter_model.safetensors").stat().st_mtime_ns == written


def test_losses_are_logged_and_lora_stays_float32_in_bfloat16(config, tmp_path):
    assert prag("warmup-data", config) == 0
    options = ["--trainer.precision=bf16-true", "--data.validation_rows=4", "--trainer.logger=true"]
    assert prag("fit", config, *options, "--model.objective=answer", "--trainer.max_epochs=2") == 0
    (log,) = tmp_path.glob("logs/tensorboard/warmup/fit-warmup-*/events*")
    events = EventAccumulator(str(log.parent)).Reload()
    losses = {tag: [event.value for event in events.Scalars(tag)] for tag in ("train/loss", "val/loss")}
    assert len(losses["train/loss"]) == 32
    assert len(losses["val/loss"]) == 2
    assert losses["val/loss"][1] < losses["val/loss"][0]
    assert all(tensor.dtype == torch.float32 for tensor in load_tensors(tmp_path / ADAPTER).values())
    assert json.loads((tmp_path / ADAPTER / "training_config.json").read_text())["rows"] == {"own": 16}


# What follows


@pytest.fixture
def experiment(config, model_folder, tmp_path) -> Path:
    """A trained warm-up, and the configuration of an experiment that can start from it."""
    assert prag("warmup-data", config) == 0
    assert prag("fit", config) == 0
    (tmp_path / "aug/toy/writer").mkdir(parents=True)
    (tmp_path / "aug/toy/writer/total.json").write_text(json.dumps(RECORDS), encoding="utf-8")
    model = {"model_name": str(model_folder), "learning_rate": 0.01, "offline_root": "offline", "warmup_root": "warmup"}
    data = {"dataset": "toy", "augment_model": "writer", "augment_root": "aug", "prompts": str(PROMPTS)}
    trainer = {"accelerator": "cpu", "logger": False}
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump({"trainer": trainer, "model": {**model, "output_root": "out"}, "data": data}))
    return path


RECIPE = Path("offline/random/rank=2_alpha=32/toy")


def test_adapters_grow_from_the_trained_base_weight_in_a_place_of_their_own(experiment, model_folder, tmp_path):
    assert prag("fit", experiment) == 0
    assert prag("fit", experiment, "--model.base_weight=warmup") == 0
    assert prag("fit", experiment, f"--model.base_weight={ADAPTER}") == 0
    folders = sorted(path.name for path in (tmp_path / RECIPE).iterdir())
    assert folders[0] == "lr=0.01_epoch=1_direct"
    assert len(folders) == 2
    assert folders[1].startswith("lr=0.01_epoch=1_direct_base=")
    files = [sorted((tmp_path / RECIPE / folder).rglob("adapters/*/*/*.safetensors")) for folder in folders]
    assert len(files[0]) == len(files[1]) == 5
    hashes = set()
    for file in files[1]:
        with safe_open(file, "pt") as opened:
            hashes.add(json.loads(opened.metadata()["prag_lightning"])["base_weight"])
    assert {digest[:8] for digest in hashes} == {folders[1].partition("_base=")[2]}
    llm = load_llm(str(model_folder))
    start = read_adapter(tmp_path / ADAPTER, llm.stack, 2, 32)
    warm, cold = (read_adapter(paths[0].parent, llm.stack, 2, 32) for paths in reversed(files))
    name = next(iter(start))
    assert (warm[name][0] - start[name][0]).norm() < (cold[name][0] - start[name][0]).norm()
    for method in ("prag", "combine"):
        assert prag("test", experiment, "--model.base_weight=warmup", f"--model.inference_method={method}") == 0
    assert len(list((tmp_path / "out").rglob("*_base=*/**/result.txt"))) == 2
    assert prag("check", experiment, "--model.base_weight=warmup") == 0


@pytest.mark.parametrize("adapter_format", ["float32", "int4"])
def test_adapters_of_two_bases_are_not_merged(experiment, tmp_path, capsys, adapter_format):
    options = [f"--model.adapter_format={adapter_format}"]
    assert prag("fit", experiment, *options) == 0
    assert prag("fit", experiment, *options, "--model.base_weight=warmup") == 0
    (warm,) = (path for path in (tmp_path / RECIPE).iterdir() if "_base=" in path.name)
    strange = next((tmp_path / RECIPE / "lr=0.01_epoch=1_direct").rglob("adapters*/*/*/adapter_*.safetensors"))
    mine = next(warm.rglob("adapters*/*/*/adapter_*.safetensors"))
    mine.write_bytes(strange.read_bytes())
    assert prag("test", experiment, *options, "--model.base_weight=warmup") == 2
    assert "grew from base_weight" in capsys.readouterr().err
    assert prag("check", experiment, *options, "--model.base_weight=warmup") == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"use_rslora": True}, "use_rslora is True"),
        ({"use_dora": True}, "use_dora is True"),
        ({"alpha_pattern": {"down_proj": 4}}, "alpha_pattern is {'down_proj': 4}"),
        ({"rank_pattern": {"down_proj": 4}}, "rank_pattern is {'down_proj': 4}"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"layers_to_transform": [0]}, "layers_to_transform is [0]"),
        ({"target_modules": ["q_proj"]}, "the adapter is of another model"),
        ({"r": 4}, "the adapter has rank 4 and alpha 32, not 2 and 32"),
        ({"init_lora_weights": "gaussian"}, ""),
    ],
)
def test_adapters_of_ones_own_are_plain_or_refused_and_left_alone(
    model_folder, tmp_path, monkeypatch, capsys, options, reason
):
    monkeypatch.chdir(tmp_path)
    experiment = write_experiment(tmp_path, model_folder)
    targets = ["down_proj", "gate_proj", "up_proj"]
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    config = LoraConfig(**{"r": 2, "lora_alpha": 32, "target_modules": targets, "task_type": "CAUSAL_LM"} | options)
    get_peft_model(model, config).save_pretrained(tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    assert prag("fit", experiment, "--model.base_weight=mine") == (2 if reason else 0)
    error = capsys.readouterr().err
    assert reason in error
    assert "elete" not in error
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}


def test_where_an_adapter_of_ones_own_stands_no_warmup_is_trained(config, tmp_path, capsys):
    assert prag("warmup-data", config) == 0
    assert prag("fit", config) == 0
    (tmp_path / ADAPTER / "training_config.json").unlink()
    assert prag("fit", config) == 2
    assert "Set model.warmup_root to another folder, or move that directory away" in capsys.readouterr().err


def test_testing_what_a_warmup_has_learnt_is_refused(experiment, tmp_path, capsys):
    records = [{**RECORDS[0], "question": rows_of(tmp_path)[0]["question"]}]
    (tmp_path / "aug/toy/writer/total.json").write_text(json.dumps(records), encoding="utf-8")
    assert prag("fit", experiment, "--model.base_weight=warmup") == 0
    assert prag("test", experiment, "--model.base_weight=warmup") == 2
    assert "the warm-up has learnt from 1 questions that testing asks" in capsys.readouterr().err
    assert prag("test", experiment, "--model.base_weight=warmup", "--model.inference_method=vanilla") == 0
    (tmp_path / ADAPTER / "questions.sha256").unlink()
    assert prag("test", experiment, "--model.base_weight=warmup") == 0
    assert "does not say which questions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stage", "file", "overrides", "message"),
    [
        ("test", "warmup.yaml", [], "a warm-up has no stage 'test'"),
        ("warmup-data", "toy.yaml", [], "the configuration describes no warm-up"),
        ("fit", "warmup.yaml", ["--data.rows_root=none"], "none/direct/own.json"),
        ("fit", "warmup.yaml", ["--model.lora_rank=0"], "lora_rank is 0"),
        (
            "warmup-data",
            "warmup.yaml",
            ["--data.test_sets=[{dataset: own, data_path: own.json, sample: -1}]"],
            "0 questions",
        ),
        ("fit", "warmup.yaml", ["--data.validation_rows=20"], "20 rows, and 20 are for validation"),
        ("fit", "warmup.yaml", ["--model.warmup_root=torn"], "the unfinished warm-up cannot be read"),
        ("fit", "toy.yaml", ["--model.base_weight=nowhere"], "no base_weight: No such file"),
        ("fit", "toy.yaml", ["--model.base_weight=warmup", "--model.lora_rank=4"], "rank 2 and alpha 32, not 4"),
    ],
)
def test_mistakes_are_named(experiment, tmp_path, capsys, stage, file, overrides, message):
    torn = tmp_path / "torn/lora_base_weight/random/direct.unfinished"
    torn.mkdir(parents=True)
    (torn / "last.ckpt").write_bytes(b"PK torn")
    assert prag(stage, tmp_path / file, *overrides) == 2
    error = capsys.readouterr().err
    assert error.startswith("prag: error: ")
    assert message in error


# Chains of thought, written by the embedded model


def test_chains_that_arrive_are_kept_and_paid_for_once(tmp_path, monkeypatch):
    for folder in ("configs", "checkpoints", "data"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    questions = json.loads((ROOT / "data/demo/warmup/bridge.json").read_text(encoding="utf-8"))[:16]
    wrong = [{**question, "answer": "no such thing"} if i % 2 else question for i, question in enumerate(questions)]
    (tmp_path / "own.json").write_text(json.dumps(wrong), encoding="utf-8")
    options = ["--data.with_cot=true", "--data.rows_root=rows", "--model.warmup_root=warmup", "--trainer.logger=false"]
    options += ["--data.sources=[{dataset: demo, data_path: own.json, data_type: own}]", "--data.validation_rows=0"]
    config = ROOT / "configs/warmup.yaml"
    assert prag("warmup-data", config, *options) == 0
    path = tmp_path / "rows/cot/prag-tiny/demo_own.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert 4 <= len(rows) <= 8
    for row in rows:
        assert row["answer"] == [questions[row["row"]]["answer"]]
        assert row["chain_of_thought"].endswith(f"the answer is {row['answer'][0]}")
        assert len(row["chain_of_thought"].split()) > len(row["answer"][0].split()) + 5
    path.unlink()
    monkeypatch.setattr("prag_lightning.warmup.chains.generate", lambda *_: pytest.fail("a reply was paid for twice"))
    assert prag("warmup-data", config, *options) == 0
    assert json.loads(path.read_text(encoding="utf-8")) == rows
    assert prag("fit", config, *options) == 0
    assert (tmp_path / "warmup/lora_base_weight/prag-tiny/cot/adapter_model.safetensors").is_file()
