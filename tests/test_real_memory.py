"""The life of a folder on a real LLM, with the QA pairs of a better writer."""

import csv
import json
from pathlib import Path

import pytest

from chat_server import ChatServer, asks_for_pairs
from prag_lightning import ParametricRAG
from prag_lightning.cli.entry import main
from prag_lightning.metrics import evaluate

OSTRANE = Path(__file__).parent.parent / "data/ostrane"
DOCUMENTS = ("ostrane-1", "ostrane-2", "ostrane-3", "ostrane-4")
SETTINGS = {
    "model.null_space": None,
    "model.lora_alpha": 16,
    "data.topk": 1,
    "data.augment_model": "writer",
    "data.augment.format": "json",
    "data.augment.qa_per_passage": 8,
    "data.splitter.words": 400,
}


def written() -> dict[str, dict]:
    """What the writer wrote about passages, by their text."""
    files = [OSTRANE / "aug/ostrane/writer" / name for name in ("dev.json", "test.json")]
    rows = [row for path in files for row in json.loads(path.read_text(encoding="utf-8"))]
    return {item["passage"]: item for row in rows for item in row["augment"]}


def f1(rag: ParametricRAG, method: str, passages: list[str]) -> float:
    """Of the writer's questions about passages, in percent."""
    known = written()
    pairs = [pair for text in passages for pair in known[text]["writer_qa"][:4]]
    answers = rag.ask([pair["question"] for pair in pairs], method=method)
    scores = [
        evaluate(answer.reply, pair["answer"], answer_extraction="full")["f1"]
        for answer, pair in zip(answers, pairs, strict=True)
    ]
    return 100 * sum(scores) / len(scores)


@pytest.mark.real
def test_the_life_of_a_folder_on_a_real_llm(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("district").mkdir()
    with (OSTRANE / "corpus.tsv").open(encoding="utf-8") as file:
        texts = {row["id"]: row["text"] for row in csv.DictReader(file, delimiter="\t")}
    passages, known = [texts[name] for name in DOCUMENTS], written()
    for name, text in zip(DOCUMENTS, passages, strict=True):
        Path(f"district/{name}.md").write_text(f"# Ostrane\n\n{text}\n", encoding="utf-8")

    def write(prompt: str) -> str:
        item = next(item for text, item in known.items() if text[:60] in prompt)
        return json.dumps(item["writer_qa"]) if asks_for_pairs(prompt) else item["writer_rewrite"]

    with ChatServer(write=write) as url:
        settings = SETTINGS | {"data.chat.base_url": url}
        rag = ParametricRAG("smollm2-135m-instruct", "memory", settings=settings)
        made = rag.add("district")
        assert (len(made.changes.added), made.encoded, made.failed) == (4, 4, {})
        scores = {method: f1(rag, method, passages) for method in ("vanilla", "icl", "prag")}
        with capfd.disabled():
            print({method: round(score, 1) for method, score in scores.items()})
        assert scores["prag"] > scores["vanilla"] + 30

        Path("district/ostrane-4.md").rename("district/council.md")
        moved = rag.sync("district")
        assert (moved.changes.added, moved.encoded) == (("district/council.md",), 0)
        assert f1(rag, "prag", passages) == scores["prag"]
        text = Path("district/ostrane-3.md").read_text(encoding="utf-8")
        Path("district/ostrane-3.md").write_text(text + "\nOf the five islands Munna has the fewest people.\n")
        edited = rag.sync("district")
        assert (edited.changes.changed, edited.encoded) == (("district/ostrane-3.md",), 1)
        Path("district/ostrane-1.md").unlink()
        chat = f"--data.chat.base_url={url}"
        assert main(["sync", "--documents", "district", chat]) == 0
        assert "+0 ~0 −1 documents, 0 passages to encode, 1 to drop" in capfd.readouterr().out
        assert main(["forget", "district/council.md", chat]) == 0
        pair = known[passages[1]]["writer_qa"][0]
        assert main(["ask", pair["question"], "--json", chat]) == 0
        answer = json.loads(capfd.readouterr().out.splitlines()[-1])
        assert answer["passages"][0]["source"]["document"] == "district/ostrane-2.md"
    again = ParametricRAG(store="memory", settings={"data.chat.base_url": url})
    assert list(again.documents) == ["district/ostrane-2.md", "district/ostrane-3.md"]
    held, gone = passages[1:3], [passages[0], passages[3]]
    assert f1(again, "prag", held) > f1(again, "prag", gone) + 30
