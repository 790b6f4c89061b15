"""Several stages in one Python process: each sees what the one before it wrote."""

import json
from pathlib import Path

import pytest

from chat_server import ChatServer
from prag_lightning import PragDataModule, PragModule, PragTrainer
from prag_lightning.commands.plan import plan
from prag_lightning.errors import InputError
from prag_lightning.lightning.module import pipeline_of
from prag_lightning.pipeline.data import ExperimentData
from prag_lightning.pipeline.settings import DataSettings, ModelSettings
from tiny_llm import save_random_llm

PROMPTS = str(Path(__file__).parent.parent / "configs/prompts/default.yaml")
WORDS = ["red fox", "blue bird", "old tree", "grey stone"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Four questions and a corpus with a passage for each; the working directory."""
    monkeypatch.chdir(tmp_path)
    questions = [{"question": f"Where is the {words}?", "answer": words} for words in WORDS]
    (tmp_path / "questions.json").write_text(json.dumps(questions), encoding="utf-8")
    rows = [f"{i}\tThe {words} is here.\t{words}" for i, words in enumerate(WORDS)]
    (tmp_path / "corpus.tsv").write_text("\n".join(["id\ttext\ttitle", *rows]) + "\n", encoding="utf-8")
    save_random_llm(tmp_path / "llm")
    return tmp_path


def modules(url: str, **data) -> tuple[PragTrainer, PragModule, PragDataModule]:
    model = PragModule("llm", offline_root="offline", output_root="output", max_new_tokens=4)
    from prag_lightning.augment import ChatSettings

    data_module = PragDataModule(
        "toy",
        data_path="questions.json",
        corpus="corpus.tsv",
        augment_root="aug",
        augment_model="writer",
        prompts=PROMPTS,
        topk=1,
        chat=ChatSettings(base_url=url),
        **data,
    )
    return PragTrainer(logger=False, accelerator="cpu"), model, data_module


def test_plan_augment_fit_and_test_in_one_process_work_on_all_questions(folder):
    with ChatServer() as url:
        trainer, model, data = modules(url, sample=2)
        trainer.augment(model, data)
        trainer, model, data = modules(url)
        stages = plan(pipeline_of(trainer, model.settings, data.data), measure=False)
        assert [(stage.stage, stage.done, stage.todo) for stage in stages] == [
            ("augment", 2, 2),
            ("fit", 0, 4),
            ("test", 0, 4),
        ]
        trainer.augment(model, data)
    trainer.fit(model, data)
    trainer.test(model, data)
    (predictions,) = (folder / "output").rglob("predict.json")
    assert [row["test_id"] for row in json.loads(predictions.read_text(encoding="utf-8"))] == [0, 1, 2, 3]
    assert len(list((folder / "offline").rglob("passage_*"))) == 4
    stages = plan(pipeline_of(trainer, model.settings, data.data, model.pipeline.llm), measure=False)
    assert [(stage.done, stage.todo) for stage in stages] == [(4, 0)] * 3


def test_a_second_fit_of_the_same_trainer_encodes_what_is_new(folder):
    with ChatServer() as url:
        trainer, model, data = modules(url, sample=2)
        trainer.augment(model, data)
        trainer.fit(model, data)
        _, _, more = modules(url)
        trainer.augment(model, more)
    trainer.fit(model, more)
    assert len(list((folder / "offline").rglob("passage_*"))) == 4


def test_data_say_what_they_lack(folder):
    data = ExperimentData(DataSettings("toy", prompts=PROMPTS))
    with pytest.raises(InputError, match=r"no model is named .*model_name"):
        data.records()
    with pytest.raises(InputError, match=r"nothing to retrieve from"):
        data.retriever  # noqa: B018


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_rank": 0}, "lora_rank is 0"),
        ({"group_tokens": 0}, "group_tokens is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"merge": "product"}, "merge is 'product'"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        ModelSettings("llm", **settings)


def test_one_question_has_no_other_whose_adapters_could_be_a_control(folder):
    with ChatServer() as url:
        trainer, _, data = modules(url, sample=1)
        model = PragModule("llm", offline_root="offline", output_root="output", adapters_from="other")
        trainer.augment(model, data)
    trainer.fit(model, data)
    with pytest.raises(InputError, match="no other question"):
        trainer.test(model, data)
