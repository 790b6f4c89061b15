"""A toy experiment: three questions with augmented passages, a corpus, and a Llama with random weights."""

import json
from pathlib import Path

import yaml

from prag_lightning.cli.entry import main

ROOT = Path(__file__).parent.parent
EXPERIMENT = Path("random/rank=2_alpha=32/toy/lr=0.01_epoch=1_direct/aug_model=writer")
"""The experiment's folder below the roots of adapters and of results."""


def augmented(pid: int, passage: str) -> dict:
    pairs = [
        {"question": f"What is {i} of {passage}?", "answer": f"a{i}", "full_answer": f"It is a{i}."} for i in range(3)
    ]
    return {"pid": pid, "passage": passage, "writer_rewrite": f"again {passage}", "writer_qa": pairs}


def record(test_id: int, passages: list[str]) -> dict:
    return {
        "test_id": test_id,
        "question": f"Question {test_id}?",
        "answer": ["a0", "b"],
        "passages": passages,
        "augment": [augmented(pid, passage) for pid, passage in enumerate(passages)],
    }


RECORDS = [record(0, ["red fox", "blue bird", "old tree"]), record(1, ["blue bird", "grey stone"]), record(2, ["sea"])]


def write_experiment(folder: Path, model: Path) -> Path:
    """Write a configuration with augmented data and a corpus beside it."""
    aug = folder / "aug" / "toy" / "writer"
    aug.mkdir(parents=True)
    (aug / "total.json").write_text(json.dumps(RECORDS), encoding="utf-8")
    passages = [passage for row in RECORDS for passage in row["passages"]]
    rows = [f"{i}\t{text}\ttitle" for i, text in enumerate(dict.fromkeys(passages), 1)]
    (folder / "corpus.tsv").write_text("\n".join(["id\ttext\ttitle", *rows]) + "\n", encoding="utf-8")
    settings = {
        "trainer": {"accelerator": "cpu"},
        "model": {
            "model_name": str(model),
            "learning_rate": 0.01,
            "max_new_tokens": 6,
            "offline_root": "offline",
            "output_root": "output",
        },
        "data": {
            "dataset": "toy",
            "augment_model": "writer",
            "augment_root": "aug",
            "prompts": str(ROOT / "configs/prompts/default.yaml"),
            "corpus": "corpus.tsv",
        },
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def prag(stage: str, config: Path, *overrides: str) -> int:
    return main([stage, "--config", str(config), *overrides])


def edit(config: Path, change) -> None:
    records = json.loads(json.dumps(RECORDS))
    change(records)
    (config.parent / "aug/toy/writer/total.json").write_text(json.dumps(records), encoding="utf-8")
