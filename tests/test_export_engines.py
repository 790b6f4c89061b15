"""Exports answer the same elsewhere: in plain PEFT by their own card, in llama.cpp, and as vLLM asks for them."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
import tomllib
import types
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from prag_lightning.cli.entry import main
from prag_lightning.errors import InputError
from prag_lightning.llm.generation import generate_each
from prag_lightning.llm.loading import load_llm
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.gguf_file import write_gguf_adapter
from prag_lightning.lora.merge import merge
from prag_lightning.memory.settings import merge_settings
from prag_lightning.parametric_rag import ParametricRAG
from tiny_llm import save_random_gguf, save_random_llm

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "configs/demo.yaml"
TINY = ROOT / "checkpoints/prag-tiny"
TEXTS = {
    "helstead": "Nadia Trancott heads the council of Helstead. It belongs to Nordelia.",
    "selma": "Selma Drumkin was born in the year 1960. She worked as a sailor. She grew up in North Dorminster.",
}
QUESTION = "Which country does Helstead belong to?"


@pytest.fixture(scope="module")
def rag(tmp_path_factory) -> ParametricRAG:
    """A store of two documents."""
    folder = tmp_path_factory.mktemp("exports")
    rag = ParametricRAG(store=folder / "memory", config=DEMO, settings={"model.group_tokens": 1}, progress=False)
    rag.add([{"id": key, "text": text} for key, text in TEXTS.items()])
    return rag


def test_a_card_answers_by_its_own_snippet_in_plain_peft(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny").symlink_to(TINY)
    settings = ["--config", str(DEMO), "--data.sample=2", "--model.num_train_epochs=4", "--model.model_name=tiny"]
    assert main(["augment", *settings]) == main(["fit", *settings]) == main(["test", *settings]) == 0
    assert main(["export", *settings, "--out=out"]) == 0
    (path,) = Path("demo-out/results").rglob("predict.json")
    for row in json.loads(path.read_text()):
        folder = Path("out/single") / str(row["test_id"])
        card = (folder / "README.md").read_text()
        assert row["question"].rstrip("?") in card
        (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == row["text"].strip()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    for precision in ("bf16-true", "bf16-mixed"):
        monkeypatch.chdir(tmp_path)
        precise = [f"--trainer.precision={precision}", f"--out={precision}", "--test_ids=[0]"]
        assert main(["export", *settings, *precise]) == 0
        monkeypatch.chdir(tmp_path / precision / "single/0")
        (code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
        names = {}
        capsys.readouterr()
        exec(code, names)
        dtypes = {parameter.dtype for parameter in names["model"].parameters()}
        assert dtypes == {torch.bfloat16 if precision == "bf16-true" else torch.float32}
        assert ("torch.autocast" in code) == (precision == "bf16-mixed")
        assert capsys.readouterr().out.strip()


def test_a_card_names_the_passages_and_where_they_come_from(rag, tmp_path, capsys):
    (folder,) = rag.export(tmp_path / "out", ["selma"])
    card = (folder / "README.md").read_text()
    assert TEXTS["selma"] in card
    assert "(selma" in card
    assert "Its last ids are [284, 351, 285] ('The answer is ')" in card
    assert rag.export(tmp_path / "out", ["selma"]) == [folder]


def test_the_commands_of_the_documentation_run(rag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("memory").symlink_to(rag.store)
    page = (ROOT / "docs/export.md").read_text()
    commands = [line.partition("#")[0] for line in page.splitlines() if line.startswith("prag export --store")]
    assert len(commands) == 3
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
    made = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*/README.md")}
    assert {name.partition("/")[0] for name in made} == {"apart", "served", "files"}
    assert len(made) == 6


# vLLM


def test_vllms_layout_is_flat_and_of_ranks_that_it_takes(rag, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "with a blank"
    assert main(["export", f"--store={rag.store}", f"--out={out}", "--merged=false", "--layout=vllm"]) == 0
    *paths, line = capsys.readouterr().out.splitlines()
    assert sorted(map(str, out.iterdir())) == sorted(paths)
    assert line.endswith(f"VLLM_LORA_RESOLVER_CACHE_DIR='{out}' vllm serve {TINY} --enable-lora --max-lora-rank 8")
    merged = tmp_path / "merged"
    assert main(["export", f"--store={rag.store}", f"--out={merged}", "--layout=vllm"]) == 0
    config = json.loads((merged / "merged/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (16, 32, str(TINY))


@dataclass
class LoRARequest:
    """vLLM's, of its published fields those that a resolver fills."""

    lora_name: str
    lora_int_id: int
    lora_path: str = ""


class LoRAResolver(ABC):
    """vLLM's interface."""

    @abstractmethod
    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None: ...


class Registry:
    """vLLM's registry."""

    def __init__(self) -> None:
        self.resolvers: dict[str, LoRAResolver] = {}

    def register_resolver(self, resolver_name: str, resolver: LoRAResolver) -> None:
        assert isinstance(resolver, LoRAResolver)
        self.resolvers[resolver_name] = resolver


@pytest.fixture
def registry(monkeypatch) -> Registry:
    """vLLM's modules, as far as a resolver knows them."""
    registry = Registry()
    resolver = types.ModuleType("vllm.lora.resolver")
    resolver.LoRAResolver, resolver.LoRAResolverRegistry = LoRAResolver, registry
    request = types.ModuleType("vllm.lora.request")
    request.LoRARequest = LoRARequest
    for name, module in {"vllm": types.ModuleType("vllm"), "vllm.lora": types.ModuleType("vllm.lora")}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "vllm.lora.resolver", resolver)
    monkeypatch.setitem(sys.modules, "vllm.lora.request", request)
    return registry


def logits(directory: str, base: Path = TINY) -> torch.Tensor:
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        return PeftModel.from_pretrained(plain, directory)(torch.tensor([[5, 6, 7, 8]])).logits[0, -1]


def test_vllm_gets_adapters_that_are_merged_by_a_name_made_of_passages(rag, tmp_path, registry, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["vllm.general_plugins"]
    register = EntryPoint("prag_lora_resolver", points["prag_lora_resolver"], "vllm.general_plugins").load()
    monkeypatch.delenv("PRAG_STORE", raising=False)
    register()
    assert registry.resolvers == {}
    monkeypatch.setenv("PRAG_STORE", str(rag.store))
    monkeypatch.setenv("PRAG_ADAPTERS", str(tmp_path / "cache"))
    register()
    (resolver,) = registry.resolvers.values()

    def resolve(name: str, base: str = str(TINY)) -> LoRARequest | None:
        return asyncio.run(resolver.resolve_lora(base, name))

    one, both = resolve("prag:selma"), resolve("prag:helstead+selma")
    assert one.lora_name == "prag:selma"
    assert 0 < one.lora_int_id != both.lora_int_id > 0
    assert resolve("prag:selma") == one
    (single,) = rag.export(tmp_path / "single", ["selma"])
    (merged,) = rag.export(tmp_path / "merged", merged=True)
    torch.testing.assert_close(logits(one.lora_path), logits(str(single)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits(both.lora_path), logits(str(merged)), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(one.lora_path), logits(both.lora_path), atol=1e-3)
    assert json.loads(Path(both.lora_path, "adapter_config.json").read_text())["r"] == 16
    assert [resolve(name) for name in ("other", "prag:", "prag:nobody", "prag:../selma")] == [None] * 4
    assert resolve("prag:selma", "another/model") is None
    assert "the store has no adapter of 'nobody'" in capsys.readouterr().err
    assert resolve("prag:nobody\nforged " + "x" * 5000) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 700
    (tmp_path / "compact").mkdir()
    (tmp_path / "compact/config.yaml").write_text(f"model: {{model_name: {TINY}, adapter_format: int4}}")
    with pytest.raises(InputError, match="in int4 are not merged without their model"):
        merge_settings(tmp_path / "compact", str(TINY))


# llama.cpp


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory):
    """A Llama as a GGUF file in float32, and what continues a prompt with adapters of it in llama.cpp."""
    xllamacpp = pytest.importorskip("xllamacpp")
    folder = tmp_path_factory.mktemp("gguf")
    merges = [("a", "b"), ("b", "a")]  # without any, transformers reads no tokenizer from the file
    save_random_gguf(save_random_llm(folder / "random", merges=merges), folder / "base.gguf")

    def complete(ids: list[int], adapters: list[Path], length: int) -> list[int]:
        params = xllamacpp.CommonParams()
        params.model.path = str(folder / "base.gguf")
        params.n_ctx, params.n_parallel, params.warmup, params.cpuparams.n_threads = 512, 1, False, 1
        params.lora_adapters = [_adapter(xllamacpp, path) for path in adapters]
        server = xllamacpp.Server(params)
        asked = {"prompt": ids, "n_predict": length, "temperature": 0, "return_tokens": True}
        request = Request(f"{server.listening_address}/completion", json.dumps(asked).encode())
        with urlopen(request, timeout=60) as reply:
            return json.load(reply)["tokens"]

    return folder / "base.gguf", complete


def _adapter(xllamacpp, path: Path):
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path, adapter.scale = str(path), 1.0
    return adapter


def test_llama_cpp_writes_what_we_write_token_by_token_and_adds_adapters_up(llama_cpp, tmp_path):
    base, complete = llama_cpp
    llm = load_llm(str(base))
    layers = llm.model.config.num_hidden_layers
    adapters, files = [], []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        weights = random_adapter(llm.stack, 4, seed)
        adapters.append(
            {name: (a, 0.3 * torch.randn(b.shape, generator=generator)) for name, (a, b) in weights.items()}
        )
        files.append(tmp_path / f"{seed}.gguf")
        write_gguf_adapter(files[-1], adapters[-1], 1.5, "llama", layers)
    summed = merge(adapters, "sum")
    write_gguf_adapter(tmp_path / "sum.gguf", summed, 1.5, "llama", layers)
    prompt = [10, 20, 30, 40, 50, 60]

    def ours(weights) -> str:
        return generate_each(llm, [prompt], 12, adapters=None if weights is None else [weights], scaling=1.5)[0]

    def theirs(*paths: Path) -> str:
        return llm.tokenizer.decode(complete(prompt, list(paths), 12), skip_special_tokens=True)

    assert theirs() == ours(None)
    assert theirs(files[0]) == ours(adapters[0])
    assert theirs(files[1]) == ours(adapters[1])
    assert theirs(*files) == theirs(tmp_path / "sum.gguf") == ours(summed)
    assert len({ours(None), ours(adapters[0]), ours(adapters[1]), ours(summed)}) == 4


def test_gguf_adapters_come_with_what_runs_them(rag, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", f"--store={rag.store}", f"--out={out}", "--passages=[selma]", "--format=gguf"]) == 0
    files = {path.name: path for path in (out / "merged").iterdir()}
    assert set(files) == {"adapter.gguf", "Modelfile", "README.md"}
    assert files["Modelfile"].read_text() == "FROM base.gguf\nADAPTER ./adapter.gguf\n"
    assert "llama-server -m base.gguf --lora adapter.gguf" in files["README.md"].read_text()
    from gguf import GGUFReader

    reader = GGUFReader(files["adapter.gguf"])
    fields = {
        name: reader.get_field(name).contents() for name in ("general.type", "adapter.type", "adapter.lora.alpha")
    }
    assert fields == {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 16.0}
    assert {"blk.0.ffn_up.weight.lora_a", "blk.0.ffn_up.weight.lora_b"} <= {tensor.name for tensor in reader.tensors}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout=vllm", "--rank=24"], "vLLM has no room for rank 24"),
        (["--layout=vllm", "--format=gguf"], "vLLM loads no GGUF adapters"),
        (["--format=onnx"], "format"),
        (["--format=gguf", "--rank=8"], "llama.cpp takes any rank"),
        (["--rank=0"], "rank is 0"),
        (["--test_ids=[1]"], "a store has no questions"),
        (["--passages=[nobody]"], "the store holds no passage 'nobody'"),
    ],
)
def test_what_cannot_be_exported_is_one_line(rag, tmp_path, capsys, arguments, message):
    assert main(["export", f"--store={rag.store}", f"--out={tmp_path / 'out'}", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_model_that_llama_cpp_does_not_know_is_refused_by_name(llm, tmp_path):
    weights = random_adapter(llm.stack, 2, 0)
    with pytest.raises(InputError, match="adapters of a mamba are not written"):
        write_gguf_adapter(tmp_path / "x.gguf", weights, 1.0, "mamba", 2)
    (name, pair), *_ = weights.items()
    attention = {name.replace("mlp", "self_attn").rpartition(".")[0] + ".q_proj": pair}
    with pytest.raises(InputError, match=r"has .*q_proj in another shape"):
        write_gguf_adapter(tmp_path / "x.gguf", attention, 1.0, "llama", 2)
    assert list(tmp_path.iterdir()) == []
