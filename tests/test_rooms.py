"""The rooms of the package: imports run one way, in no circle, and what needs no torch loads none."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import prag_lightning

PACKAGE = Path(prag_lightning.__file__).parent
GROUND = ("errors", "records", "resources", "files", "journal", "progress", "processes", "metrics", "costs")
ROOMS = (
    *GROUND,
    "data",
    "retrieval",
    "lora",
    "llm",
    "augment",
    "training",
    "inference",
    "pipeline",
    "memory",
    "warmup",
    "lightning",
    "report",
    "serve",
    "commands",
    "cli",
)
"""From the ground up: a room may import from those before it."""
DOORS = ("__init__", "__main__", "parametric_rag")
"""Import what they are asked for."""
NO_TORCH = (
    "training.layout",
    "training.examples",
    "inference.methods",
    "inference.results",
    "lora.names",
    "llm.names",
    "augment",
    "augment.files",
    "warmup.questions",
    "retrieval",
    "pipeline.data",
    "pipeline.settings",
    "memory.contents",
    "memory.incoming",
    "memory.settings",
    "serve.settings",
    "commands.data",
    "commands.report",
    "cli",
    "cli.data",
    "cli.experiments",
    "cli.stages",
    "parametric_rag",
)


def modules() -> dict[str, Path]:
    """Every module of the package, by its name without the package's."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The package's modules that a module imports, anywhere in it, also only for types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [part if part.removeprefix("prag_lightning.") in known else str(node.module) for part in parts]
        for name in names:
            module = name.removeprefix("prag_lightning.")
            if module != name and module in known:
                yield module


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: set(imports(path, known)) - {name} for name, path in known.items() if name not in DOORS}


def test_every_module_has_a_room():
    assert {name.split(".")[0] for name in graph()} <= set(ROOMS)


def test_no_import_runs_upwards():
    level = {room: number for number, room in enumerate(ROOMS)}
    upwards = {
        (name, other)
        for name, others in graph().items()
        for other in others
        if level[other.split(".")[0]] > level[name.split(".")[0]]
    }
    assert not upwards


def test_no_circle():
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_few_files_stand_beside_the_rooms():
    assert len(list(PACKAGE.glob("*.py"))) <= 12


def test_what_needs_no_torch_loads_none():
    names = [f"prag_lightning.{name}" for name in NO_TORCH]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'peft', 'lightning'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} loads {heavy}'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_opens_fast_and_gives_its_classes_when_asked():
    code = (
        "import sys, prag_lightning\n"
        "assert 'torch' not in sys.modules\n"
        "from prag_lightning import ParametricRAG, PragDataModule, PragModule, PragTrainer, experiment\n"
        "assert PragModule.__name__ == 'PragModule' and callable(experiment)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
