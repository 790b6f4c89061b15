"""Every configuration in the repository resolves, and the paper's hold the published values."""

from pathlib import Path

import pytest
import yaml

from prag_lightning.cli.config_files import with_bases
from prag_lightning.cli.entry import main
from prag_lightning.errors import InputError

CONFIGS = Path(__file__).parent.parent / "configs"
MODELS = ("llama3.2-1b-instruct", "qwen2.5-1.5b-instruct", "llama3-8b-instruct")
DATASETS = ("2wikimultihopqa", "hotpotqa", "popqa", "complexwebquestions")
TWO_EPOCHS = {*((model, "popqa") for model in MODELS), ("qwen2.5-1.5b-instruct", "hotpotqa")}


def resolve(path: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    assert main(["fit", "--config", str(path), "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_paper_configuration_is_the_published_one(model, dataset, capsys, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    config = resolve(CONFIGS / f"paper/{model}_{dataset}.yaml", capsys)
    with_cot = dataset in ("2wikimultihopqa", "hotpotqa")
    expected_model = {
        "model_name": model,
        "lora_rank": 2,
        "lora_alpha": 32,
        "learning_rate": 3e-4,
        "num_train_epochs": 2 if (model, dataset) in TWO_EPOCHS else 1,
        "per_device_train_batch_size": 1,
        "block_size": 3000,
        "max_new_tokens": 128 if with_cot else 20,
        "objective": "published",
        "target_modules": ["down_proj", "gate_proj", "up_proj"],
    }
    expected_data = {"dataset": dataset, "with_cot": with_cot, "sample": 300, "topk": 3, "augment_model": None}
    expected_data["answer_boundary"] = "published"
    expected_augment = {"temperature": 0.7, "sample_top_k": 50, "augment_max_new_tokens": 512, "extra_candidates": 10}
    assert (
        expected_model.items()
        <= {**config["model"], "target_modules": sorted(config["model"]["target_modules"])}.items()
    )
    assert expected_data.items() <= config["data"].items()
    assert expected_augment.items() <= config["data"]["augment"].items()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_configurations_resolve(path, capsys, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    model = resolve(path, capsys)["model"]
    assert model.get("init_args", model)["objective"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["direct", "cot"])
def test_paper_warmup_is_the_published_one(model, kind, capsys, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    config = resolve(CONFIGS / f"paper/warmup/{model}_{kind}.yaml", capsys)
    published = {"model_name": model, "lora_rank": 2, "lora_alpha": 32, "learning_rate": 3e-4, "block_size": 3000}
    assert published.items() <= config["model"]["init_args"].items()
    data = config["data"]["init_args"]
    assert data["with_cot"] == (kind == "cot")
    assert data["per_device_train_batch_size"] == config["trainer"]["max_epochs"] == 1
    drawn = {
        source["dataset"]: (source["first_row"], source["candidates"], source["rows"]) for source in data["sources"]
    }
    if kind == "cot":
        assert drawn == {"2wikimultihopqa": (None, 1000, 300), "hotpotqa": (None, 1000, 300)}
    else:
        assert drawn == {"popqa": (1000, -1, 1000), "complexwebquestions": (1000, -1, 1000)}
    assert {test["dataset"] for test in data["test_sets"]} == drawn.keys()
    assert {test["sample"] for test in data["test_sets"]} == {300}


def test_bases_come_before_what_builds_on_them(tmp_path):
    (tmp_path / "a.yaml").write_text("{}")
    (tmp_path / "b.yaml").write_text("base: [a.yaml]")
    (tmp_path / "c.yaml").write_text("base: b.yaml")
    files = [str(tmp_path / name) for name in ("a.yaml", "b.yaml", "c.yaml")]
    expected = ["fit", *(part for file in files for part in ("--config", file)), "--x", "1"]
    assert with_bases(["fit", "--config", files[2], "--x", "1"]) == expected
    assert with_bases(["fit", f"-c={files[2]}", "--x", "1"]) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [("base: a.yaml", "builds on itself"), ("base: no.yaml", r"no\.yaml"), ("[1", "not YAML"), ("1", "no settings")],
)
def test_faulty_configuration_files_are_named(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        with_bases(["--config", str(tmp_path / "a.yaml")])
