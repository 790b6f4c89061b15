"""Augmentation gives valid QA pairs or a bounded failure, the same however it is batched or interrupted."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prag_lightning.augment import (
    AugmentSettings,
    Failures,
    LLMAugmenter,
    SharedAugmenter,
    augment_questions,
    parse_qa_pairs,
    replies,
)
from prag_lightning.augment.base import Reply
from prag_lightning.augment.lines import parse_pair, sentences
from prag_lightning.augment.replies import parse_rewrite
from prag_lightning.augment.stopping import ReplyEnds
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.journal import Journal
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.llm.sampling import RowSampler
from prag_lightning.processes import Processes
from prag_lightning.records import AugmentedPassage, QAPair, Question
from tiny_llm import save_random_llm

ROOT = Path(__file__).parent.parent
PROMPTS = PromptTemplates.load(ROOT / "configs/prompts/default.yaml")
PAIRS = [{"question": f"q{i}", "answer": f"a{i}", "full_answer": f"f{i}"} for i in range(4)]


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(PAIRS[:3]),
        "Here you are:\n```json\n" + json.dumps(PAIRS[:3], indent=2) + "\n```\nEnjoy!",
        json.dumps(PAIRS),
        json.dumps(PAIRS[:3])[:-1],
        json.dumps([PAIRS[:3]]),
        json.dumps(PAIRS[:3]).replace('"', "'"),
    ],
)
def test_replies_are_repaired(reply):
    assert [pair.to_json() for pair in parse_qa_pairs(reply)] == PAIRS[:3]


@pytest.mark.parametrize(
    "reply", ["", "no", "[]", json.dumps(PAIRS[:2]), "[1, 2, 3]", '[{"question": ""}]' * 3, "[[[["]
)
def test_replies_that_hold_no_three_pairs_are_refused(reply):
    with pytest.raises(InputError):
        parse_qa_pairs(reply)


THINKING = "The user wants [three] questions: [{...}]."
WRAPPED = {
    f"<think>\n{THINKING}\n</think>\n\n": "",
    f"{THINKING}\n</think>\n": "",
    f"<Thinking>{THINKING}</Thinking>Here are three about [Ada]:\n": "",
    "Based on passage [1]:\n```json\n": "\n```\nSee [1] and [2].",
    '{"qa": ': "}",
}


@pytest.mark.parametrize("before", WRAPPED)
def test_what_is_around_a_payload_is_left_out(before):
    reply = before + json.dumps(PAIRS[:3]) + WRAPPED[before]
    assert [pair.to_json() for pair in parse_qa_pairs(reply)] == PAIRS[:3]
    assert (
        parse_rewrite(before.partition("Here")[0].partition("Based")[0].replace('{"qa": ', "") + "Again.") == "Again."
    )


@pytest.mark.parametrize("reply", ["<think>\nLet me think", f"<think>{json.dumps(PAIRS)}", "<think>a</think>"])
def test_a_reply_of_thoughts_alone_is_none(reply):
    assert parse_rewrite(reply) == ""
    with pytest.raises(InputError, match="no list in the reply"):
        parse_qa_pairs(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "Ada bakes.\nShe is 30.",
        "Here is the passage in other words:\n\nAda bakes.\nShe is 30.",
        "```\nAda bakes.\nShe is 30.\n```",
        '"Ada bakes.\nShe is 30."',
        "<think>Hm: \n</think>Sure! Below is a rewrite:\n\n\u201cAda bakes.\nShe is 30.\u201d",
    ],
)
def test_a_rewrite_is_taken_out_of_its_wrapping(reply):
    assert parse_rewrite(reply) == "Ada bakes.\nShe is 30."


@pytest.mark.parametrize("text", ['"Heroes" is a song by "David"', "Here: a town.\nIt is old.", "It is so: \nyes"])
def test_what_belongs_to_a_rewrite_stays(text):
    assert parse_rewrite(text) == text


def test_kept_replies():
    cases = os.environ.get("PRAG_CASES")
    if not cases:
        pytest.skip("PRAG_CASES is not set")
    for case in json.loads((Path(cases) / "chat/replies.json").read_text(encoding="utf-8")):
        try:
            pairs = len(parse_qa_pairs(case["reply"]))
        except InputError:
            pairs = 0
        assert pairs == case["pairs"]


def test_a_reply_ends_where_its_payload_does(random_llm):
    tokenizer = random_llm.tokenizer
    texts = ["<think>[]</think>" + json.dumps(PAIRS[:3]), json.dumps(PAIRS[:3])[:-1] + "!" * 30]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"][:60] for text in ("a" * 200, "b" * 200)]
    prompt = torch.tensor(rows)
    written = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    ends = ReplyEnds(tokenizer, [tokenizer.eos_token_id], 2, replies.holds_qa_pairs)
    steps = len(written[0])
    for step in range(steps + 1):
        sofar = torch.tensor([row[:step] for row in written], dtype=torch.long)
        best = ends(torch.cat([prompt, sofar], 1), torch.zeros(2, len(tokenizer))).argmax(-1).tolist()
        assert (best[0] == tokenizer.eos_token_id) == (step == steps)
    assert ends.ended.tolist() == [True, False]


@given(st.text(alphabet='[]{}",:qa \n\\', max_size=60))
def test_any_reply_gives_three_pairs_or_an_input_error(reply):
    with suppress(InputError):
        assert len(parse_qa_pairs(reply)) == 3


class ScriptedAugmenter:
    """Fails the passages that begin with "bad", and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def augment(self, passages: Sequence[str]) -> Iterator[tuple[str, AugmentedPassage | None]]:
        self.asked += passages
        for passage in passages:
            pair = QAPair("q", "a", "f")
            yield passage, None if passage.startswith("bad") else AugmentedPassage(passage, "r", (pair,) * 3)


def test_failed_passages_are_replaced_by_the_next_candidates():
    augmenter = ScriptedAugmenter()
    questions = [Question(0, "a", ("x",)), Question(1, "b", ("x",)), Question(2, "c", ("x",))]
    candidates = [["p1", "bad1", "bad2", "p2", "p3"], ["p2", "p1", "p4"], ["bad1", "bad3"]]
    records = augment_questions(questions, candidates, 2, augmenter)
    assert [[(p.pid, p.passage) for p in record.passages] for record in records] == [
        [(0, "p1"), (1, "p2")],
        [(0, "p2"), (1, "p1")],
        [],
    ]
    assert sorted(augmenter.asked) == ["bad1", "bad2", "bad3", "p1", "p2"]


def test_sample_of_a_row_does_not_depend_on_the_batch():
    scores = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    together = RowSampler([1, 2, 3, 4], 0.7, 20, 5)
    alone = [RowSampler([seed], 0.7, 20, 5) for seed in (1, 2, 3, 4)]
    for _ in range(5):
        chosen = together(scores, scores).argmax(-1)
        assert chosen.tolist() == [int(sampler(scores[[i]], scores[[i]]).argmax()) for i, sampler in enumerate(alone)]


def test_samples_follow_the_softmax():
    scores = torch.log(torch.tensor([[0.6, 0.3, 0.1, 1e-9]])).repeat(4000, 1)
    sampler = RowSampler(range(4000), 1.0, 3, 1)
    counts = torch.bincount(sampler(scores, scores).argmax(-1), minlength=4) / 4000
    assert torch.allclose(counts, torch.tensor([0.6, 0.3, 0.1, 0.0]), atol=0.03)


@pytest.fixture(scope="module")
def random_llm(tmp_path_factory) -> LLM:
    return load_llm(str(save_random_llm(tmp_path_factory.mktemp("llm"))))


def test_passages_that_never_succeed_are_given_up_and_not_asked_again(random_llm, tmp_path):
    settings = AugmentSettings(attempts=2, augment_max_new_tokens=8)
    augmenter = make_augmenter(random_llm, settings, tmp_path)
    assert dict(augmenter.augment(["one", "two"])) == {"one": None, "two": None}
    assert augmenter.failures.reasons == {"the reply was cut": 8}
    kept = [json.loads(line) for line in (tmp_path / "failed.jsonl").read_text().splitlines()]
    assert [row["passage"] for row in kept].count("one") == 4
    assert all(row["reason"] and isinstance(row["reply"], str) for row in kept)
    again = make_augmenter(random_llm, settings, tmp_path)
    assert dict(again.augment(["one", "two"])) == {"one": None, "two": None}
    assert not again.failures.reasons


def test_more_pairs_take_more_replies_and_no_question_twice(random_llm, tmp_path, monkeypatch):
    replies_given = iter([PAIRS[:3], PAIRS[:3], [*PAIRS[2:], {**PAIRS[0], "question": "q9"}], PAIRS[:3]])
    monkeypatch.setattr(
        LLMAugmenter,
        "_generate",
        lambda self, prompts, passages, purpose: [
            Reply("r" if "rewrite" in purpose else json.dumps(next(replies_given)))
        ],
    )
    (written,) = dict(make_augmenter(random_llm, AugmentSettings(qa_per_passage=5), tmp_path).augment(["x"])).values()
    assert [pair.question for pair in written.qa] == ["q0", "q1", "q2", "q3", "q9"]
    assert len(list(replies_given)) == 1


@pytest.fixture
def short_fields(monkeypatch):
    monkeypatch.setattr(replies, "LONGEST_FIELD", 6)


@pytest.mark.usefixtures("short_fields")
def test_a_constrained_llm_writes_nothing_but_pairs_even_if_it_knows_nothing(random_llm, tmp_path):
    settings = AugmentSettings(attempts=1, augment_max_new_tokens=400, constrained=True)
    (written,) = dict(make_augmenter(random_llm, settings, tmp_path).augment(["one"])).values()
    assert written is not None
    assert len(written.qa) == 3
    assert all(pair.question and pair.answer and pair.full_answer for pair in written.qa)


def test_a_passage_beyond_the_context_is_given_up_and_named(random_llm, tmp_path):
    room = random_llm.model.config.max_position_embeddings
    augmenter = make_augmenter(random_llm, AugmentSettings(attempts=1, augment_max_new_tokens=8), tmp_path)
    assert dict(augmenter.augment(["word " * room])) == {"word " * room: None}
    ((passage, reason),) = augmenter.failures.skipped.items()
    assert passage == "word " * room
    assert "leaves no room" in reason


@pytest.mark.usefixtures("short_fields")
def test_processes_write_a_share_each_and_all_get_everything(random_llm, tmp_path):
    settings = AugmentSettings(attempts=1, augment_max_new_tokens=400, constrained=True)
    passages = ["a", "bb", "ccc"]
    alone = dict(make_augmenter(random_llm, settings, tmp_path / "alone").augment(passages))
    first, second = (make_augmenter(random_llm, settings, tmp_path / "shared", rank) for rank in (0, 1))
    share = dict(SharedAugmenter(second, Processes(1, 2)).augment(passages))
    assert [passage for passage, written in share.items() if written is not None] == ["bb"]
    assert dict(SharedAugmenter(first, Processes(0, 2)).augment(passages)) == alone


def make_augmenter(llm: LLM, settings: AugmentSettings, folder: Path, rank: int = 0) -> LLMAugmenter:
    return LLMAugmenter(llm, PROMPTS, settings, Journal(folder, rank), Failures(folder / "failed.jsonl"))


@pytest.mark.parametrize("name", ["attempts", "augment_batch_size", "sample_top_k", "temperature"])
def test_settings_below_their_least_are_refused(name):
    with pytest.raises(InputError, match=name):
        AugmentSettings(**{name: -1})


PASSAGE = "The Karsen Bridge crosses the Ulm. It was opened in 1894 by Queen Elna! Dr. A. Voss built it."


def test_a_passage_is_asked_about_sentence_by_sentence():
    assert sentences(PASSAGE) == [
        "The Karsen Bridge crosses the Ulm.",
        "It was opened in 1894 by Queen Elna!",
        "Dr. A. Voss built it.",
    ]
    assert sentences("too short") == ["too short"]


@pytest.mark.parametrize(
    "reply",
    [
        "Question: Who opened the Karsen Bridge?\nAnswer: Queen Elna",
        ' question: Who opened the Karsen Bridge\n\nanswer: "Queen Elna."\nQuestion: What else?\nAnswer: nothing',
        "Sure:\nQ: Who opened the Karsen Bridge?\nA: the Queen Elna.",
    ],
)
def test_lines_hold_a_pair(reply):
    pair = parse_pair(reply, PASSAGE, "It was opened.", ())
    assert (pair.question, pair.full_answer) == ("Who opened the Karsen Bridge?", "It was opened.")
    assert pair.answer.removeprefix("the ") == "Queen Elna"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Question: Who opened the bridge?", "no lines"),
        ("Question: Who opened the bridge?\nAnswer: King Otto", "does not stand in the passage"),
        ("Question: Who opened the bridge?\nAnswer: .", "does not stand in the passage"),
        ("Question: What opened Queen Elna then?\nAnswer: Queen Elna", "gives its answer away"),
        ("Question: Opened?\nAnswer: Queen Elna", "gives its answer away, or is none"),
        ("Question: Who was it, then?\nAnswer: Queen Elna", "asked before"),
        (f"Question: What is all of it?\nAnswer: {PASSAGE}", "more than 12 words"),
    ],
)
def test_lines_that_teach_nothing_are_dropped(reply, reason):
    with pytest.raises(InputError, match=reason):
        parse_pair(reply, PASSAGE, PASSAGE, [QAPair("Who was it then?", "x", "x")])


def test_pairs_of_lines_are_asked_for_one_by_one_until_there_are_enough(random_llm, tmp_path, monkeypatch):
    asked = []

    def generate(self, prompts, passages, purpose):
        asked.append(purpose)
        if "rewrite" in purpose:
            return [Reply("r")]
        number = int(purpose.split()[1])
        return [Reply(f" What is number {number // 2} of them?\nAnswer: {'Ulm' if number % 2 else 'Rhine'}")]

    monkeypatch.setattr(LLMAugmenter, "_generate", generate)
    settings = AugmentSettings(format="lines", qa_per_passage=2)
    augmenter = make_augmenter(random_llm, settings, tmp_path)
    (written,) = dict(augmenter.augment([PASSAGE])).values()
    assert asked == ["rewrite 0", "qa 0", "qa 1", "qa 2", "qa 3"]
    assert [(pair.question, pair.full_answer) for pair in written.qa] == [
        ("What is number 0 of them?", "It was opened in 1894 by Queen Elna!"),
        ("What is number 1 of them?", "The Karsen Bridge crosses the Ulm."),
    ]
    assert augmenter.failures.reasons == {"the answer does not stand in the passage": 2}


def test_lines_need_their_template_and_no_constraint():
    with pytest.raises(InputError, match="constrained"):
        AugmentSettings(format="lines", constrained=True)
    prompts = replace(PROMPTS, templates={k: v for k, v in PROMPTS.templates.items() if k != "qa.lines"})
    with pytest.raises(InputError, match=r"no template 'qa.lines'"):
        AugmentSettings(format="lines").templates(prompts)
