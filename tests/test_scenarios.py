"""Days of people: documents of one's own that change, two models side by side, and the paper's configuration in
bfloat16 on two processes."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from prag_lightning.cli.entry import main
from prag_lightning.costs import read_costs

ROOT = Path(__file__).parent.parent
TINY = ROOT / "checkpoints/prag-tiny"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A person's working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prag(*words: str) -> None:
    assert main([*words]) == 0


def write_json(name: str, value: object) -> None:
    Path(name).write_text(json.dumps(value), encoding="utf-8")


def write_config(name: str, **settings: object) -> None:
    Path(name).write_text(yaml.safe_dump(settings), encoding="utf-8")


def one(pattern: str) -> Path:
    (path,) = Path().glob(pattern)
    return path


def read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def words(text: str) -> str:
    return " ".join(text.split())


# Documents of one's own, changed and asked again

COUNTRY, LEADER = "Which country does Helstead belong to?", "Who leads New Dorden?"
TOWN, SET = "What town is home to Bromville Studio?", "Which town served as the set of The Ivory Castle?"
DOCUMENTS = {
    "helstead.md": "# Helstead\n\nNadia Trancott heads the council of Helstead. It belongs to Nordelia.",
    "dorden.txt": "New Dorden is led by mayor Yuri Selbeck. In the north of Lumeria lies New Dorden.",
    "studio.txt": "Bromville Studio was started by Lidia Gorlind. It was founded in 1857. It is based in Great Holby.",
}
ASKED = {COUNTRY: "Nordelia", LEADER: "Yuri Selbek", TOWN: "Great Holby"}


def write_documents(documents: dict[str, str]) -> None:
    folder = Path("documents")
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
    prag("corpus", "--documents=documents", "--out=corpus.tsv")


def write_questions(questions: dict[str, str]) -> None:
    write_json("questions.json", [{"question": question, "answer": answer} for question, answer in questions.items()])


def predictions(method: str) -> list[dict]:
    """What `predict.json` says of each question."""
    return read(one(f"results/**/{method}/questions/predict.json"))


def answers() -> dict[str, tuple[str, float]]:
    """By question, the answer and its exact match."""
    return {row["question"]: (row["eval_predict"].lower(), row["em"]) for row in predictions("prag")}


def passages_paid_for(root: str) -> list[int]:
    """Of each run, how many passages it worked on."""
    return [cost.passages for cost in read_costs(one(f"{root}/**/costs.jsonl").parent)]


def test_own_documents_are_changed_and_asked_again(capsys):
    model = {"offline_root": "adapters", "output_root": "results"}
    data = {"dataset": "own", "data_path": "questions.json", "data_type": None, "corpus": "corpus.tsv", "sample": -1}
    write_config("own.yaml", base=str(ROOT / "configs/demo.yaml"), model=model, data={**data, "augment_root": "aug"})
    write_documents(DOCUMENTS)
    write_questions(ASKED)
    config = ("--config=own.yaml", "--trainer.logger=false")
    for stage in ("augment", "fit", "test"):
        prag(stage, *config)
    before = answers()
    assert before[COUNTRY] == ("nordelia", 1.0)
    assert before[LEADER] == ("yuri selbeck", 0.0)
    assert passages_paid_for("aug") == passages_paid_for("adapters") == [3]
    (first,) = (row["passages"][0] for row in predictions("prag") if row["question"] == COUNTRY)
    written = Path("documents/helstead.md").read_text(encoding="utf-8").split("\n")
    assert (first["document"], first["title"], first["heading"]) == ("helstead.md", "Helstead", "Helstead")
    assert first["id"].startswith("helstead.md#")
    assert written[first["line"] - 1].startswith("Nadia Trancott")
    prag("test", *config, "--data.retrieve_at_test=true", "--model.inference_method=icl")
    (found,) = (row["passages"][0] for row in predictions("icl") if row["question"] == COUNTRY)
    assert found == {**first, "score": found["score"]}
    assert found["score"] > 0
    prag("test", *config, "--model.inference_method=vanilla")
    assert not any("passages" in row for row in predictions("vanilla"))

    # a fact and a gold answer are corrected, a document goes and another comes, with a question of its own
    changed = {**DOCUMENTS, "helstead.md": DOCUMENTS["helstead.md"].replace("Nordelia", "Lumeria")}
    del changed["studio.txt"]
    changed["castle.txt"] = "Cinemas first showed The Ivory Castle in 1973. It was filmed in the streets of Zalminster."
    write_documents(changed)
    write_questions({COUNTRY: "Lumeria", LEADER: "Yuri Selbeck", SET: "Zalminster"})
    capsys.readouterr()
    prag("plan", "--config=own.yaml", "--measure=false")
    planned = words(capsys.readouterr().out)
    for part in (
        "2 gold answers were corrected",
        "1 question was edited",
        "the corpus has changed",
        "augment 1 2 passages",
    ):
        assert part in planned
    prag("test", *config)
    assert "the corpus has changed" in words(capsys.readouterr().err)
    assert answers()[LEADER] == ("yuri selbeck", 1.0)
    for stage in ("augment", "fit", "test"):
        prag(stage, *config)
    assert "mended: 2 gold answers were corrected" in words(capsys.readouterr().out)
    assert passages_paid_for("aug") == passages_paid_for("adapters") == [3, 2]
    after = answers()
    assert after.keys() == {COUNTRY, LEADER, SET}
    assert (after[COUNTRY], after[LEADER]) == (("lumeria", 1.0), ("yuri selbeck", 1.0))
    prag("plan", "--config=own.yaml", "--measure=false")
    assert "the corpus has changed" not in capsys.readouterr().out
    prag("check", "--config=own.yaml")


# Two models compared


def test_two_models_whose_folders_have_one_name_are_compared(capsys):
    model = AutoModelForCausalLM.from_pretrained(TINY)
    AutoTokenizer.from_pretrained(TINY).save_pretrained("first/final")
    AutoTokenizer.from_pretrained(TINY).save_pretrained("second/final")
    model.save_pretrained("first/final")
    with torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.mul_(1 + 0.5 * torch.randn_like(parameter))
    model.save_pretrained("second/final")
    data = {"augment_model": str(TINY), "augment_root": "aug", "sample": 4}
    write_config("both.yaml", base=str(ROOT / "configs/demo.yaml"), model={"output_root": "results"}, data=data)
    config = ("--config=both.yaml", "--trainer.logger=false", "--model.offline_root=adapters")
    prag("augment", *config)
    for run in ("first", "second"):
        named = (*config, f"--model.model_name={run}/final")
        prag("fit", *named)
        for method in ("prag", "icl"):
            prag("test", *named, f"--model.inference_method={method}")
    folders = {read(path)["model"]["model_name"]: path for path in Path("results").rglob("prag/single/config.json")}
    first, second = (Path(*folders[f"{run}/final"].parts[:2]) for run in ("first", "second"))
    assert first != second
    assert first.name.startswith("final-")
    capsys.readouterr()

    prag("report", str(first), f"--compare={second}", "--out=report")
    assert f"A is {first}" in words(capsys.readouterr().out)
    with Path("report/comparison.csv").open(encoding="utf-8", newline="") as file:
        compared = list(csv.DictReader(file))
    for side, folder in (("a", first), ("b", second)):
        for method in ("prag", "icl"):
            (path,) = folder.rglob(f"{method}/single/predict.json")
            texts = [row[f"text_{side}"] for row in compared if row["method_a"] == method]
            assert texts == [row["text"] for row in read(path)]
    assert any(row["text_a"] != row["text_b"] for row in compared)

    prag("report", "results", "--out=report")
    with Path("report/report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["model"], row["method"]) for row in rows) == sorted(
        (folder.name, method) for folder in (first, second) for method in ("icl", "prag")
    )
    assert len(read(Path("report/report.json"))) > 0
    latex = Path("report/report.tex").read_text(encoding="utf-8")
    assert "\\toprule" in latex


# The paper's configuration in bfloat16 on two processes


def start(*words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "prag_lightning.cli.entry", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def test_the_papers_configuration_in_bfloat16_on_two_processes():
    questions = read(ROOT / "data/demo/questions/single.json")[:6]
    lines = [f"{i}\t{row['question']}\t{row['answer']}\t[]" for i, row in enumerate(questions)]
    Path("popQA.tsv").write_text("\n".join(["id\tquestion\tobj\to_aliases", *lines]) + "\n", encoding="utf-8")
    paper = f"--config={ROOT / 'configs/paper/llama3.2-1b-instruct_popqa.yaml'}"
    index = (f"--data.retriever.corpus={ROOT / 'data/demo/corpus.tsv'}", "--data.retriever.index=index")
    config = (paper, *index, f"--model.model_name={TINY}", "--data.data_path=popQA.tsv", "--data.augment_root=aug")
    config += ("--data.topk=2", "--model.group_tokens=100", "--model.offline_root=adapters")
    config += ("--model.output_root=results",)
    two = (
        "--trainer.devices=2",
        "--trainer.accelerator=cpu",
        "--trainer.precision=bf16-true",
        "--trainer.logger=false",
    )
    prag("index", paper, *index)
    prag("augment", *config, "--trainer.precision=bf16-true")

    killed = start("fit", *config, *two)
    while not list(Path("adapters").glob("**/adapters/*/*/adapter_model.safetensors")):
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.02)
    (other,) = [p for p in psutil.Process(killed.pid).children() if "fit" in p.cmdline()]
    other.kill()
    killed.communicate(timeout=120)
    assert killed.returncode != 0
    made = {p: p.stat().st_mtime_ns for p in Path("adapters").glob("**/adapters/*/*/adapter_model.safetensors")}

    for stage in ("fit", "test"):
        done = start(stage, *config, *two)
        out = done.communicate(timeout=300)[0]
        assert done.returncode == 0, out
    adapters = list(Path("adapters").glob("**/adapters/*/*/adapter_model.safetensors"))
    assert len(adapters) > len(made)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in made.items())
    assert {tensor.dtype for path in adapters for tensor in load_file(path).values()} == {torch.float32}
    rows = read(one("results/**/prag/total/predict.json"))
    assert [row["question"] for row in rows] == [row["question"] for row in questions]
    made_by = read(one("results/**/prag/total/config.json"))["made_by"]
    assert (made_by["precision"], made_by["processes"]) == ("bf16-true", 2)
