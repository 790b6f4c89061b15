"""What `prag test` and `prag predict` leave: a place for each identity, and what made a result."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from prag_lightning.inference.identity import claim_folder, method_settings
from tiny_llm import save_random_llm
from toy import EXPERIMENT, RECORDS, edit, prag


@pytest.fixture
def results(config) -> Path:
    """Where results of the toy experiment go, which answers with the passages in the prompt."""
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings["model"]["inference_method"] = "icl"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return Path("output") / EXPERIMENT


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.suffix in (".json", ".txt")}


def methods(results: Path) -> list[str]:
    return sorted(path.parents[1].name for path in results.rglob("result.txt"))


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("setting", "folder"),
    [
        ("--data.topk=1", "icl_topk=1"),
        ("--model.max_new_tokens=3", "icl_max_new_tokens=3"),
        ("--model.answer_extraction=paper", "icl_answer_extraction=paper"),
        ("--data.answer_boundary=published", "icl_answer_boundary=published"),
        ("--trainer.precision=bf16-true", "icl_precision=bf16-true"),
    ],
)
def test_results_of_other_settings_have_a_folder_of_their_own(config, results, setting, folder, capsys):
    assert prag("test", config) == 0
    first = contents(results)
    capsys.readouterr()
    for _ in range(2):
        assert prag("test", config, setting) == 0
        assert methods(results) == ["icl", folder]
        assert str(results / folder) in capsys.readouterr().out
    assert prag("test", config) == 0
    assert methods(results) == ["icl", folder]
    assert contents(results / "icl") == first


def test_settings_that_decide_nothing_have_none(config, results):
    assert prag("test", config) == 0
    others = ("--data.per_device_eval_batch_size=1", "--model.block_size=17", "--model.adapter_format=int4")
    assert prag("test", config, *others) == 0
    assert methods(results) == ["icl"]


@pytest.mark.parametrize(("stage", "file"), [("test", "predict.json"), ("predict", "answers.json")])
def test_results_of_fewer_questions_leave_those_of_more_alone(config, results, stage, file, capsys):
    for sample in (1, 2):
        assert prag("test", config, f"--data.sample={sample}") == 0
    assert prag(stage, config) == 0
    larger = contents(results)
    assert len(read(results / "icl/total" / file)) == 3
    capsys.readouterr()
    for _ in range(2):
        assert prag(stage, config, "--data.sample=2") == 0
        smaller = results / "icl_sample=2"
        assert f"{results / 'icl'} has results of more questions; these are in {smaller}" in capsys.readouterr().out
        assert len(read(smaller / "total/predict.json")) == 2
    assert contents(results / "icl") == larger
    assert prag(stage, config, "--data.sample=7") == 0
    assert prag("report", config) == 0
    assert sorted(path.name for path in results.iterdir() if path.is_dir()) == ["icl", "icl_sample=2"]


def test_fewer_questions_of_other_settings_stand_beside_theirs(config, results):
    for options in ((), ("--data.topk=1",), ("--data.topk=1", "--data.sample=2")):
        assert prag("test", config, *options) == 0
    assert methods(results) == ["icl", "icl_topk=1", "icl_topk=1_sample=2"]
    edit(config, lambda records: records.pop())
    assert prag("test", config) == 0
    assert len(read(results / "icl/total/predict.json")) == 2


def test_prompts_and_retrieval_are_told_apart_by_what_they_hold(config, results, tmp_path):
    assert prag("test", config) == 0
    prompts = yaml.safe_load(Path(read(results / "icl/total/config.json")["data"]["prompts"]).read_text("utf-8"))
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(prompts), encoding="utf-8")
    assert prag("test", config, "--data.prompts=same.yaml") == 0
    assert methods(results) == ["icl"]
    prompts["direct"]["user"] = "{passages}Answer. {question}"
    (tmp_path / "same.yaml").write_text(yaml.safe_dump(prompts), encoding="utf-8")
    assert prag("test", config, "--data.prompts=same.yaml") == 0
    _, of_prompts = methods(results)
    assert of_prompts.startswith("icl_prompts=")
    assert prag("test", config, "--data.retrieve_at_test=true", "--data.topk=1") == 0
    (tmp_path / "corpus.tsv").write_text("id\ttext\ttitle\n1\tanother corpus, of a fox\ttitle\n", encoding="utf-8")
    assert prag("test", config, "--data.retrieve_at_test=true", "--data.topk=1") == 0
    assert len(methods(results)) == 4


def test_models_of_the_same_name_have_results_of_their_own(config, results, tmp_path):
    assert prag("test", config) == 0
    other = save_random_llm(tmp_path / "elsewhere/random", seed=5)
    assert prag("test", config, f"--model.model_name={other}") == 0
    _, of_other = methods(results)
    fingerprint = read(results / of_other / "total/config.json")["made_by"]["model"]["fingerprint"]
    assert of_other == f"icl_model={fingerprint[:8]}"


def test_settings_that_change_no_answer_cost_none(config, results):
    assert prag("test", config) == 0
    (journal,) = results.rglob("journal-*.jsonl")
    lines = journal.read_bytes()
    assert prag("test", config, "--model.answer_extraction=paper") == 0
    assert list(results.rglob("journal-*.jsonl")) == [journal]
    assert journal.read_bytes() == lines


def test_predict_leaves_scores_alone(config, results, capsys):
    assert prag("predict", config) == 0
    (path,) = results.rglob("predict.json")
    assert "em" not in read(path)[0]
    assert prag("test", config) == 0
    scored = contents(results)
    assert "em" in read(path)[0]
    capsys.readouterr()
    assert prag("predict", config) == 0
    assert f"Answers are in {path.with_name('answers.json')}" in capsys.readouterr().out.splitlines()
    assert [row["text"] for row in read(path.with_name("answers.json"))] == [row["text"] for row in read(path)]
    assert {k: v for k, v in contents(results).items() if k.name != "answers.json"} == scored
    assert prag("report", config) == 0


def test_a_result_says_what_made_it(config, results, model_folder):
    assert prag("test", config, "--seed_everything=7") == 0
    made_by = read(results / "icl/total/config.json")["made_by"]
    assert {"python", "prag-lightning", "torch", "transformers", "peft", "lightning"} <= made_by["versions"].keys()
    assert (made_by["seed"], made_by["precision"], made_by["processes"]) == (7, "32-true", 1)
    assert made_by["device"].startswith("cpu")
    assert made_by["model"]["name"] == str(model_folder)
    assert len(made_by["model"]["fingerprint"]) == 64
    assert (made_by["retriever"]["retriever"], made_by["retriever"]["k1"]) == ("rank_bm25", 1.5)
    assert made_by["retriever"]["corpus"] == hashlib.sha256(Path("corpus.tsv").read_bytes()).hexdigest()
    assert len(made_by["augmented"]["total"]) == 64
    assert made_by["commit"] is None or len(made_by["commit"].removesuffix("-dirty")) == 40


def test_an_answer_keeps_its_type_and_what_no_reply_can_match_is_counted(config, results, capsys):
    def change(records):
        records[0]["answer"] = ["Washington, D.C."]
        records[1]["answer"] = "Rome"

    edit(config, change)
    assert prag("test", config, "--model.answer_extraction=paper") == 0
    rows = read(results / "icl/total/predict.json")
    assert [row["answer"] for row in rows] == [["Washington, D.C."], "Rome", RECORDS[2]["answer"]]
    assert "out_of_reach\t1\n" in (results / "icl/total/result.txt").read_text(encoding="utf-8")
    assert "out of reach" in capsys.readouterr().out


def without_identity(config):
    del config["identity"]


def of_other_settings(config):
    del config["identity"]["topk"]
    config["made_by"]["versions"]["prag-lightning"] = "0.0.9"


def damaged(config):
    config.update(identity=[], made_by=[])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_identity, "results of another version, {version}, which do not say what decided them"),
        (of_other_settings, "results of another version, 0.0.9, which knows other settings (topk)"),
        (damaged, "results of an earlier version which do not say what decided them"),
    ],
)
def test_results_of_another_version_are_kept_and_said(config, results, capsys, change, words):
    assert prag("test", config) == 0
    path = results / "icl/total/config.json"
    written = read(path)
    change(written)
    path.write_text(json.dumps(written), encoding="utf-8")
    kept = contents(results)
    capsys.readouterr()
    assert prag("test", config) == 0
    (of_today,) = (results / name for name in methods(results) if name != "icl")
    words = words.format(version=importlib.metadata.version("prag-lightning"))
    assert f"{results / 'icl'} has {words}; these are in {of_today}" in capsys.readouterr().out.splitlines()
    assert contents(results / "icl") == kept


def claim(folder: Path, identity: dict, *splits: str) -> str:
    config = {"identity": identity, "data": {"sample": -1}}
    return claim_folder(folder, config, dict.fromkeys(splits, 1)).folder.name


def claims(folder: Path, *topks: int, **more) -> Iterator[str]:
    for topk in topks:
        yield claim(folder / "icl", {"topk": topk, **more}, "total")


def test_a_claim_stays_where_it_is(tmp_path):
    assert list(claims(tmp_path, 3, 1, 3, 1, 5)) == ["icl", "icl_topk=1", "icl", "icl_topk=1", "icl_topk=5"]
    (tmp_path / "icl/total/config.json").unlink()
    assert list(claims(tmp_path, 1, 7, 3)) == ["icl_topk=1", "icl", "icl_topk=3"]


def test_a_claim_of_one_split_holds_for_all(tmp_path):
    claim(tmp_path / "icl", {"topk": 3}, "total")
    assert claim(tmp_path / "icl", {"topk": 1}, "bridge") == "icl_topk=1"
    assert claim(tmp_path / "icl", {"topk": 3}, "bridge", "total") == "icl"


@pytest.mark.parametrize("value", ["a/b", "..", "x" * 300, {"a": [1]}, ["q_proj", "v_proj"], None, "é"])
def test_names_of_folders_are_parts_of_paths_and_can_be_read_again(tmp_path, value):
    claim(tmp_path / "prag-mean", {"some_setting": "first", "topk": 1}, "total")
    name = claim(tmp_path / "prag-mean", {"some_setting": value, "topk": 2}, "total")
    assert (tmp_path / name).is_dir()
    method, settings = method_settings(name)
    assert method == "prag-mean"
    assert settings.keys() in ({"some_setting", "topk"}, {"settings"})
