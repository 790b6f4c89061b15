"""Augmented files know what made them: other settings, writers, questions, answers and passages are noticed, and made
good at the price of what changed."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from chat_server import ChatServer
from prag_lightning.cli.entry import main
from tiny_llm import save_random_llm

PASSAGES = {
    "1": "Ada Lund is a baker in Tandale.",
    "2": "Bo Rask is a sailor from Eastham.",
    "3": "Cleo Mirn wrote The Silent Harbour.",
    "4": "Dan Orre paints bridges at night.",
}
QUESTIONS = [
    {"question": "Where does Ada Lund bake?", "answer": "Tandale"},
    {"question": "Where is the sailor Bo Rask from?", "answer": ["Eastham", "East Ham"]},
    {"question": "What did Cleo Mirn write?", "answer": "The Silent Harbour"},
]
REQUESTS_A_PASSAGE = 2


class Experiment:
    """Questions, a corpus and a configuration in a folder, with a server that writes."""

    def __init__(self, folder: Path, model: Path, server: ChatServer, url: str) -> None:
        self.folder, self.server = folder, server
        self.questions, self.passages = [dict(row) for row in QUESTIONS], dict(PASSAGES)
        self.file = folder / "aug/own/writer/own.json"
        data = {
            "dataset": "own",
            "data_path": str(folder / "own.json"),
            "corpus": str(folder / "corpus.tsv"),
            "augment_root": str(folder / "aug"),
            "augment_model": "writer",
            "topk": 1,
            "chat": {"base_url": url},
        }
        settings = {
            "model": {
                "model_name": str(model),
                "inference_method": "icl",
                "output_root": str(folder / "out"),
                "offline_root": str(folder / "offline"),
            },
            "data": data,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")

    def run(self, stage: str, *settings: str) -> int:
        """Run a stage on the questions and passages as they are now; gives how often the server was asked, and -1 for
        a refusal."""
        (self.folder / "own.json").write_text(json.dumps(self.questions), encoding="utf-8")
        rows = "".join(f"{key}\t{text}\t\n" for key, text in self.passages.items())
        (self.folder / "corpus.tsv").write_text(f"id\ttext\ttitle\n{rows}", encoding="utf-8")
        before = len(self.server.requests)
        quiet = ["--trainer.logger=false"] if stage in ("fit", "test") else []
        code = main([stage, "--config", str(self.folder / "config.yaml"), *quiet, *settings])
        assert code in (0, 2)
        return -1 if code else len(self.server.requests) - before

    def records(self) -> list[dict]:
        return json.loads(self.file.read_text(encoding="utf-8"))

    def asked(self) -> dict[str, str]:
        """The passage of each question in the augmented file."""
        return {record["question"]: record["passages"][0] for record in self.records()}


def with_retriever(folder: Path, name: str, **arguments: object) -> str:
    """Settings for a retriever, in a file."""
    retriever = {"class_path": f"prag_lightning.retrieval.{name}", "init_args": arguments}
    (folder / "retriever.yaml").write_text(yaml.safe_dump({"data": {"retriever": retriever}}), encoding="utf-8")
    return f"--config={folder / 'retriever.yaml'}"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_random_llm(tmp_path_factory.mktemp("llm") / "random")


@pytest.fixture
def experiment(tmp_path, model):
    server = ChatServer()
    with server as url:
        yield Experiment(tmp_path, model, server, url)


def test_a_finished_file_is_left_alone(experiment, capsys):
    assert experiment.run("augment") == 3 * REQUESTS_A_PASSAGE
    assert "0% of 9 answers stand in their passages" in (out := capsys.readouterr()).out
    assert "warning: most answers" in out.err
    before = {path: path.stat().st_mtime_ns for path in experiment.folder.glob("aug/**/*.json")}
    assert experiment.run("augment") == 0
    assert "already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in experiment.folder.glob("aug/**/*.json")}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("--data.augment.seed=7", "seed 42, not 7"),
        ("--data.augment.temperature=0", "temperature 0.7, not 0"),
        ("--data.augment.qa_per_passage=2", "qa_per_passage 3, not 2"),
        ("--data.augment.constrained=true", "constrained False, not True"),
        ("--data.chat.model=other", "the writer writer, not other"),
        ("--data.chat.extra_body={top_k: 5}", "extra_body"),
        ("--data.prompts=prompts.yaml", "other prompts"),
        ("--config=retriever.yaml", "another retriever"),
    ],
)
def test_other_settings_than_the_files_are_noticed(experiment, capsys, monkeypatch, setting, words):
    monkeypatch.chdir(experiment.folder)
    prompts = Path(__file__).parent.parent / "configs/prompts/default.yaml"
    changed = prompts.read_text(encoding="utf-8").replace("Rewrite the passage", "Write the passage anew")
    (experiment.folder / "prompts.yaml").write_text(changed, encoding="utf-8")
    with_retriever(experiment.folder, "RankBM25Retriever", corpus="corpus.tsv", k1=1.2)
    experiment.run("augment")
    first = experiment.file.read_bytes()
    capsys.readouterr()
    assert experiment.run("augment", setting) == -1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("prag: error:"))
    assert words in line
    assert "data.augment.on_mismatch" in line
    assert experiment.run("plan", setting, "--measure=false") == 0
    assert words in " ".join(capsys.readouterr().out.split())
    assert experiment.run("test", setting) == 0
    assert words in capsys.readouterr().err

    assert experiment.run("augment", setting, "--data.augment.on_mismatch=keep") == 0
    assert experiment.file.read_bytes() == first
    again = 0 if "retriever" in setting else 3 * REQUESTS_A_PASSAGE
    assert experiment.run("augment", setting, "--data.augment.on_mismatch=renew") == again
    assert experiment.run("augment", setting) == 0
    assert experiment.run("augment") == -1
    assert experiment.run("augment", "--data.augment.on_mismatch=renew") == 0
    assert experiment.file.read_bytes() == first


def test_a_kept_file_is_completed_and_then_is_of_both_recipes(experiment):
    experiment.run("augment", "--data.sample=2")
    assert experiment.run("augment", "--data.augment.seed=7") == -1
    assert experiment.run("augment", "--data.augment.seed=7", "--data.augment.on_mismatch=keep") == REQUESTS_A_PASSAGE
    assert experiment.run("augment", "--data.augment.seed=7") == 0
    assert experiment.run("augment") == 0
    assert experiment.run("augment", "--data.augment.seed=8") == -1


def test_a_corrected_gold_answer_is_scored_against_and_costs_nothing(experiment, capsys):
    experiment.run("augment")
    experiment.questions[0]["answer"] = "Eastham"
    assert experiment.run("plan", "--measure=false") == 0
    assert "1 gold answer was corrected" in " ".join(capsys.readouterr().out.split())
    assert experiment.run("test") == 0
    assert "1 gold answer was corrected" in capsys.readouterr().err
    (path,) = experiment.folder.glob("out/**/predict.json")
    assert json.loads(path.read_text(encoding="utf-8"))[0]["answer"] == "Eastham"
    assert experiment.run("augment") == 0
    assert "mended: 1 gold answer was corrected" in capsys.readouterr().out
    assert experiment.records()[0]["answer"] == "Eastham"
    assert experiment.run("test") == 0
    assert "corrected" not in capsys.readouterr().err


def test_edited_added_and_deleted_questions_cost_their_new_passages_alone(experiment, capsys):
    experiment.run("augment")
    edited = {"question": "What does Dan Orre paint at night?", "answer": "bridges"}
    added = {"question": "What is Bo Rask?", "answer": "sailor"}
    experiment.questions = [added, experiment.questions[2], edited]
    assert experiment.run("plan", "--measure=false") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "augment 2 1 passages" in words
    assert "2 questions were edited" in words or "1 question was edited" in words
    assert experiment.run("augment") == REQUESTS_A_PASSAGE
    assert "mended" in capsys.readouterr().out
    assert experiment.asked() == {
        "What is Bo Rask?": PASSAGES["2"],
        "What did Cleo Mirn write?": PASSAGES["3"],
        "What does Dan Orre paint at night?": PASSAGES["4"],
    }
    assert [record["test_id"] for record in experiment.records()] == [0, 1, 2]
    assert experiment.run("augment") == 0
    assert "already" in capsys.readouterr().out


@pytest.mark.parametrize("index", [False, True])
def test_edited_added_and_deleted_passages_cost_what_changed_alone(experiment, capsys, index):
    settings = ()
    if index:
        folder = experiment.folder
        settings = (
            with_retriever(folder, "BM25sRetriever", corpus=str(folder / "corpus.tsv"), index=str(folder / "i")),
        )
        experiment.run("index", *settings)
    experiment.run("augment", *settings)
    experiment.passages["1"] = "Ada Lund is a baker in Eastham."
    experiment.passages["5"] = "Where the sailor Bo Rask is from: the sailor Bo Rask is from Eastham."
    del experiment.passages["4"]
    if index:
        experiment.run("index", *settings)
    assert experiment.run("plan", "--measure=false", *settings) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "augment 1 2 passages" in words
    assert "the corpus has changed" in words
    assert experiment.run("test", *settings) == 0
    assert "the corpus has changed" in capsys.readouterr().err
    assert experiment.run("augment", *settings) == 2 * REQUESTS_A_PASSAGE
    assert list(experiment.asked().values()) == [experiment.passages[key] for key in "153"]
    assert experiment.run("augment", *settings) == 0
    assert "already" in capsys.readouterr().out


def test_a_part_of_the_questions_leaves_the_corpus_of_the_others_open(experiment):
    experiment.run("augment")
    experiment.passages["1"], experiment.passages["2"] = "Ada Lund bakes in Sund.", "Bo Rask is a sailor from Sund."
    assert experiment.run("augment", "--data.sample=1") == REQUESTS_A_PASSAGE
    assert experiment.run("augment") == REQUESTS_A_PASSAGE
    assert list(experiment.asked().values()) == [experiment.passages[key] for key in "123"]


def test_a_file_of_other_software_is_read_as_it_is(experiment, capsys):
    experiment.run("augment")
    shutil.rmtree(experiment.file.parent / "made_by")
    published = experiment.file.read_text(encoding="utf-8").replace("Tandale", "Elsewhere", 1)
    experiment.file.write_text(published, encoding="utf-8")
    experiment.passages["1"] = "Ada Lund is a baker in Eastham."
    assert experiment.run("augment", "--data.augment.seed=7") == 0
    assert experiment.run("test") == 0
    assert "1 of its gold answers are not the dataset's" in capsys.readouterr().err
    assert experiment.file.read_text(encoding="utf-8") == published
    experiment.questions[0]["question"] = "Who are you?"
    assert experiment.run("augment") == -1
    assert "made from another dataset" in capsys.readouterr().err


def local(experiment, folder: Path) -> tuple[str, ...]:
    """Settings that let a model of a folder write, whatever it writes."""
    settings = ("--data.chat=null", f"--data.augment_model={folder}", "--data.augment.augment_max_new_tokens=4")
    return (*settings, "--data.augment.attempts=1")


def test_models_of_one_last_name_share_nothing(experiment, capsys):
    root = experiment.folder
    for seed, name in enumerate(("a/final", "b/final", "a/mine", "b/mine")):
        save_random_llm(root / name, seed=seed)
    for name in ("a/final", "b/final"):
        assert experiment.run("augment", *local(experiment, root / name)) == 0
    assert len(list(root.glob("aug/own/final-*/own.json"))) == 2
    shutil.copytree(root / "a/final", root / "moved/final")
    assert experiment.run("augment", *local(experiment, root / "moved/final")) == 0
    assert len(list(root.glob("aug/own/final-*/own.json"))) == 2

    assert experiment.run("augment", *local(experiment, root / "a/mine")) == 0
    capsys.readouterr()
    assert experiment.run("augment", *local(experiment, root / "b/mine")) == -1
    assert "other weights of the writer" in capsys.readouterr().err
    shutil.rmtree(root / "b/mine")
    shutil.copytree(root / "a/mine", root / "b/mine")
    assert experiment.run("augment", *local(experiment, root / "b/mine")) == 0
