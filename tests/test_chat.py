"""Augmentation through a server: many passages at once, whatever the server does, and nothing is paid for twice."""

import json
import time
from pathlib import Path

import pytest
import yaml

from chat_server import ChatServer
from prag_lightning.augment import AugmentSettings, ChatAugmenter, ChatSettings, Failures
from prag_lightning.cli.entry import main
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError, PragError
from prag_lightning.journal import Journal

PROMPTS = PromptTemplates.load(Path(__file__).parent.parent / "configs/prompts/default.yaml")
PASSAGES = [f"passage {i}" for i in range(6)]


def make_augmenter(url, folder, settings=None, **chat):
    chat = {"max_retries": 3, "timeout": 5.0, "concurrency": 4} | chat
    settings = settings or AugmentSettings(attempts=3)
    return ChatAugmenter(
        ChatSettings(base_url=url, **chat),
        "some-model",
        PROMPTS,
        settings,
        Journal(folder),
        Failures(folder / "failed.jsonl"),
    )


def test_augments_at_once_and_pays_once(tmp_path):
    with ChatServer() as url:
        server_texts = dict(make_augmenter(url, tmp_path).augment(PASSAGES))
    server = ChatServer()
    with server as url:
        again = dict(make_augmenter(url, tmp_path).augment(PASSAGES))
    assert again == server_texts
    assert server.requests == []
    assert all(len(written.qa) == 3 and written.rewrite.startswith("In other") for written in again.values())
    assert [pair.answer for pair in again[PASSAGES[0]].qa] == ["0", "1", "2"]


def test_requests_carry_settings_and_key_and_at_most_so_many_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    server = ChatServer()
    with server as url:
        settings = AugmentSettings(temperature=0.5, augment_max_new_tokens=99, constrained=True)
        augmenter = make_augmenter(
            url, tmp_path, settings, api_key_env="MY_KEY", concurrency=2, extra_body={"top_k": 50}
        )
        list(augmenter.augment(PASSAGES))
    assert server.most_at_once == 2
    bodies = [body for body, _ in server.requests]
    assert all((body["temperature"], body["max_tokens"], body["top_k"]) == (0.5, 99, 50) for body in bodies)
    assert len({body["seed"] for body in bodies}) == len(bodies)
    assert sum("response_format" in body for body in bodies) == len(PASSAGES)
    assert {headers["authorization"] for _, headers in server.requests} == {"Bearer sk-secret"}
    assert "sk-secret" not in "".join(path.read_text() for path in tmp_path.iterdir())


@pytest.mark.parametrize("misbehaviour", [429, 500, 503, "cut", "hang", "garbage", "empty", "nonsense", "length"])
def test_a_server_that_misbehaves_now_and_then_is_asked_again(tmp_path, misbehaviour):
    with ChatServer(lambda number, body: misbehaviour if number in (1, 6) else None) as url:
        augmenter = make_augmenter(url, tmp_path, timeout=0.5)
        written = dict(augmenter.augment(PASSAGES))
    assert all(each is not None for each in written.values())
    if misbehaviour != "nonsense":
        assert all(each.rewrite.startswith("In other words") for each in written.values())


@pytest.mark.parametrize(
    ("misbehaviour", "error", "message"),
    [
        (401, InputError, r"refuses the key.*OPENAI_API_KEY"),
        (404, InputError, r"no such model or path.*some-model"),
        (400, InputError, r"refuses the request"),
        (500, PragError, r"does not answer"),
        (429, PragError, r"does not answer"),
        ("hang", PragError, r"does not answer"),
        ("cut", PragError, r"does not answer"),
    ],
)
def test_a_server_that_is_of_no_use_is_named_and_what_is_finished_is_kept(tmp_path, misbehaviour, error, message):
    with ChatServer(lambda number, body: misbehaviour if "passage 5" in str(body) else None) as url:
        augmenter = make_augmenter(url, tmp_path, timeout=0.3, max_retries=1, concurrency=1)
        if misbehaviour == 400:
            augmenter = make_augmenter(url, tmp_path / "fresh", max_retries=1)
            with pytest.raises(error, match=message):
                list(augmenter.augment(PASSAGES[5:]))
            return
        with pytest.raises(error, match=message) as caught:
            list(augmenter.augment([*PASSAGES[:5], PASSAGES[5]]))
    assert "kept" in str(caught.value)
    server = ChatServer()
    with server as url:
        dict(make_augmenter(url, tmp_path).augment(PASSAGES))
    asked = {passage for passage in PASSAGES for body, _ in server.requests if passage in str(body)}
    assert PASSAGES[5] in asked
    assert len(asked) < len(PASSAGES)


def test_an_absent_server_is_named(tmp_path):
    with pytest.raises(PragError, match=r"does not answer: Connection error.*127\.0\.0\.1:9"):
        list(make_augmenter("http://127.0.0.1:9/v1", tmp_path, max_retries=0).augment(PASSAGES))


def test_a_passage_that_the_server_refuses_is_given_up_for_this_run(tmp_path):
    def misbehave(number, body):
        return 400 if "passage 3" in str(body) else None

    with ChatServer(misbehave) as url:
        augmenter = make_augmenter(url, tmp_path, concurrency=1)
        list(augmenter.augment(PASSAGES[:1]))
        written = dict(augmenter.augment(PASSAGES))
        assert [passage for passage, each in written.items() if each is None] == ["passage 3"]
        assert dict(augmenter.failures.reasons) == {"the server refused the passage": 1}
    with ChatServer() as url:
        assert dict(make_augmenter(url, tmp_path).augment(["passage 3"]))["passage 3"] is not None


def test_replies_without_pairs_are_bounded(tmp_path):
    server = ChatServer(lambda number, body: "nonsense")
    with server as url:
        augmenter = make_augmenter(url, tmp_path)
        assert dict(augmenter.augment(["one"])) == {"one": None}
    assert len(server.requests) == 1 + 3
    assert dict(augmenter.failures.reasons) == {"no list in the reply": 3}


def test_the_rate_is_limited(tmp_path):
    server = ChatServer()
    with server as url:
        started = time.monotonic()
        augmenter = make_augmenter(url, tmp_path, requests_per_minute=8)
        augmented = augmenter.augment(PASSAGES)
        for _ in range(4):
            next(augmented)
        augmented.close()
    assert len(server.requests) <= 8 + 8 * (time.monotonic() - started) / 60 + 1


def test_prag_augments_through_a_server(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    (tmp_path / "corpus.tsv").write_text("id\ttext\ttitle\n1\tAda is a baker\tAda\n2\tBo is a sailor\tBo\n")
    (tmp_path / "own.json").write_text(json.dumps([{"question": "Who is a baker?", "answer": "Ada"}]))
    config = {
        "model": {"model_name": "unused"},
        "data": {
            "dataset": "own",
            "data_path": str(tmp_path / "own.json"),
            "corpus": str(tmp_path / "corpus.tsv"),
            "augment_root": str(tmp_path / "aug"),
            "augment_model": "some-model",
            "topk": 1,
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with ChatServer() as url:
        assert main(["augment", "--config", str(tmp_path / "config.yaml"), "--data.chat.base_url", url]) == 0
    (record,) = json.loads((tmp_path / "aug/own/some-model/own.json").read_text())
    assert record["augment"][0]["passage"] == "Ada is a baker"
    assert "sk-secret" not in capsys.readouterr().out
    config["data"]["augment_model"] = None
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["augment", "--config", str(tmp_path / "config.yaml"), "--data.chat.base_url", url]) == 2
    assert "data.augment_model" in capsys.readouterr().err
