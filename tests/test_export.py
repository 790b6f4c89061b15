"""Adapters for other software: PEFT loads them, and the hub gets them when asked."""

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from hub_server import Hub, running_hub
from prag_lightning.cli.entry import main

ROOT = Path(__file__).parent.parent
IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> list[str]:
    """The demo's first two questions with two passages each, encoded."""
    out = tmp_path_factory.mktemp("export")
    settings = ["--config", "configs/demo.yaml", "--data.sample=2", "--data.topk=2", "--model.num_train_epochs=1"]
    settings += [f"--data.augment_root={out / 'aug'}", f"--model.offline_root={out / 'adapters'}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(["augment", *settings]) == 0
        assert main(["fit", *settings, "--trainer.logger=false"]) == 0
    return settings


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def hub(monkeypatch):
    with running_hub() as hub:
        template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
        ours = template.replace(huggingface_hub.constants.ENDPOINT, hub.address)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", ours)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub


def export(settings: list[str], out: Path, *arguments: str) -> int:
    return main(["export", *settings, f"--out={out}", *arguments])


def logits(*directories: Path) -> torch.Tensor:
    """The last logits with these adapters added up by PEFT."""
    plain = AutoModelForCausalLM.from_pretrained(ROOT / "checkpoints/prag-tiny", dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, str(directories[0]), adapter_name="0")
    names = ["0"]
    for i, directory in enumerate(directories[1:], 1):
        model.load_adapter(str(directory), adapter_name=str(i))
        names.append(str(i))
    if len(names) > 1:
        model.add_weighted_adapter(names, [1.0] * len(names), "sum", combination_type="cat")
        model.set_adapter("sum")
    with torch.no_grad():
        return model(IDS).logits[0, -1]


def test_passages_are_exported_apart_and_add_up_to_the_merged_one(settings, tmp_path, capsys):
    assert export(settings, tmp_path / "apart", "--merged=false", "--rank=16") == 0
    places = sorted((tmp_path / "apart").glob("single/data_*/passage_*"))
    assert [place.relative_to(tmp_path / "apart").as_posix() for place in places] == [
        f"single/data_{d}/passage_{p}" for d in (0, 1) for p in (0, 1)
    ]
    assert sorted(capsys.readouterr().out.splitlines()) == [str(place) for place in places]
    assert export(settings, tmp_path / "merged", "--test_ids=[1]") == 0
    ((merged,),) = [list((tmp_path / "merged/single").iterdir())]
    assert json.loads((merged / "adapter_config.json").read_text())["r"] == 16
    assert not torch.allclose(logits(places[2]), logits(places[3]), atol=1e-3)
    torch.testing.assert_close(logits(merged), logits(*places[2:]), atol=1e-4, rtol=1e-4)


def test_any_set_of_passages_becomes_one_adapter_made_where_it_is_missing(settings, tmp_path, capsys):
    own = [*settings, "--model.lora_rank=3", "--model.lora_alpha=7", f"--model.offline_root={tmp_path / 'adapters'}"]
    assert export(own, tmp_path / "set", "--passages=[7, 12]", "--rank=8") == 0
    stored = list((tmp_path / "adapters").glob("**/adapters/*/*"))
    assert len(stored) == 2
    config = json.loads((tmp_path / "set/merged/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 18)
    torch.testing.assert_close(logits(tmp_path / "set/merged"), logits(*stored), atol=1e-4, rtol=1e-4)
    assert export(own, tmp_path / "set", "--passages=[7, 12]", "--merged=false") == 0
    torch.testing.assert_close(
        logits(tmp_path / "set/passage_7", tmp_path / "set/passage_12"), logits(*stored), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--passages=[none]"], "the corpus has no passage 'none'"),
        (["--passages=[7]", "--data.corpus=null"], "data.corpus"),
        (["--rank=0"], "rank is 0"),
        (["--rank=4"], "has rank 16"),
        (["--push_to_hub=a/b/c"], "Repo id must be in the form"),
        (["--push_to_hub=me/adapters"], "there is no token for the Hugging Face hub (--push_to_hub me/adapters)"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(settings, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    assert export(settings, tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_there_stays_and_is_never_passed_off_as_another(settings, tmp_path, capsys):
    assert export(settings, tmp_path, "--test_ids=[0]") == 0
    weights = tmp_path / "single/0/adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    assert export(settings, tmp_path, "--test_ids=[0]") == 0
    card = tmp_path / "single/0/README.md"
    written = card.read_text()
    capsys.readouterr()
    card.unlink()
    assert export(settings, tmp_path, "--test_ids=[0]") == 0
    assert card.read_text() == written
    assert not capsys.readouterr().err
    assert export(settings, tmp_path, "--test_ids=[0]", "--model.max_new_tokens=7") == 0
    assert f"its card would be another now; delete it to have that: {card}" in capsys.readouterr().err
    assert card.read_text() == written
    assert export(settings, tmp_path, "--test_ids=[0]", "--rank=32") == 2
    out, err = capsys.readouterr()
    assert "something else stands in an adapter's place" in err
    assert not out
    assert weights.stat().st_mtime_ns == before
    assert sorted(path.name for path in (tmp_path / "single").iterdir()) == ["0"]
    (tmp_path / "file").write_text("mine")
    assert export(settings, tmp_path / "file") == 2
    assert "cannot write an adapter" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_the_hub_gets_the_adapters_with_cards_and_nothing_else(settings, tmp_path, capsys, hub: Hub):
    (tmp_path / "diary.txt").write_text("private")
    assert export(settings, tmp_path, "--test_ids=[0]") == 0
    assert not hub.tokens
    assert export(settings, tmp_path, "--test_ids=[0]", "--push_to_hub=me/adapters") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{hub.address}/me/adapters"
    repository = hub.files.pop("README.md").decode()
    assert "hf download me/adapters --local-dir adapters" in repository
    assert "base_model" not in repository  # a folder here, of which the hub knows nothing
    assert hub.files == {
        f"single/0/{name}": (tmp_path / "single/0" / name).read_bytes()
        for name in ("README.md", "adapter_config.json", "adapter_model.safetensors")
    }
    assert hub.tokens == {"Bearer hf_secret"}
    made = hub.repositories["me/adapters"]
    assert made.get("private") is True or made.get("visibility") == "private"
    hub.files["README.md"] = b"mine"
    assert export(settings, tmp_path, "--test_ids=[0]", "--push_to_hub=me/adapters") == 0
    assert hub.files["README.md"] == b"mine"


@pytest.mark.parametrize(("status", "says"), [(403, '{"error": "no rights"}'), (200, "{}"), (200, "<html>")])
def test_a_hub_that_misbehaves_is_a_failure_and_the_adapters_stay(settings, tmp_path, capsys, hub: Hub, status, says):
    hub.refuses, hub.says = status, says
    assert export(settings, tmp_path, "--test_ids=[0]", "--push_to_hub=adapters") == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("prag: error:")]
    assert "the Hugging Face hub did not take the adapters" in error
    assert (tmp_path / "single/0/adapter_config.json").is_file()


def test_a_hub_that_cannot_be_reached_is_a_failure(settings, tmp_path, capsys, hub: Hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert export(settings, tmp_path, "--test_ids=[0]", "--push_to_hub=me/adapters") == 1
    assert "did not take the adapters" in capsys.readouterr().err
