"""What `prag test` and `prag predict` leave: a place for each identity, and what made a result."""

import hashlib
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
    assert prag("test", config, *others, "--data.sample=2") == 0
    assert methods(results) == ["icl"]
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


def test_a_result_of_another_version_is_kept(config, results):
    folder = results / "icl/total"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model": {}, "data": {"topk": 3}}), encoding="utf-8")
    assert prag("test", config) == 0
    assert methods(results)[0].startswith("icl_settings=")
    assert read(folder / "config.json") == {"model": {}, "data": {"topk": 3}}


def claims(folder: Path, *topks: int, **more) -> Iterator[str]:
    for topk in topks:
        config = {"identity": {"topk": topk, **more}}
        yield claim_folder(folder / "icl", config, ["total"]).name


def test_a_claim_stays_where_it_is(tmp_path):
    assert list(claims(tmp_path, 3, 1, 3, 1, 5)) == ["icl", "icl_topk=1", "icl", "icl_topk=1", "icl_topk=5"]
    (tmp_path / "icl/total/config.json").unlink()
    assert list(claims(tmp_path, 1, 7, 3)) == ["icl_topk=1", "icl", "icl_topk=3"]


def test_a_claim_of_one_split_holds_for_all(tmp_path):
    claim_folder(tmp_path / "icl", {"identity": {"topk": 3}}, ["total"])
    assert claim_folder(tmp_path / "icl", {"identity": {"topk": 1}}, ["bridge"]).name == "icl_topk=1"
    assert claim_folder(tmp_path / "icl", {"identity": {"topk": 3}}, ["bridge", "total"]).name == "icl"


@pytest.mark.parametrize("value", ["a/b", "..", "x" * 300, {"a": [1]}, ["q_proj", "v_proj"], None, "é"])
def test_names_of_folders_are_parts_of_paths_and_can_be_read_again(tmp_path, value):
    claim_folder(tmp_path / "prag-mean", {"identity": {"some_setting": "first", "topk": 1}}, ["total"])
    folder = claim_folder(tmp_path / "prag-mean", {"identity": {"some_setting": value, "topk": 2}}, ["total"])
    assert folder.parent == tmp_path
    assert folder.is_dir()
    method, settings = method_settings(folder.name)
    assert method == "prag-mean"
    assert settings.keys() in ({"some_setting", "topk"}, {"settings"})
