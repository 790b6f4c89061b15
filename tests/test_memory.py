"""Documents that live: the whole life of a folder through the class and through the command, on the embedded model."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from killing import differences, kill_often, run
from prag_lightning import ParametricRAG
from prag_lightning.cli.entry import main
from prag_lightning.errors import InputError
from prag_lightning.memory.contents import Changes, Contents, StoredPassage
from prag_lightning.memory.folder import StoreFolder
from prag_lightning.records import Passage, Source

ROOT = Path(__file__).parent.parent
DEMO = str(ROOT / "configs/demo.yaml")
ALONE = {"model.group_tokens": 1}
SELMA = "Selma Drumkin was born in the year 1960. She worked as a sailor. She grew up in North Dorminster."
PAULA = "Paula Kersworth worked as a astronomer. She came into the world in High Kalham. She was born in the year 1976."
BRUNO = "Bruno Cranheim worked as a carpenter. He was born in West Brenfield. He was born in the year 1931."
OF_RUNS = ("costs.jsonl",)
"""Has a line a run, with its seconds."""


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("handbook").mkdir()


def opened(store: str | None = "memory", **options) -> ParametricRAG:
    return ParametricRAG(store=store, config=DEMO, settings=ALONE, progress=False, **options)


def contents(folder: str) -> dict[str, bytes]:
    """Every file of a store that says nothing about runs, by its path."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in OF_RUNS}


def lines_of(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_the_life_of_a_folder_through_the_class(capfd):
    Path("handbook/selma.txt").write_text(SELMA)
    Path("handbook/crew").mkdir()
    Path("handbook/crew/paula.txt").write_text(PAULA)
    rag = opened()
    made = rag.add("handbook/")
    assert (made.changes.added, made.encoded, made.failed) == (("handbook/crew/paula.txt", "handbook/selma.txt"), 2, {})
    answer = rag.ask("What did Selma Drumkin work as?")
    assert answer.text == "sailor"
    assert answer.passages[0].source == Source("handbook/selma.txt", line=1)
    assert answer.passages[0].score > 0
    assert answer.seconds["answer"] > 0
    assert rag.ask("What did Selma Drumkin work as?", method="vanilla").text != "sailor"

    Path("handbook/selma.txt").write_text(SELMA.replace("sailor", "carpenter"))  # edited
    again = rag.add("handbook/selma.txt")
    assert (again.changes.changed, again.encoded) == (("handbook/selma.txt",), 1)
    assert rag.ask("What did Selma Drumkin work as?").text == "carpenter"

    Path("handbook/crew/paula.txt").rename("handbook/paula.txt")  # renamed: the words are known
    moved = rag.sync("handbook")
    assert (moved.changes.added, moved.changes.removed) == (("handbook/paula.txt",), ("handbook/crew/paula.txt",))
    assert (moved.augmented, moved.encoded) == (0, 0)
    assert rag.ask("What did Paula Kersworth work as?").passages[0].source.document == "handbook/paula.txt"

    Path("handbook/selma.txt").unlink()  # deleted
    assert rag.sync("handbook").changes.removed == ("handbook/selma.txt",)
    assert rag.documents == {"handbook/paula.txt": 1}
    assert rag.ask("What did Selma Drumkin work as?").text != "carpenter"
    assert not rag.sync("handbook").changes
    assert capfd.readouterr().out == ""


def test_the_life_of_a_folder_through_the_command(capsys):
    Path("handbook/selma.txt").write_text(SELMA)
    sync = ["sync", "--documents", "handbook"]
    assert main([*sync, "--config", DEMO, "--model.group_tokens=1", "--dry-run"]) == 0
    assert lines_of(capsys)[0].startswith("+1 ~0 −0 documents, 1 passages to encode, 0 to drop")
    assert not Path("memory").exists()
    assert main([*sync, "--config", DEMO, "--model.group_tokens=1"]) == 0
    assert lines_of(capsys)[-1] == "memory: 1 documents, 1 passages"
    assert main(["ask", "What did Selma Drumkin work as?", "--json"]) == 0
    answer = json.loads(lines_of(capsys)[0])
    assert (answer["answer"], answer["encoded"]) == ("sailor", 0)
    assert answer["passages"][0]["source"] == {"document": "handbook/selma.txt", "page": None, "line": 1, "heading": ""}
    Path("handbook/paula.txt").write_text(PAULA)
    Path("handbook/selma.txt").write_text(SELMA.replace("sailor", "carpenter"))
    before = contents("memory")
    assert main([*sync, "--dry-run"]) == 0
    (said,) = lines_of(capsys)
    assert said.startswith("+1 ~1 −0 documents, 2 passages to encode, 1 to drop, ")
    assert re.search(r", (\d+ s|\d:\d\d:\d\d), 0\.8 MB$", said)
    assert contents("memory") == before
    assert main(sync) == 0
    assert main(["ask", "--store", "memory", "What did Selma Drumkin work as?"]) == 0
    shown = lines_of(capsys)
    assert "carpenter" in shown
    assert "          handbook/selma.txt, line 1" in shown
    assert main(["forget", "handbook/selma.txt"]) == 0
    said = lines_of(capsys)
    assert said[0] == "forgotten: handbook/selma.txt, 1 passage"
    assert said[1].endswith("files of memory: none holds it")
    assert main(["ask", "--json", "What did Selma Drumkin work as?"]) == 0
    assert all(
        passage["id"].startswith("handbook/paula.txt#") for passage in json.loads(lines_of(capsys)[0])["passages"]
    )


def test_what_was_forgotten_leaves_no_trace_and_answers_to_the_last_bit():
    """Also of documents that came together, in another order, and of one that was edited."""
    ever, never = opened("ever"), opened("never")
    ever.add({"id": "selma", "text": SELMA})
    ever.add([{"id": "bruno", "text": BRUNO}, {"id": "paula", "text": PAULA.replace("astronomer", "sailor")}])
    ever.add({"id": "paula", "text": PAULA})
    forgotten = ever.forget("bruno")
    never.add([{"id": "paula", "text": PAULA}, {"id": "selma", "text": SELMA}])
    assert [stored.passage.text for stored in forgotten.passages] == [BRUNO]
    assert contents("ever") == contents("never")
    for path, content in contents("ever").items():
        assert b"Cranheim" not in content, path
    questions = ["What did Bruno Cranheim work as?", "What did Paula Kersworth work as?"]
    with pytest.raises(InputError, match="holds no document 'bruno'"):
        ever.forget("bruno")
    for method in ("icl", "prag", "combine"):
        assert [a.reply for a in ever.ask(questions, method=method)] == [
            a.reply for a in never.ask(questions, method=method)
        ]


def test_the_same_words_in_another_document_stay():
    rag = opened()
    rag.add([{"id": "one", "text": SELMA}, {"id": "two", "text": SELMA}])
    assert rag.forget("one").shared == 1
    assert rag.ask("What did Selma Drumkin work as?").text == "sailor"
    assert len(list(Path("memory/adapters").rglob("[0-9a-f][0-9a-f]/*"))) == 1


def test_a_killed_sync_goes_on_to_the_same_bytes(tmp_path):
    for name, text in (("selma", SELMA), ("paula", PAULA)):
        Path(f"handbook/{name}.txt").write_text(text)
    line = ["sync", "--config", DEMO, "--model.group_tokens=1", "--data.augment.augment_batch_size=1"]
    line += ["--documents", str(tmp_path / "handbook"), "--store"]
    seconds = run([*line, str(tmp_path / "whole")])
    assert kill_often([*line, str(tmp_path / "killed")], 4, seconds, random.Random(0), longest=0.6) >= 2
    assert differences(tmp_path / "killed", tmp_path / "whole") == []


def interrupted(*_):
    raise KeyboardInterrupt


def test_what_an_interrupted_sync_has_made_is_not_made_again(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Contents, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened().add([{"id": "selma", "text": SELMA}, {"id": "paula", "text": PAULA}])
    again = opened()
    assert again.documents == {}
    with pytest.raises(InputError, match="what an interrupted sync has made of others goes with the next prag sync"):
        again.forget("selma")
    made = again.add([{"id": "selma", "text": SELMA}, {"id": "paula", "text": PAULA}])
    assert (len(made.changes.added), made.augmented, made.encoded) == (2, 0, 0)
    assert again.ask("What did Selma Drumkin work as?").text == "sailor"


def test_a_store_that_was_killed_while_it_deleted_is_put_in_order(monkeypatch):
    rag = opened()
    rag.add([{"id": "selma", "text": SELMA}, {"id": "paula", "text": PAULA}])
    with monkeypatch.context() as patched:
        patched.setattr(StoreFolder, "_delete_unused", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rag.forget("paula")
    opened().add({"id": "selma", "text": SELMA})
    fresh = opened("fresh")
    fresh.add({"id": "selma", "text": SELMA})
    assert contents("memory") == contents("fresh")


def test_a_damaged_adapter_is_made_anew():
    rag = opened()
    rag.add({"id": "selma", "text": SELMA})
    before = contents("memory")
    (weights,) = Path("memory/adapters").rglob("[0-9a-f][0-9a-f]/*/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    again = opened()
    assert again.add({"id": "selma", "text": SELMA}).encoded == 1
    assert contents("memory") == before


def test_a_file_that_can_no_longer_be_read_keeps_its_passages(capfd):
    Path("handbook/selma.jsonl").write_text(json.dumps({"text": SELMA}) + "\n")
    rag = opened()
    rag.add("handbook")
    Path("handbook/selma.jsonl").write_bytes(b"\xff\xfe\xff\x00\xd8broken")
    (reason,) = rag.sync("handbook").unreadable
    assert "it is not UTF-16" in reason
    with pytest.raises(InputError, match=r"the document is left out: .*UTF-16"):
        rag.add("handbook/selma.jsonl")
    assert list(rag.documents) == ["handbook/selma.jsonl#1"]
    Path("handbook/selma.jsonl").write_text(json.dumps({"text": PAULA}) + "\n" + json.dumps({"text": SELMA}) + "\n")
    rag.sync("handbook")
    assert list(rag.documents) == ["handbook/selma.jsonl#1", "handbook/selma.jsonl#2"]


def test_the_passages_of_a_corpus_file_are_held_as_they_are(capsys):
    Path("passages.tsv").write_text(f"id\ttext\ttitle\n7\t{SELMA}\tSelma Drumkin\n8\t{PAULA}\tPaula Kersworth\n")
    line = ["sync", "--config", DEMO, "--corpus", "passages.tsv", "--store", "memory", "--model.group_tokens=1"]
    assert main(line) == 0
    Path("passages.tsv").write_text(f"id\ttext\ttitle\n7\t{SELMA}\tSelma Drumkin\n")
    assert main(["sync", "--corpus", "passages.tsv"]) == 0
    assert "+0 ~0 −1 documents, 0 passages to encode, 1 to drop" in lines_of(capsys)
    rag = ParametricRAG(store="memory", progress=False)
    assert list(rag.documents) == ["passages.tsv#7"]
    assert rag.ask("What did Selma Drumkin work as?").passages[0].text == SELMA


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["sync"], "no documents are named"),
        (["sync", "--documents", "nowhere", "--config", DEMO], "there are no documents (nowhere)"),
        (["sync", "--documents", "handbook", "--config", DEMO], "there is no document (handbook)"),
        (["ask", "Who?"], "there is no store (memory). Make one with prag sync"),
        (["forget", "x"], "there is no store (memory)"),
        (["sync", "--documents", "x", "--store", "handbook/..", "--config", DEMO], "something that is no store stands"),
        (["sync", "--documents", "x", "--model.model_name", "no/such"], "(nothing|no model|there)"),
    ],
)
def test_what_cannot_be_is_one_line(line, message, capsys):
    if "handbook/.." in line:
        Path("x.txt").write_text("here already")
    assert main(line) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("prag: error: ")
    assert message.startswith("(") or message in error
    assert not Path("memory").exists()


def test_a_store_keeps_to_what_it_was_made_with(capsys):
    opened().add({"id": "selma", "text": SELMA})
    with pytest.raises(InputError, match=r"lora_rank is 4, and the store was made with 8 \(model.lora_rank"):
        ParametricRAG(store="memory", settings={"model.lora_rank": 4})
    with pytest.raises(InputError, match="model_name is 'smollm2-135m-instruct', and the store was made with"):
        ParametricRAG("smollm2-135m-instruct", "memory")
    assert ParametricRAG(store="memory", settings={"data.topk": 3}).ask("Who is Selma Drumkin?").passages
    corpus = Path("memory/corpus.jsonl")
    corpus.write_text(corpus.read_text()[:-20])
    damaged = opened()
    with pytest.raises(InputError, match=r"a line of the store is damaged \(memory/corpus.jsonl, line 1\). Delete"):
        damaged.ask("Who is Selma Drumkin?")
    corpus.unlink()  # as it says
    assert damaged.add({"id": "selma", "text": SELMA}).encoded == 0
    assert damaged.ask("Who is Selma Drumkin?").passages


def test_whoever_asks_sees_what_another_has_changed():
    rag, other = opened(), opened()
    rag.add({"id": "selma", "text": SELMA})
    asker = rag._memory.asker()
    assert asker.ask("What did Selma Drumkin work as?").answer == "sailor"
    other.add({"id": "selma", "text": SELMA.replace("sailor", "carpenter")})
    assert asker.ask("What did Selma Drumkin work as?").answer == "carpenter"
    assert rag.ask("What did Selma Drumkin work as?").text == "carpenter"
    other.forget("selma")
    with pytest.raises(InputError, match="holds no document"):
        rag.ask("What did Selma Drumkin work as?")


def test_one_process_at_a_time_changes_a_store():
    rag = opened()
    rag.add({"id": "selma", "text": SELMA})
    with FileLock("memory/.lock"), pytest.raises(InputError, match=r"is changing the store \(memory\)"):
        opened().add({"id": "paula", "text": PAULA})
    with FileLock("memory/.lock"):
        assert rag.ask("What did Selma Drumkin work as?").text == "sailor"


def test_two_documents_of_one_id_are_refused_and_the_last_word_of_one_holds():
    rag = opened()
    with pytest.raises(InputError, match="no id or no text"):
        rag.add({"id": "", "text": SELMA})
    with pytest.raises(InputError, match="a document has no 'body'"):
        rag.add({"id": "x", "body": SELMA})
    with pytest.raises(InputError, match="'selma' is given twice"):
        rag.add([{"id": "selma", "text": SELMA}, {"id": "selma", "text": PAULA}])
    assert not Path("memory").exists()


def test_a_store_without_a_folder_is_gone_unless_it_is_saved():
    with opened(None) as rag:
        place = rag.store
        rag.add(SELMA)
        rag.save("saved")
        with pytest.raises(InputError, match="something stands there"):
            rag.save("saved")
    assert not place.exists()
    assert ParametricRAG(store="saved", progress=False).ask("What did Selma Drumkin work as?").text == "sailor"


def test_an_export_answers_in_plain_peft():
    rag = opened()
    rag.add({"id": "crew/selma", "text": SELMA})
    (directory,) = rag.export("exported", ["crew/selma"])
    with pytest.raises(InputError, match="holds no passage 'nobody'"):
        rag.export("exported", ["nobody"])
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "checkpoints/prag-tiny")
    llm = AutoModelForCausalLM.from_pretrained(ROOT / "checkpoints/prag-tiny")
    answerer = rag._memory.asker().answerer
    ids = answerer.prompts.question_ids(tokenizer, "What did Selma Drumkin work as?")
    model = PeftModel.from_pretrained(llm, directory)
    with torch.inference_mode():
        written = model.generate(input_ids=torch.tensor([ids]), max_new_tokens=5, do_sample=False)
    assert tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True).strip().startswith("sailor")


def test_an_answer_comes_in_pieces():
    rag = opened()
    rag.add({"id": "selma", "text": SELMA})
    question = "What did Selma Drumkin work as?"
    assert "".join(rag.ask(question, stream=True)).strip() == rag.ask(question).reply
    assert [answer.reply for answer in rag.ask([question, question])] == [rag.ask(question).reply] * 2
    with pytest.raises(InputError, match="the question is empty"):
        rag.ask([question, " "])


def test_it_works_in_a_notebook():
    Path("handbook/selma.txt").write_text(SELMA)
    cells = [
        "from prag_lightning import ParametricRAG",
        f"rag = ParametricRAG(store='memory', config={DEMO!r}, settings={ALONE!r})",
        "rag.add('handbook/').encoded",
        "rag.ask('What did Selma Drumkin work as?').text",
        "rag",
    ]
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    said = [[output["data"]["text/plain"] for output in cell.outputs if "data" in output] for cell in notebook.cells]
    assert said[2:4] == [["1"], ["'sailor'"]]
    assert said[4][0].endswith("store='memory'): 1 documents")
    assert not any(output.get("name") == "stdout" for cell in notebook.cells for output in cell.outputs)


def test_the_example_of_the_readme_runs():
    for name, text in (("travel.md", f"# Paula Kersworth\n\n{PAULA}"), ("old.md", f"# Selma Drumkin\n\n{SELMA}")):
        Path("handbook", name).write_text(text)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    model = 'ParametricRAG("smollm2-135m-instruct", '
    assert model in code
    code = code.replace(model, f"ParametricRAG(config={DEMO!r}, ").replace(
        "How many days may I travel a week?", "What did Paula Kersworth work as?"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("astronomer handbook/travel.md, line 3, Paula Kersworth: ")
    rag = ParametricRAG(store="memory")
    assert list(rag.documents) == ["handbook/old.md", "handbook/travel.md"]  # sync found it again


def test_the_import_is_quick_and_loads_no_torch():
    code = (
        "import sys; from prag_lightning import ParametricRAG; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


TEXTS = st.sampled_from(["a", "b", "c", "d"])
DOCUMENTS = st.dictionaries(st.sampled_from("pqrs"), st.lists(TEXTS, min_size=1, max_size=3, unique=True), max_size=4)


def held(documents: dict[str, list[str]]) -> dict[str, list[StoredPassage]]:
    return {
        key: [StoredPassage(Passage(text, f"{key}#{text}", "", Source(key)), key, "hash") for text in texts]
        for key, texts in documents.items()
    }


def encoded(contents: Contents) -> Contents:
    return Contents(tuple(StoredPassage(p.passage, p.file, p.file_hash, p.passage.text) for p in contents.passages))


@given(st.lists(DOCUMENTS, min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_what_a_store_holds_is_decided_by_its_documents_alone(history):
    contents = Contents()
    for documents in history:
        changes = Changes.between(contents, held(documents))
        before, after = contents.by_document(), held(documents)
        assert set(changes.added) == after.keys() - before.keys()
        assert set(changes.removed) == before.keys() - after.keys()
        old = {text for passages in before.values() for text in (p.passage.text for p in passages)}
        new = {text for texts in documents.values() for text in texts}
        assert set(changes.to_encode) == new - old
        assert set(changes.dropped) == old - new
        contents = encoded(changes.after)
    assert contents == encoded(Changes.between(Contents(), held(history[-1])).after)
