"""The stages from the command line, on a Llama with random weights: files, resumption, mistakes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from transformers import AutoModelForCausalLM

from chat_server import ChatServer
from prag_lightning.cli.entry import main
from prag_lightning.costs import read_costs
from toy import EXPERIMENT, RECORDS, ROOT, edit, prag

METHODS = ("vanilla", "icl", "prag", "combine")


def adapter_files(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("adapter_model.safetensors") if not path.is_symlink()}


def test_fit_writes_one_peft_adapter_a_passage_and_test_answers_with_them(config, model_folder, tmp_path):
    assert prag("fit", config) == 0
    recipe = tmp_path / "offline" / EXPERIMENT
    assert (tmp_path / "offline/random/rank=2_alpha=32/base_weight/adapter_config.json").is_file()
    places = sorted(path.relative_to(recipe).as_posix() for path in recipe.glob("total/data_*/passage_*"))
    assert places == [f"total/data_{d}/passage_{p}" for d, p in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0))]
    assert len(list((recipe / "adapters").glob("*/*"))) == 5
    assert (recipe / "total/data_0/passage_1").resolve() == (recipe / "total/data_1/passage_0").resolve()
    plain = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7]])
    before = plain(ids).logits
    assert not torch.allclose(
        PeftModel.from_pretrained(plain, str(recipe / "total/data_2/passage_0"))(ids).logits, before
    )

    written = adapter_files(tmp_path / "offline")
    texts = {}
    for method in METHODS:
        assert prag("test", config, "--model.inference_method", method) == 0
        results = tmp_path / "output" / EXPERIMENT / method / "total"
        rows = json.loads((results / "predict.json").read_text(encoding="utf-8"))
        assert [row["test_id"] for row in rows] == [0, 1, 2]
        assert set(rows[0]) == {"test_id", "question", "answer", "text", "eval_predict", "em", "f1", "prec", "recall"}
        scores = dict(line.split("\t") for line in (results / "result.txt").read_text(encoding="utf-8").splitlines())
        assert float(scores["em"]) == pytest.approx(sum(row["em"] for row in rows) / 3, abs=1e-5)
        settings = json.loads((results / "config.json").read_text(encoding="utf-8"))
        assert settings["model"]["inference_method"] == method
        texts[method] = [row["text"] for row in rows]
    assert len({tuple(t) for t in texts.values()}) == 4
    assert adapter_files(tmp_path / "offline") == written
    events = list((tmp_path / "logs/tensorboard/toy").glob("*/events*"))
    assert len(events) == 1 + len(METHODS)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_tensorboard_shows_training_scores_and_predictions(config, tmp_path):
    root = f"--trainer.default_root_dir={tmp_path / 'runs'}"
    assert prag("fit", config, "--model.group_tokens", "200", root) == 0
    assert prag("test", config, "--data.per_device_eval_batch_size", "2", root) == 0
    runs = {}
    for folder in (tmp_path / "runs/tensorboard/toy").iterdir():
        runs[folder.name.split("-2")[0]] = EventAccumulator(str(folder)).Reload()
    assert runs.keys() == {"fit", "test-prag"}
    fit, test = runs["fit"], runs["test-prag"]

    def curve(run: EventAccumulator, tag: str) -> list[float]:
        return [event.value for event in run.Scalars(tag)]

    by_step = fit.Scalars("recipe/loss_by_step")
    assert [event.step for event in by_step] == [0, 1, 2, 3, 4]
    first, last = curve(fit, "encode/loss_first_step"), curve(fit, "encode/loss_last_step")
    assert len(first) == len(last) > 1
    assert min(first) <= by_step[0].value <= max(first)
    assert min(last) <= by_step[-1].value <= max(last)
    passages, tokens = curve(fit, "encode/passages_per_second"), curve(fit, "encode/tokens_per_second")
    assert all(0 < p < t / 10 for p, t in zip(passages, tokens, strict=True))
    recipe = tmp_path / "offline" / EXPERIMENT
    updates = [adapter_update(load_file(path), 16) for path in recipe.glob("adapters/*/*/adapter_model.safetensors")]
    norms = fit.Histograms("adapters/update_norm")[0].histogram_value
    assert (norms.num, norms.min, norms.max) == pytest.approx((5, min(updates), max(updates)), rel=1e-3)
    assert fit.Histograms("adapters/distance_from_base_weight")[0].histogram_value.num == 5
    losses = fit.Histograms("adapters/last_loss")[0].histogram_value
    assert losses.sum / losses.num == pytest.approx(by_step[-1].value, rel=1e-3)

    for score in ("em", "f1", "prec", "recall", "presence"):
        running = curve(test, f"total/so_far/{score}")
        assert len(running) == 2
        assert running[-1] == pytest.approx(curve(test, f"total/{score}")[0])
    assert curve(test, "hparams/f1") == curve(test, "total/f1")
    assert curve(test, "hparams/em") == curve(test, "total/em")
    plugins = test.PluginTagToContent("hparams")
    settings = HParamsPluginData.FromString(plugins["_hparams_/session_start_info"]).session_start_info.hparams
    assert settings["inference_method"].string_value == "prag"
    assert settings["lora_rank"].number_value == 2
    (table,) = test.Tensors("predictions/total/text_summary")
    text = table.tensor_proto.string_val[0].decode()
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == [f"| Question {i}?" for i in range(3)]
    assert "| a0 / b |" in text
    assert "blue bird · grey stone" in text


def adapter_update(tensors: dict[str, torch.Tensor], scaling: float) -> float:
    """The norm of all that an adapter adds, multiplied out."""
    names = [name.removesuffix(".lora_A.weight") for name in tensors if "lora_A" in name]
    parts = [tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"] for name in names]
    return scaling * float(torch.cat([part.flatten() for part in parts]).norm())


def test_report_gathers_results(config, capsys):
    assert prag("test", config, "--model.inference_method", "icl") == 0
    assert prag("test", config, "--model.inference_method", "vanilla") == 0
    capsys.readouterr()
    assert prag("report", config) == 0
    out = capsys.readouterr().out
    assert out.index("vanilla") < out.index("icl")


def test_second_fit_encodes_only_what_is_missing_and_gives_the_same(config, tmp_path, capsys):
    assert prag("fit", config) == 0
    first = {path: path.read_bytes() for path in adapter_files(tmp_path / "offline")}
    times = adapter_files(tmp_path / "offline")
    capsys.readouterr()
    assert prag("fit", config) == 0
    assert "0 of 5 passages to encode" in capsys.readouterr().out
    assert adapter_files(tmp_path / "offline") == times
    removed = sorted((tmp_path / "offline" / EXPERIMENT / "adapters").glob("*/*"))[0]
    shutil.rmtree(removed)
    assert prag("fit", config) == 0
    assert "1 of 5 passages to encode" in capsys.readouterr().out
    costs = read_costs(tmp_path / "offline" / EXPERIMENT)
    assert [(cost.stage, cost.passages, cost.device[:3]) for cost in costs] == [("fit", 5, "cpu"), ("fit", 1, "cpu")]
    again = {path: path.read_bytes() for path in adapter_files(tmp_path / "offline")}
    assert again.keys() == first.keys()
    shutil.rmtree(tmp_path / "offline")
    assert prag("fit", config) == 0
    assert {path: path.read_bytes() for path in adapter_files(tmp_path / "offline")} == first


def test_chain_of_thought_has_adapters_of_its_own(config, tmp_path):
    assert prag("fit", config, "--data.with_cot", "true") == 0
    assert prag("test", config, "--data.with_cot", "true", "--data.sample", "1") == 0
    experiment = Path(str(EXPERIMENT).replace("_direct", "_cot"))
    assert (tmp_path / "output" / experiment / "prag/total/result.txt").is_file()
    assert prag("test", config) == 2


def test_retrieval_at_test_time_finds_adapters_by_their_passages(config, tmp_path):
    assert prag("fit", config) == 0
    assert prag("test", config, "--data.retrieve_at_test", "true", "--data.topk", "1") == 0


def test_predict_needs_no_gold_answers(config, tmp_path, capsys):
    path = tmp_path / "aug/toy/writer/total.json"
    path.write_text(json.dumps([{**row, "answer": []} for row in RECORDS]), encoding="utf-8")
    assert prag("fit", config) == 0
    assert prag("test", config) == 2
    assert "prag predict" in capsys.readouterr().err
    assert prag("predict", config) == 0
    rows = json.loads((tmp_path / "output" / EXPERIMENT / "prag/total/predict.json").read_text(encoding="utf-8"))
    assert [sorted(row) for row in rows] == [["answer", "question", "test_id", "text"]] * 3


def test_other_passages_adapters_are_a_control(config, tmp_path):
    assert prag("fit", config) == 0
    assert prag("test", config, "--model.adapters_from", "other") == 0
    assert (tmp_path / "output" / EXPERIMENT / "prag-other/total/result.txt").is_file()


@pytest.mark.parametrize("adapter_format", ["bfloat16", "int4"])
def test_smaller_formats_stand_apart_and_are_exported_to_peft(config, tmp_path, capsys, adapter_format):
    assert prag("fit", config) == 0
    exact = load_file(tmp_path / "offline" / EXPERIMENT / "total/data_2/passage_0/adapter_model.safetensors")
    setting = ("--model.adapter_format", adapter_format)
    assert prag("test", config, *setting) == 2
    assert "prag fit" in capsys.readouterr().err
    assert prag("fit", config, *setting) == 0
    assert prag("test", config, *setting) == 0
    recipe = tmp_path / "offline" / EXPERIMENT
    whole, small = (
        sum(path.stat().st_size for path in (recipe / name).rglob("*.safetensors"))
        for name in ("adapters", f"adapters-{adapter_format}")
    )
    assert small < whole * 0.75
    assert prag("export", config, "--out", "merged", "--test_ids", "[2]", *setting) == 0
    for name, tensor in load_file("merged/total/2/adapter_model.safetensors").items():
        if "lora_B" in name:
            assert (tensor.float() - exact[name]).norm() < 0.15 * exact[name].norm()


@pytest.mark.parametrize("merge", ["mean", "score", "ties", "orthogonal"])
def test_merges_have_results_of_their_own_and_score_needs_a_corpus(config, tmp_path, capsys, merge):
    assert prag("fit", config) == 0
    assert prag("test", config, "--model.merge", merge) == 0
    assert (tmp_path / "output" / EXPERIMENT / f"prag-{merge}/total/result.txt").is_file()
    without = prag("test", config, "--model.merge", merge, "--data.corpus", "null", "--model.max_new_tokens", "5")
    assert without == (2 if merge == "score" else 0)
    assert ("data.corpus" in capsys.readouterr().err) == (merge == "score")


def test_export_writes_what_prag_adds_as_one_peft_adapter(config, model_folder, tmp_path, capsys):
    assert prag("export", config, "--out", "merged") == 2
    assert "prag fit" in capsys.readouterr().err
    assert prag("fit", config) == 0
    assert prag("export", config, "--out", "merged", "--test_ids", "[0, 2]") == 0
    assert [str(path) for path in sorted(Path("merged").glob("*/*"))] == ["merged/total/0", "merged/total/2"]
    plain = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7]])
    before = plain(ids).logits
    merged = PeftModel.from_pretrained(plain, "merged/total/0")(ids).logits
    recipe = tmp_path / "offline" / EXPERIMENT
    assert not torch.allclose(merged, before)
    plain = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    peft_model = PeftModel.from_pretrained(plain, str(recipe / "total/data_0/passage_0"), adapter_name="0")
    for pid in ("1", "2"):
        peft_model.load_adapter(str(recipe / f"total/data_0/passage_{pid}"), adapter_name=pid)
    peft_model.add_weighted_adapter(["0", "1", "2"], [1.0] * 3, "all", combination_type="cat")
    peft_model.set_adapter("all")
    torch.testing.assert_close(peft_model(ids).logits, merged, atol=1e-5, rtol=1e-4)
    assert prag("export", config, "--out", "filled", "--test_ids", "[0]", "--rank", "8") == 0
    plain = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    filled = PeftModel.from_pretrained(plain, "filled/total/0")
    assert filled.peft_config["default"].r == 8
    torch.testing.assert_close(filled(ids).logits, merged, atol=1e-5, rtol=1e-4)
    assert prag("export", config, "--out", "small", "--rank", "4") == 2
    assert "has rank 6" in capsys.readouterr().err
    assert prag("export", config, "--out", "merged", "--test_ids", "[7]") == 2
    assert "no question 7" in capsys.readouterr().err


def test_published_augmented_file_is_encoded_and_answered(real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "aug/popqa/llama3.2-1b-instruct"
    folder.mkdir(parents=True)
    shutil.copy(real_data / "augmented/popqa_llama3.2-1b-instruct_total.json", folder / "total.json")
    arguments = ["--config", str(ROOT / "configs/paper/llama3.2-1b-instruct_popqa.yaml"), "--trainer.accelerator=cpu"]
    arguments += [f"--model.model_name={real_data / 'model'}", "--data.augment_model=llama3.2-1b-instruct"]
    arguments += ["--data.augment_root=aug", f"--data.prompts={ROOT / 'configs/prompts/default.yaml'}"]
    arguments += ["--model.block_size=400"]
    assert main(["fit", *arguments]) == 0
    arguments += ["--model.inference_method=combine", "--model.max_new_tokens=4"]
    assert main(["test", *arguments]) == 1
    assert "leaves no room for 4 more in the model's context of 512" in capsys.readouterr().err
    assert main(["test", *arguments, "--data.topk=1"]) == 0
    place = "rank=2_alpha=32/popqa/lr=0.0003_epoch=2_direct/aug_model=llama3.2-1b-instruct/combine/total/predict.json"
    # A folder named "model" says nothing of what is in it, so a hash of its place stands behind the name.
    assert list(tmp_path.glob(f"logs/output/model-*/{place}"))


def test_two_processes_share_the_work_and_give_the_same(config, tmp_path):
    def run(stage: str, *overrides: str) -> None:
        command = [sys.executable, "-m", "prag_lightning.cli.entry", stage, "--config", str(config), *overrides]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    def results() -> list[dict]:
        return json.loads((tmp_path / "output" / EXPERIMENT / "prag/total/predict.json").read_text(encoding="utf-8"))

    two = ("--trainer.devices=2", "--data.per_device_eval_batch_size=1", "--model.group_tokens=400")
    run("fit", *two)
    shared = {path: path.read_bytes() for path in adapter_files(tmp_path / "offline")}
    run("test", *two)
    answers = results()
    shutil.rmtree(tmp_path / "offline")
    shutil.rmtree(tmp_path / "output")
    run("fit", "--model.group_tokens=400")
    assert {path: path.read_bytes() for path in adapter_files(tmp_path / "offline")} == shared
    run("test", "--data.per_device_eval_batch_size=1")
    assert results() == answers
    assert [row["test_id"] for row in answers] == [0, 1, 2]


@pytest.mark.parametrize(
    ("stage", "overrides", "message"),
    [
        ("augment", ["--data.dataset", "unknown"], "unknown"),
        ("fit", ["--data.dataset", "../x"], "path"),
        ("test", ["--model.inference_method", "magic"], "magic"),
        ("fit", ["--model.model_name", "./no/such/model"], "no/such/model"),
        ("fit", ["--model.model_name", "aug/nothing"], "aug/nothing"),
        ("fit", ["--data.data_type", "bridge"], "bridge"),
        ("fit", ["--data.sample", "0"], "sample"),
        ("fit", ["--data.topk", "0"], "topk"),
        ("fit", ["--data.topk", "three"], "topk"),
        ("fit", ["--model.lora_rank", "0"], "lora_rank"),
        ("fit", ["--model.no_such_setting", "1"], "no_such_setting"),
        ("fit", ["--data.augment_model", "nobody"], "prag augment"),
        ("fit", ["--data.prompts", "absent.yaml"], "absent.yaml"),
        ("fit", ["--config", "absent.yaml"], "absent.yaml"),
        ("fit", ["--model.target_modules", "[nonsense]"], "nonsense"),
        ("fit", ["--model.block_size", "1"], "block_size"),
        ("test", [], "base_weight is missing"),
        ("report", [], "no results"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(config, capsys, stage, overrides, message):
    try:
        code = prag(stage, config, *overrides)
    except SystemExit as error:
        code = error.code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if line.startswith("prag: error:")]
    assert code == 2, err
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("content", ["", "id\ttext\ttitle\n", "id\ttext\ttitle\n1\t\tempty\n"])
def test_augmenting_from_an_empty_corpus_is_a_mistake(config, capsys, tmp_path, content):
    (tmp_path / "corpus.tsv").write_text(content, encoding="utf-8")
    (tmp_path / "questions.json").write_text('[{"question": "Q", "answer": "A"}]', encoding="utf-8")
    assert prag("augment", config, "--data.dataset=new", "--data.data_path=questions.json") == 2
    assert "corpus.tsv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda records: records[1].pop("question"), "record 1"),
        (lambda records: records[0]["augment"][1].pop("writer_qa"), "writer_qa"),
        (lambda records: records[2]["augment"][0]["writer_qa"][0].pop("answer"), "writer_qa[0]"),
    ],
)
def test_malformed_records_stop_fit_with_their_place(config, capsys, change, message):
    edit(config, change)
    assert prag("fit", config) == 2
    assert message in capsys.readouterr().err


def test_missing_and_damaged_adapters_are_named(config, capsys, tmp_path):
    assert prag("fit", config) == 0
    place = tmp_path / "offline" / EXPERIMENT / "total/data_2/passage_0"
    weights = place / "adapter_model.safetensors"
    whole = weights.read_bytes()
    settings = json.loads((place / "adapter_config.json").read_text(encoding="utf-8"))
    weights.write_bytes(whole[: len(whole) // 2])
    assert prag("test", config) == 2
    assert "cannot be read" in capsys.readouterr().err
    weights.write_bytes(whole)
    (place / "adapter_config.json").write_text(json.dumps({**settings, "r": 4}), encoding="utf-8")
    assert prag("test", config) == 2
    assert "rank 4" in capsys.readouterr().err
    shutil.rmtree(place.resolve())
    assert prag("test", config) == 2
    assert "no adapter for the passage 'sea' of question 2" in capsys.readouterr().err
    assert prag("fit", config) == 0
    assert prag("test", config) == 0


def test_check_names_what_is_damaged_missing_and_out_of_date(config, capsys, tmp_path):
    assert prag("fit", config) == 0
    assert prag("check", config) == 0
    assert "5 adapters" in capsys.readouterr().out
    recipe = tmp_path / "offline" / EXPERIMENT
    flipped = recipe / "total/data_0/passage_0/adapter_model.safetensors"
    content = bytearray(flipped.read_bytes())
    content[-5] ^= 1
    flipped.write_bytes(content)
    header = (recipe / "total/data_1/passage_1/adapter_model.safetensors").resolve()
    header.write_bytes((2**60).to_bytes(8, "little") + header.read_bytes()[8:])
    edit(config, lambda records: records[2]["augment"][0].update(writer_rewrite="edited"))
    capsys.readouterr()
    for stage in ("test", "check"):
        assert prag(stage, config) == {"test": 2, "check": 1}[stage]
        out, err = capsys.readouterr()
        assert "Traceback" not in err
    assert out.count("damaged: ") == 2
    assert "its values have changed" in out
    assert "missing: the adapter of 'sea'" in out
    assert "out of date: " in out
    assert "2 damaged, 1 missing, 1 out of date" in err
    assert "--delete true" in err
    assert prag("check", config, "--delete", "true") == 1
    assert prag("fit", config) == 0
    assert "3 of 5 passages to encode" in capsys.readouterr().out
    assert prag("check", config) == 0
    assert "1 of them of no passage" in capsys.readouterr().out
    assert prag("test", config) == 0


def test_help_explains_a_stage(capsys):
    assert main(["fit", "--help"]) == 0
    assert "lora_rank" in capsys.readouterr().out


def test_print_config_is_a_configuration(config, capsys, tmp_path):
    assert prag("fit", config, "--print_config") == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out, encoding="utf-8")
    assert prag("fit", printed) == 0


def test_hidden_files_of_other_programs_are_left_alone(config, tmp_path, capsys):
    def scatter(folder: Path) -> None:
        for path in [*folder.rglob("*")]:
            if path.is_file() and not path.name.startswith("."):
                path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")

    scatter(tmp_path / "aug")
    assert prag("fit", config) == 0
    adapters = list((tmp_path / "offline").rglob("adapters/*/*"))
    (adapters[0].with_name(f"._{adapters[0].name}")).write_bytes(b"\x00\x05\x16\x07")
    scatter(tmp_path / "offline")
    assert prag("check", config) == 0
    assert prag("test", config) == 0
    hidden = tmp_path / "output/.Trash/old"
    hidden.mkdir(parents=True)
    (hidden / "result.txt").write_text("no result")
    scatter(tmp_path / "output")
    assert prag("report", config) == 0
    assert "old" not in capsys.readouterr().out


def test_answers_are_extracted_as_suits_the_dataset_and_what_is_cut_is_said(config, tmp_path, capsys):
    def golds(records):
        for row, answer in zip(records, ["12,500", ["J. R. Malo"], "yes"], strict=True):
            row["answer"] = answer

    edit(config, golds)
    vanilla = "--model.inference_method=vanilla"
    lost = "gold answers that no reply can match, since model.answer_extraction paper cuts them: 2 of 3"
    runs = (
        ("--model.max_new_tokens=6", "full", "vanilla"),
        ("--model.answer_extraction=paper", "paper", "vanilla_answer_extraction=paper"),
    )
    for option, extraction, folder in runs:
        assert prag("test", config, vanilla, option) == 0
        assert (lost in capsys.readouterr().err) == (extraction == "paper")
        results = tmp_path / "output" / EXPERIMENT / folder / "total"
        settings = json.loads((results / "config.json").read_text(encoding="utf-8"))
        assert settings["model"]["answer_extraction"] == extraction
        rows = json.loads((results / "predict.json").read_text(encoding="utf-8"))
        assert [row["answer"] for row in rows] == ["12,500", ["J. R. Malo"], "yes"]
    (tmp_path / "aug/toy").rename(tmp_path / "aug/popqa")
    assert prag("test", config, vanilla, "--data.dataset=popqa") == 0
    assert lost in capsys.readouterr().err


def test_a_test_set_without_answers_goes_all_the_way(config, tmp_path, capsys):
    questions = [{"_id": "a", "question": "Which fox?", "context": []}, {"_id": "b", "question": "Which bird?"}]
    (tmp_path / "hotpot_test.json").write_text(json.dumps(questions), encoding="utf-8")
    options = ["--data.dataset=hotpotqa", "--data.data_path=hotpot_test.json", "--data.require_answers=false"]
    options.append("--data.augment_root=fresh")
    with ChatServer() as url:
        assert prag("augment", config, *options, f"--data.chat.base_url={url}") == 0
    assert prag("test", config, "--model.inference_method=icl", *options) == 2
    assert "Use 'prag predict'" in capsys.readouterr().err
    assert prag("predict", config, "--model.inference_method=icl", *options) == 0
    (path,) = (tmp_path / "output").rglob("predict.json")
    assert [row["question"] for row in json.loads(path.read_text(encoding="utf-8"))] == ["Which fox?", "Which bird?"]
