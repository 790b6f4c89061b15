"""The server, through its own door: a process that clients ask over HTTP."""

import json
import os
import random
import re
import signal
import socket
import string
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prag_lightning.cli.entry import main
from prag_lightning.inference.confidence import answer_part
from serving import DEMO, QUESTION, Served, make_store
from tiny_llm import save_random_llm
from toy import EXPERIMENT, RECORDS, write_experiment

ROOT = Path(__file__).parent.parent
HANDBOOK = {
    "helstead.md": "# Helstead\n\nNadia Trancott heads the council of Helstead. It belongs to Nordelia.",
    "dorden.txt": "New Dorden is led by mayor Yuri Selbeck. In the north of Lumeria lies New Dorden.",
    "paula.txt": "Paula Kersworth worked as a astronomer. She came into the world in High Kalham.",
}
METHODS = ("vanilla", "icl", "prag", "combine")


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory) -> Path:
    """A folder with a store of three documents on the embedded model."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "handbook").mkdir()
    for name, text in HANDBOOK.items():
        (folder / "handbook" / name).write_text(text)
    make_store(folder, "handbook")
    return folder


@pytest.fixture(scope="module")
def store(store_folder):
    """A server over that store."""
    with Served(store_folder, "--store=memory") as served:
        yield served


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory) -> Path:
    """A folder with an experiment whose questions `prag test` has answered by each method."""
    folder = tmp_path_factory.mktemp("toy")
    config = write_experiment(folder, save_random_llm(folder / "random"))
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(["fit", "--config", str(config)]) == 0
        for method in METHODS:
            assert main(["test", "--config", str(config), f"--model.inference_method={method}"]) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def toy(toy_folder):
    """A server of that experiment."""
    with Served(toy_folder, "--config=toy.yaml", "--max_num_seqs=5") as served:
        yield served


def predicted(folder: Path, method: str) -> list[dict]:
    """What `prag test` says of the toy's questions."""
    (path,) = (folder / "output" / EXPERIMENT.parent).rglob(f"*{method}*/**/predict.json")
    return json.loads(path.read_text())


def passages_of(number: int) -> list[str]:
    """The ids that a toy question's passages have in the corpus."""
    texts = list(dict.fromkeys(text for record in RECORDS for text in record["passages"]))
    return [str(texts.index(text) + 1) for text in RECORDS[number]["passages"]]


# Answers


def test_replies_are_those_of_prag_test_letter_by_letter_however_many_are_asked_at_once(toy, toy_folder):
    wanted = {}
    for method in METHODS:
        for row in predicted(toy_folder, method):
            wanted[method, row["test_id"]] = row["text"].strip()
    asked = [each for each in wanted for _ in range(8)]
    random.Random(0).shuffle(asked)

    def reply(each) -> tuple[object, str]:
        method, number = each
        options = {"extract": False} if method == "vanilla" else {"extract": False, "passages": passages_of(number)}
        found = toy.ask(f"Question {number}?", method, prag=options)
        return each, found["choices"][0]["message"]["content"]

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(reply, asked))
    assert [(each, text) for each, text in replies if text != wanted[each]] == []
    assert len({text for _, text in replies}) > 6


@pytest.mark.parametrize("method", METHODS)
def test_the_official_client_gets_what_prag_ask_says_whole_and_in_pieces(
    method, store, store_folder, capsys, monkeypatch
):
    monkeypatch.chdir(store_folder)
    assert main(["ask", "--store=memory", f"--model.inference_method={method}", "--json", QUESTION]) == 0
    wanted = json.loads(capsys.readouterr().out)
    client, messages = store.client(), [{"role": "user", "content": QUESTION}]
    model = f"{store.name}:{method}"
    whole = client.chat.completions.create(model=model, messages=messages)
    assert whole.choices[0].message.content == wanted["answer"]
    evidence = whole.model_extra["prag"]
    assert evidence["method"] == method
    assert [p["id"] for p in evidence["passages"]] == [p["id"] for p in wanted["passages"]]
    if method != "vanilla":
        assert evidence["passages"][0]["document"] == "handbook/helstead.md"
        assert evidence["passages"][0]["line"] == 3
        assert evidence["passages"][0]["score"] == pytest.approx(wanted["passages"][0]["score"])
    chunks = list(
        client.chat.completions.create(
            model=model, messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == wanted["answer"]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].model_extra["prag"]["passages"] == evidence["passages"]


def test_the_plain_model_chats_and_continues(store):
    client = store.client()
    chat = client.chat.completions.create(
        model=store.name,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        max_completion_tokens=3,
    )
    assert chat.choices[0].finish_reason == "length"
    assert chat.usage.completion_tokens == 3
    assert "prag" not in chat.model_extra
    one = client.completions.create(model=store.name, prompt="Helstead is", max_tokens=4)
    several = client.completions.create(model=store.name, prompt=["Helstead is", "Paula"], max_tokens=4)
    assert several.choices[0].text == one.choices[0].text
    assert [choice.index for choice in several.choices] == [0, 1]
    streamed = client.completions.create(model=store.name, prompt=["Helstead is", "Paula"], max_tokens=4, stream=True)
    texts = ["", ""]
    for chunk in streamed:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in several.choices]


def test_a_question_may_be_a_completions_prompt(store):
    reply = store.client().completions.create(model=f"{store.name}:prag", prompt=QUESTION)
    assert reply.choices[0].text == store.ask()["choices"][0]["message"]["content"] == "Nordelia"


def test_the_same_seed_draws_the_same_and_stops_are_left_out(store):
    ask = store.client().completions.create
    asked = {"model": store.name, "prompt": "Helstead is", "max_tokens": 12, "temperature": 1.0}
    drawn = [ask(**asked, seed=seed).choices[0].text for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    greedy = ask(model=store.name, prompt="Helstead is", max_tokens=12)
    text = greedy.choices[0].text
    stop = text[len(text) // 2 :][:2]
    cut = ask(model=store.name, prompt="Helstead is", max_tokens=12, stop=[stop, "never"])
    assert cut.choices[0].text == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    pieces = ask(model=store.name, prompt="Helstead is", max_tokens=12, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in pieces) == cut.choices[0].text


def test_options_choose_passages_their_merge_and_their_strength(store, toy):
    named = store.ask(prag={"passages": [store.ask("Who leads New Dorden?")["prag"]["passages"][0]["id"]]})
    assert named["prag"]["passages"][0]["document"] == "handbook/dorden.txt"
    assert store.ask(prag={"scale": 0})["choices"] != store.ask()["choices"]
    assert store.ask(prag={"scale": 0})["choices"] == store.ask(method="vanilla")["choices"]
    assert len(store.ask(prag={"topk": 2})["prag"]["passages"]) >= 1
    ids = passages_of(0)
    merged = {
        merge: toy.ask("Question 0?", prag={"passages": ids, "merge": merge, "extract": False})["choices"]
        for merge in ("sum", "mean")
    }
    assert merged["sum"] == toy.ask("Question 0?", prag={"passages": ids, "extract": False})["choices"]
    assert merged["mean"] == toy.ask("Question 0?", prag={"passages": ids, "scale": 1 / 3, "extract": False})["choices"]
    method = {"model": store.name, "messages": [{"role": "user", "content": QUESTION}], "prag": {"method": "icl"}}
    assert store.send("POST", "/v1/chat/completions", method)[1]["choices"] == store.ask(method="icl")["choices"]


def test_a_follow_up_is_found_by_what_it_refers_to_and_a_new_subject_by_itself(store):
    def documents(*turns: str) -> list[str]:
        roles = ("user", "assistant", "user")
        messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]
        body = {"model": f"{store.name}:icl", "messages": messages}
        status, reply = store.send("POST", "/v1/chat/completions", body)
        assert status == 200, reply
        return [passage["document"] for passage in reply["prag"]["passages"]]

    assert documents(QUESTION, "Nordelia", "And who heads its council?") == ["handbook/helstead.md"]
    assert documents("Who leads New Dorden?", "Yuri Selbeck", "What lies in the north?") == ["handbook/dorden.txt"]
    assert documents(QUESTION, "Nordelia", "Where was Paula Kersworth born?") == ["handbook/paula.txt"]


def test_a_passage_that_is_not_encoded_is_encoded_while_others_are_answered(tmp_path):
    """The demo's own corpus, of which nothing is encoded yet."""
    with Served(tmp_path, f"--config={DEMO}") as served:
        served.ask(method="icl")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(served.ask)
            answered = 0
            while not waiting.done():
                assert served.ask(method="icl")["choices"][0]["message"]["content"] == "Nordelia"
                answered += not waiting.done()
            reply = waiting.result()
        assert answered > 2
        assert reply["choices"][0]["message"]["content"] == "Nordelia"
        assert reply["prag"]["encoded"] == 1
        assert served.ask()["prag"]["encoded"] == 0


# What cannot be


def refused(served: Served, body: object, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, str]:
    status, reply = served.send("POST", path, body, headers)
    error = reply["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status, error["message"]


def test_what_cannot_be_asked_is_said_in_the_shape_of_openai(store):
    user = [{"role": "user", "content": QUESTION}]
    chat = {"model": f"{store.name}:prag", "messages": user}
    for status, body, message in (
        (404, chat | {"model": "gpt-4"}, f"there is no model 'gpt-4'. Take one of {store.name}"),
        (400, b"{", "no JSON"),
        (400, b"[1]", "no JSON object"),
        (400, b"\xff", "no JSON"),
        (400, b'{"model": NaN}', "model"),
        (400, b"[" * 100_000, "no JSON"),
        (400, chat | {"messages": []}, "messages"),
        (400, chat | {"messages": [{"role": "user", "content": ""}]}, "the question is empty"),
        (
            400,
            chat | {"messages": [*user, {"role": "assistant", "content": "x"}]},
            "the last message is not the user's",
        ),
        (400, chat | {"messages": [{"role": "pope", "content": "x"}]}, "messages.0.role"),
        (400, chat | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        (400, chat | {"temperature": -1}, "temperature"),
        (400, chat | {"temperature": "1"}, "temperature"),
        (400, chat | {"max_tokens": 0}, "max_tokens"),
        (400, chat | {"max_tokens": 10**6}, "leaves no room for 1000000 more in the model's context of 1024"),
        (400, chat | {"n": 2}, "n is not supported here"),
        (400, chat | {"logprobs": True}, "logprobs is not supported here"),
        (400, chat | {"tools": [{}]}, "tools is not supported here"),
        (400, chat | {"temprature": 1}, "temprature"),
        (400, chat | {"prag": {"topk": 0}}, "prag.topk"),
        (400, chat | {"prag": {"merge": "max"}}, "prag.merge"),
        (400, chat | {"prag": {"method": "icl"}}, "prag.method is icl, and the model"),
        (400, chat | {"model": store.name, "prag": {"topk": 1}}, "is the plain model"),
        (404, chat | {"prag": {"passages": ["../../etc/passwd"]}}, "there is no passage '../../etc/passwd'"),
        (400, chat | {"messages": [{"role": "user", "content": "word " * 5000}]}, "leaves no room"),
    ):
        assert refused(store, body)[0] == status, body
        assert message in refused(store, body)[1]
    assert refused(store, {"model": store.name, "prompt": [10**9]}, "/v1/completions")[0] == 400
    assert refused(store, {"model": store.name, "prompt": []}, "/v1/completions")[0] == 400
    assert refused(store, chat, **{"content-type": "text/plain"})[0] == 415
    assert refused(store, b" " * 20_000_000)[0] == 413
    assert refused(store, chat, "/v1/chat")[0] == 404
    assert store.send("GET", "/v1/chat/completions")[0] == 405
    assert store.send("GET", "/v1/models", headers={"host": "evil.example"})[0] == 400
    assert store.ask()["choices"][0]["message"]["content"] == "Nordelia"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = (
    "model messages prompt max_tokens temperature top_p seed stop stream stream_options n prag user echo tools id text "
    "title logit_bias response_format"
).split()


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=st.dictionaries(st.sampled_from(NAMES), json_values, max_size=6)
    | st.builds(
        lambda more: (
            {"model": "prag-tiny:icl", "messages": [{"role": "user", "content": "Who?"}], "max_tokens": 1} | more
        ),
        st.dictionaries(st.sampled_from(NAMES), json_values, max_size=2),
    )
    | st.binary(max_size=60),
    path=st.sampled_from(["/v1/chat/completions", "/v1/completions", "/v1/documents?wait=x", "/v1/documents/%00/../x"]),
    method=st.sampled_from(["POST", "POST", "POST", "DELETE", "PUT"]),
)
def test_no_malformed_request_fails_or_hangs(store, body, path, method):
    status, reply = store.send(method, path, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert status == 200 or (400 <= status < 500 and reply["error"]["message"]), (status, reply)


def test_a_key_is_asked_for_where_one_is_set(store_folder):
    with Served(store_folder, "--store=memory", PRAG_API_KEY="sesame") as served:
        with pytest.raises(openai.AuthenticationError, match="the API key is missing or wrong"):
            served.client("wrong").models.list()
        assert served.send("GET", "/v1/documents")[0] == 401
        assert served.send("GET", "/health")[0] == 200
        assert served.client("sesame").models.list().data[0].id == served.name


def test_an_unsure_answer_is_not_given_and_nothing_of_it_is_told(store_folder):
    with Served(store_folder, "--store=memory", "--model.abstain_below=-0.3") as served:
        sure, unsure = served.ask(), served.ask("How high is the highest tower of Helstead?")
        assert (sure["choices"][0]["message"]["content"], sure["prag"]["abstained"]) == ("Nordelia", False)
        assert unsure["prag"]["log_probability"] < -0.3 < sure["prag"]["log_probability"] <= 0
        assert (unsure["choices"][0]["message"]["content"], unsure["prag"]["abstained"]) == ("I don't know.", True)
        chunks = served.client().chat.completions.create(
            model=f"{served.name}:prag",
            messages=[{"role": "user", "content": "How high is the highest tower of Helstead?"}],
            stream=True,
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "I don't know."


# Documents


def test_documents_come_and_go_while_it_serves(store):
    text = "Selma Drumkin was born in the year 1960. She worked as a sailor. She grew up in North Dorminster."
    question = "What did Selma Drumkin do for a living?"
    status, added = store.send("POST", "/v1/documents?wait=60", {"id": "people/selma", "text": text, "title": "Selma"})
    assert (status, added["status"], added["passages"]) == (200, "completed", 1)
    listed = store.send("GET", "/v1/documents")[1]["data"]
    assert [document["id"] for document in listed] == sorted(
        [*(f"handbook/{name}" for name in HANDBOOK), "people/selma"]
    )
    reply = store.ask(question)
    assert reply["choices"][0]["message"]["content"] == "sailor"
    assert reply["prag"]["passages"][0]["document"] == "people/selma"
    status, gone = store.send("DELETE", f"/v1/documents/{quote('people/selma')}?wait=60")
    assert (status, gone["deleted"]) == (200, True)
    assert store.send("GET", "/v1/documents/people/selma")[0] == 404
    assert store.send("DELETE", "/v1/documents/people/selma")[0] == 404
    assert all(p["document"] != "people/selma" for p in store.ask(question)["prag"]["passages"])


def test_documents_that_cannot_be(store, toy):
    for body in ({"text": ""}, {"text": " . "}, {"text": "x", "id": "a/"}, {"text": "x", "id": "\0"}, {"text": 1}, {}):
        assert refused(store, body, "/v1/documents")[0] == 400
    assert refused(store, {"text": "x"}, "/v1/documents?wait=never")[0] == 400
    status, reply = toy.send("GET", "/v1/documents")
    assert (status, reply["error"]["code"]) == (404, "no_store")


# Its page of documentation


def test_the_examples_of_the_documentation_run(store, tmp_path):
    page = (ROOT / "docs/serve.md").read_text()
    blocks = re.findall(r"```(bash|python)\n(.*?)```", page, re.DOTALL)
    run = [(kind, code) for kind, code in blocks if "localhost:8000" in code and "langchain" not in code]
    assert len(run) == 3
    told = ""
    for number, (kind, code) in enumerate(run):
        code = code.replace("http://localhost:8000", store.url)
        file = tmp_path / f"block{number}"
        file.write_text(f"set -e\nalias curl='curl -sS'\n{code}" if kind == "bash" else code)
        command = ["bash", "-O", "expand_aliases"] if kind == "bash" else [sys.executable]
        done = subprocess.run([*command, file], cwd=tmp_path, capture_output=True, text=True, check=True)
        told += done.stdout
    assert told.count('"content":"Nordelia"') == 1
    assert "Nordelia\n" in told
    assert '"id":"emma","object":"document","title":"Emma","passages":1,"status":"completed"' in told
    assert '"deleted":true' in told


# Life


def write_slow_model(folder: Path) -> None:
    """An experiment without passages, whose model takes seconds for a long text, and never ends one itself."""
    model = save_random_llm(folder / "random", width=256, layers=8)
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(settings | {"eos_token_id": None}))
    (folder / "config.yaml").write_text(f"model:\n  model_name: {model}\ndata:\n  dataset: none\n")


def test_a_client_that_goes_away_frees_its_place(tmp_path):
    write_slow_model(tmp_path)
    with Served(tmp_path, "--config=config.yaml", "--max_num_seqs=1", "--max_queue=2") as served:
        long = json.dumps({"model": served.name, "prompt": "x", "max_tokens": 2000, "stream": True}).encode()
        address = urlsplit(served.url)
        connections = []
        for _ in range(2):
            connection = HTTPConnection(address.hostname, address.port, timeout=60)
            connection.request("POST", "/v1/completions", long, {"content-type": "application/json"})
            connections.append(connection)
            time.sleep(0.2)
        metrics = served.send("GET", "/metrics")[1]
        assert f'prag:num_requests_running{{model_name="{served.name}"}} 1.0' in metrics
        for connection in connections:
            connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
        started = time.monotonic()
        short = {"model": served.name, "prompt": "x", "max_tokens": 2}
        assert served.send("POST", "/v1/completions", short)[0] == 200
        idle = f'prag:num_requests_running{{model_name="{served.name}"}} 0.0'
        while idle not in (metrics := served.send("GET", "/metrics")[1]):
            assert time.monotonic() - started < 30
        assert f'prag:request_failure_total{{model_name="{served.name}",status="499"}} 2.0' in metrics


def test_too_many_are_told_to_come_again_and_the_end_finishes_what_was_begun(tmp_path):
    write_slow_model(tmp_path)
    with Served(tmp_path, "--config=config.yaml", "--max_num_seqs=1", "--max_queue=1") as served:
        body = {"model": served.name, "prompt": "x", "max_tokens": 300}
        with ThreadPoolExecutor(8) as pool:
            replies = [pool.submit(served.send, "POST", "/v1/completions", body) for _ in range(8)]
            time.sleep(1.0)
            served.process.send_signal(signal.SIGTERM)
            found = [reply.result() for reply in replies]
        statuses = [status for status, _ in found]
        assert 1 <= statuses.count(200) <= 2
        assert statuses.count(429) >= 6
        assert all(reply["choices"][0]["finish_reason"] == "length" for status, reply in found if status == 200)
        assert served.process.wait(60) == 0
        assert "what was taken on is finished first" in served.log.read_text()


def test_a_reply_that_takes_too_long_is_ended(tmp_path):
    write_slow_model(tmp_path)
    with Served(tmp_path, "--config=config.yaml", "--timeout=0.3") as served:
        body = {"model": served.name, "prompt": "x", "max_tokens": 2000}
        assert refused(served, body, "/v1/completions") == (504, "the reply took longer than 0.3 s")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port=70000",), "port is 70000"),
        (("--host=nowhere.invalid",), "there is no address"),
        (("--max_num_seqs=0",), "max_num_seqs is 0"),
        (("--store=nothing",), "there is no store"),
    ],
)
def test_a_server_that_cannot_be_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = () if "--store=nothing" in arguments else (f"--config={DEMO}",)
    assert main(["serve", *config, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_taken_port_is_one_line(store, store_folder, monkeypatch, capsys):
    monkeypatch.chdir(store_folder)
    assert main(["serve", "--store=memory", f"--port={urlsplit(store.url).port}"]) == 2
    assert "Address already in use" in capsys.readouterr().err


# The text while it is written


@given(
    st.text(alphabet=string.ascii_letters + " .,\n\"'(。é", max_size=40),
    st.lists(st.text(" abc.\n", min_size=1, max_size=3), max_size=2),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_pieces_are_the_whole_and_end_where_it_does(text, stops, asked):
    pieces, whole = written(text, stops, asked=asked)
    assert "".join(pieces) == whole
    # Writing ends with the first stop that is complete.
    end = min((text.find(stop) + len(stop) for stop in stops if stop in text), default=len(text))
    cut = min((text.find(stop) for stop in stops if stop in text[:end]), default=len(text))
    if not asked:
        assert whole == text[:cut]
    elif not stops:
        assert whole == answer_part(text)


def written(text: str, stops: list[str], *, asked: bool) -> tuple[list[str], str]:
    """The pieces of a text that is written byte by byte, up to where that ends, and the whole."""
    from prag_lightning.data.prompts import PromptTemplates
    from prag_lightning.serve.texts import AnswerForm, ReplyText

    prompts = PromptTemplates.load(ROOT / "configs/prompts/default.yaml", "published")
    reply = ReplyText(_tokenizer(), stops, AnswerForm(prompts) if asked else None)
    pieces = []
    for token in _tokenizer()(text)["input_ids"]:
        pieces.append(reply.push(token))
        if reply.ended:
            break
    return [*pieces, reply.finish()], reply.whole


_TOKENIZERS: list = []


def _tokenizer():
    """One of bytes."""
    if not _TOKENIZERS:
        import tempfile

        from transformers import AutoTokenizer

        with tempfile.TemporaryDirectory() as folder:
            _TOKENIZERS.append(AutoTokenizer.from_pretrained(save_random_llm(Path(folder))))
    return _TOKENIZERS[0]
