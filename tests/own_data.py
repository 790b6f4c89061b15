"""Questions and corpora of one's own through `prag augment`, a stand-in for a server writing about the passages."""

import json
from pathlib import Path

import yaml

from chat_server import ChatServer
from prag_lightning.cli.entry import main


def augment(folder: Path, corpus: Path, questions: Path, dataset: str = "mine", *options: str) -> list[dict]:
    """The records that `prag augment` makes, with one passage a question unless told otherwise."""
    data = {"dataset": dataset, "data_path": str(questions), "corpus": str(corpus), "topk": 1}
    data |= {"augment_root": str(folder / "aug"), "augment_model": "some-model", "chat": {}}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"model": {"model_name": "unused"}, "data": data}), encoding="utf-8")
    with ChatServer() as url:
        assert main(["augment", "--config", str(config), "--data.chat.base_url", url, *options]) == 0
    files = sorted((folder / "aug" / dataset / "some-model").glob("*.json"))
    return [record for file in files for record in json.loads(file.read_text(encoding="utf-8"))]
