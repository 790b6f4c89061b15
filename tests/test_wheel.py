"""The wheel, installed into an environment of its own and used in an empty directory."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder with the commands of an environment that has the wheel, and what it needs from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True, timeout=300)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True, timeout=300)
    [wheel] = folder.glob("*.whl")
    python = folder / "env/bin/python"
    subprocess.run([*pip, "--python", python, "install", "-q", "--no-deps", wheel], check=True, timeout=300)
    [site] = (folder / "env/lib").glob("*/site-packages")
    # A line of a .pth file is a folder to import from; the .pth files of that folder, an editable install's among
    # them, are not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "env/bin"


@pytest.fixture
def prag(installed, tmp_path):
    """Runs the installed command in an empty directory."""

    def run(*args, code=0):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [installed / "prag", *args], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run


def test_the_package_is_the_wheels(installed, tmp_path):
    where = [installed / "python", "-c", "import prag_lightning; print(prag_lightning.__file__)"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).is_relative_to(installed.parent)


def test_the_demo_runs_in_an_empty_directory(prag, tmp_path):
    said = prag("demo", "--data.sample=4", "--trainer.logger=false")
    assert "prag-other" in said
    assert "GPU available" not in said
    assert (tmp_path / "demo-out/results/report.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-out"]


def test_an_experiment_begins_with_init(prag, tmp_path):
    prag("init", "mine")
    prag("augment", "--config", "mine/experiment.yaml", "--data.sample=2")
    asked = prag("ask", "--config", "mine/experiment.yaml", "--data.sample=2", "Which country does Helstead belong to?")
    assert "Nordelia" in asked
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "output"]
    assert "is there already" in prag("init", "mine", code=2)


def test_an_input_that_is_nowhere_is_named_with_both_places(prag, tmp_path):
    prag("init", "mine")
    (tmp_path / "mine/questions.json").write_text("", encoding="utf-8")
    said = prag("data", "check", "--config", "mine/experiment.yaml", code=2)
    assert "the file is empty (mine/questions.json)" in said
    (tmp_path / "mine/questions.json").unlink()
    said = prag("augment", "--config", "mine/experiment.yaml", code=2)
    assert "questions.json, mine/questions.json" in said
    assert "Traceback" not in said
