"""Scoring is the published one, oddities included."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prag_lightning.inference.scores import AnswerScores
from prag_lightning.metrics import answer_presence, evaluate, extract_answer, is_out_of_reach, normalize_answer

TEXTS = st.text(max_size=40) | st.sampled_from(
    ["yes", "No.", "noanswer", "the answer is Paris", "", "a the", "1,000", "é"]
)
ANSWERS = TEXTS | st.lists(TEXTS, min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("text", "answer", "with_cot", "predicted", "em", "f1"),
    [
        ("Paris.", "paris", False, "Paris", 1, 1),
        ("  Paris, France. It is", "Paris", False, "Paris", 1, 1),
        ("Washington, D.C.", "Washington, D.C.", False, "Washington", 0, 2 / 3),
        ("1,000 people", "1,000", False, "1", 0, 0),
        (".Paris", "Paris", False, "", 0, 0),
        ("first line\nsecond", "first line", False, "first line", 1, 1),
        ("The Beatles", "beatles", False, "The Beatles", 1, 1),
        ("yes", "yes indeed", False, "yes", 0, 0),
        ("yes indeed", "yes", False, "yes indeed", 0, 0),
        ("no", "yes", False, "no", 0, 0),
        ("Yes.", "yes", False, "Yes", 1, 1),
        ("the", "", False, "the", 1, 0),
        ("She left. So the answer is Rome. Then the answer is Oslo.", "Rome", True, "Rome", 1, 1),
        ("The Answer Is Rome", "rome", True, "The Answer Is Rome", 0, 0.5),
        ("So the answer is Rome", "rome", False, "So the answer is Rome", 0, 2 / 5),
        ("green blue", ["red", "blue", "green"], False, "green blue", 0, 2 / 3),
    ],
)
def test_published_scoring(text, answer, with_cot, predicted, em, f1):
    scores = evaluate(text, answer, with_cot)
    assert scores["eval_predict"] == predicted
    assert scores["em"] == em
    assert scores["f1"] == pytest.approx(f1)


def test_each_score_is_the_best_over_the_aliases_by_itself():
    scores = evaluate("red green", ["red", "red green blue white"])
    assert (scores["prec"], scores["recall"]) == (1.0, 1.0)
    assert scores["f1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("answers", "paper", "full"),
    [
        (["12,500"], True, False),
        (["J. R. Malo"], True, False),
        (["Port Alder, Nordelia"], True, False),
        (["Port Alder, Nordelia", "Port Alder"], False, False),
        (["Acme Inc. Ltd"], True, True),
        (["two\nlines"], True, True),
        (["Paris."], False, False),
        (["yes"], False, False),
        (["The"], False, False),
        ([], False, False),
    ],
)
def test_answers_that_are_cut_are_out_of_reach(answers, paper, full):
    assert (is_out_of_reach(answers, "paper"), is_out_of_reach(answers, "full")) == (paper, full)


def test_characters_of_two_kinds_are_one():
    assert evaluate("Cafe\u0301", "Caf\u00e9")["em"] == 1
    assert evaluate("\u5317\u4eac\u3002\u4e0a", "\u5317\u4eac", answer_extraction="full")["em"] == 1


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Washington, D.C.", "Washington, D.C."),
        ("1,000. The rest", "1,000"),
        ("St. Louis. It is", "St. Louis"),
        ("J. R. Tolkien wrote.", "J. R. Tolkien wrote"),
        ("Rome\nOslo", "Rome"),
        ("3.5", "3.5"),
        ("No. It is not", "No"),
        ("Mt. Everest. It is", "Mt. Everest"),
        ("", ""),
    ],
)
def test_full_extraction_keeps_what_stands_inside_an_answer(text, answer):
    assert extract_answer(text, extraction="full").rstrip(".") == answer.rstrip(".")


@given(TEXTS, ANSWERS, st.booleans(), st.sampled_from(["paper", "full"]))
def test_scores_are_in_range_and_consistent(text, answer, with_cot, extraction):
    scores = evaluate(text, answer, with_cot, extraction)
    em, f1, precision, recall = (scores[name] for name in ("em", "f1", "prec", "recall"))
    assert em in (0.0, 1.0)
    assert 0 <= f1 <= max(precision, recall) <= 1
    if em and normalize_answer(str(scores["eval_predict"])):
        assert (f1, precision, recall) == (1.0, 1.0, 1.0)
    assert isinstance(scores["eval_predict"], str)
    assert scores["eval_predict"] in text


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=4), st.randoms())
def test_order_of_aliases_does_not_matter_and_one_more_never_hurts(text, aliases, rng):
    scores = evaluate(text, aliases)
    shuffled = rng.sample(aliases, len(aliases))
    assert evaluate(text, shuffled) == scores
    more = evaluate(text, [*aliases, "another"])
    assert all(more[name] >= scores[name] for name in ("em", "f1", "prec", "recall"))


@given(TEXTS)
def test_normalisation_is_idempotent_up_to_articles_it_uncovers(text):
    once = normalize_answer(text)
    assert once == once.strip()
    assert "  " not in once
    assert not set(once) & set("!\"#.,?'")


@given(st.text(alphabet="abc xyz", min_size=1))
def test_an_answer_is_present_in_a_text_around_it(answer):
    expected = float(bool(normalize_answer(answer)))
    assert answer_presence(f"Say: {answer}, please", answer) == expected
    assert answer_presence("concatenated", "cat") == 0.0


def scored(text: str, answer: str) -> dict:
    return {**evaluate(text, answer), "presence": answer_presence(text, answer)}


def test_metric_is_exact_whatever_the_default_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        metric = AnswerScores()
    finally:
        torch.set_default_dtype(before)
    for _ in range(400):
        metric.update([scored("Paris.", "Paris")])
    assert {name: float(value) for name, value in metric.compute().items()} == dict.fromkeys(metric.compute(), 1.0)


@given(st.lists(st.tuples(TEXTS, ANSWERS), min_size=1, max_size=8), st.integers(0, 8))
def test_metric_is_the_mean_however_it_is_split(rows, cut):
    parts = [AnswerScores(), AnswerScores()]
    for part, chunk in zip(parts, (rows[:cut], rows[cut:]), strict=True):
        part.update([scored(text, answer) for text, answer in chunk])
    merged = AnswerScores()
    merged.sums += sum(part.sums for part in parts)
    merged.count += sum(part.count for part in parts)
    for name in ("em", "f1", "prec", "recall"):
        mean = sum(evaluate(text, answer)[name] for text, answer in rows) / len(rows)
        assert float(merged.compute()[name]) == pytest.approx(mean)


def test_metric_without_questions_is_zero():
    assert all(torch.equal(value, torch.zeros_like(value)) for value in AnswerScores().compute().values())
