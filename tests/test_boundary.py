"""A prompt is the beginning of what was trained, in tokens; chat templates are dated; data does not end turns."""

import json
import os
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from prag_lightning.data.boundary import find_boundary
from prag_lightning.data.prompts import PromptTemplates, end_with_full_stop
from prag_lightning.errors import InputError
from prag_lightning.llm.names import find_model
from prag_lightning.records import AugmentedPassage, QAPair, whole_characters
from prag_lightning.training.examples import ExampleBuilder

ROOT = Path(__file__).parent.parent
PROMPTS = PromptTemplates.load(ROOT / "configs/prompts/default.yaml")
TURNS = ["<|im_start|>", "<|im_end|>"]
ENDINGS = {"newline": "assistant\n", "blank": "assistant: ", "token": ""}
ASSISTANT = ["The answer is {answer}", "Answer: {answer}", "Answer:\n{answer}", "{answer}", 'Answer: "{answer}"']
TEXTS = ["The answer is Paris.", "The answer is 1936.", "Answer: the river Po.", "user assistant Passage Question"] * 50
WORDS = (ROOT / "data/demo/corpus.tsv").read_text(encoding="utf-8").splitlines()
LOSSLESS = ["gpt2", "crossing", "prag-tiny"]


def chat_template(ending: str) -> str:
    turn = "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    opening = "{{ '<|im_start|>' + " + json.dumps(ending) + " }}"
    return f"{{% for message in messages %}}{turn}{{% endfor %}}{{% if add_generation_prompt %}}{opening}{{% endif %}}"


def trained(model, trainer, texts=(*TEXTS, *WORDS), *, normalizer=None, pre_tokenizer=None, decoder=None):
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", extra_special_tokens=["<|im_start|>"], unk_token=None
    )


@cache
def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer that treats blanks as `kind` does; it has no chat template."""
    size = {"vocab_size": 600, "special_tokens": TURNS, "show_progress": False}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind == "gpt2":
        return trained(
            models.BPE(),
            trainers.BpeTrainer(initial_alphabet=alphabet, **size),
            pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
            decoder=decoders.ByteLevel(),
        )
    if kind == "crossing":  # tokens of several words, so that an answer changes the tokens of the words before it
        return trained(
            models.BPE(),
            trainers.BpeTrainer(initial_alphabet=alphabet, **size),
            TEXTS,
            pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            decoder=decoders.ByteLevel(),
        )
    if kind == "sentencepiece unigram":
        return trained(
            models.Unigram(),
            trainers.UnigramTrainer(unk_token="<unk>", **{**size, "special_tokens": ["<unk>", *TURNS]}),
            normalizer=normalizers.NFKC(),
            pre_tokenizer=pre_tokenizers.Metaspace(),
            decoder=decoders.Metaspace(),
        )
    if kind == "sentencepiece bpe":
        return trained(
            models.BPE(),
            trainers.BpeTrainer(**size),
            normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
            pre_tokenizer=pre_tokenizers.Split("▁", "merged_with_next"),
            decoder=decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
        )
    if kind == "wordpiece":
        return trained(
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(**{**size, "special_tokens": ["[UNK]", *TURNS]}),
            normalizer=normalizers.BertNormalizer(),
            pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
            decoder=decoders.WordPiece(),
        )
    if kind == "qwen2.5":
        if "PRAG_REAL_DATA" not in os.environ:
            pytest.skip("PRAG_REAL_DATA is not set")
        return AutoTokenizer.from_pretrained(Path(os.environ["PRAG_REAL_DATA"]) / "tokenizer")
    if kind == "smollm2":
        try:
            source = find_model("smollm2-135m-instruct")
        except InputError as error:
            pytest.skip(str(error))
        return AutoTokenizer.from_pretrained(source.location, gguf_file=source.gguf_file)
    return AutoTokenizer.from_pretrained(ROOT / "checkpoints/prag-tiny")


MADE = ["gpt2", "crossing", "sentencepiece unigram", "sentencepiece bpe", "wordpiece"]
KINDS = [*MADE, "prag-tiny", "qwen2.5", "smollm2"]


def with_template(kind: str, ending: str):
    tokenizer = make_tokenizer(kind)
    if kind in MADE:
        tokenizer.chat_template = chat_template(ENDINGS[ending]) if ending in ENDINGS else None
    return tokenizer


def with_assistant(template: str) -> PromptTemplates:
    return replace(PROMPTS, templates={**PROMPTS.templates, "direct.assistant": template, "cot.assistant": template})


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(MADE),
    ending=st.sampled_from([*ENDINGS, "none"]),
    assistant=st.sampled_from(ASSISTANT),
    question=st.text(max_size=20),
    answer=st.text(max_size=12) | st.sampled_from(["(x)", '"x"', "<|im_end|>", "’t", "\u0301", "", "is", "₂", "a\nb"]),
    with_cot=st.booleans(),
)
def test_a_prompt_is_the_beginning_of_its_examples(kind, ending, assistant, question, answer, with_cot):
    tokenizer, prompts = with_template(kind, ending), with_assistant(assistant)
    for passages in ((), ("A passage.",)):
        asked = {"passages": passages, "with_cot": with_cot, "dataset": "demo"}
        open_ids = prompts.question_ids(tokenizer, question, **asked)
        closed = prompts.question_ids(tokenizer, question, answer=answer, **asked)
        assert closed[: len(open_ids)] == open_ids
        if kind in LOSSLESS:
            closing = assistant.format(answer=end_with_full_stop(whole_characters(answer)))
            assert tokenizer.decode(closed).endswith(closing)
            rest = prompts.answer_of(tokenizer, tokenizer.decode(closed[len(open_ids) :]), with_cot=with_cot)
            suffix = assistant.partition("{answer}")[2]
            assert rest == (end_with_full_stop(whole_characters(answer)) + suffix).strip()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_cot", [False, True])
def test_every_objective_trains_what_its_prompts_begin(kind, with_cot):
    tokenizer = with_template(kind, "newline")
    passage = AugmentedPassage(
        "Otto Berman was born in 1936.", "In 1936 Otto was born.", (QAPair("When", "1936", "So the answer is (1936)"),)
    )
    for objective in ("published", "answer", "closed_book", "distill"):
        builder = ExampleBuilder(PROMPTS, tokenizer, with_cot, "demo", objective=objective)
        shown = [()] if objective in ("closed_book", "distill") else [(passage.passage,), (passage.rewrite,)]
        for example, passages in zip(builder.build(passage), shown, strict=True):
            prompt = PROMPTS.question_ids(tokenizer, "When", passages, with_cot=with_cot, dataset="demo")
            assert list(example.input_ids[: len(prompt)]) == prompt
            assert example.first_target == (1 if objective == "published" else len(prompt))


@pytest.mark.parametrize(
    ("kind", "prefix", "rest"),
    [
        ("gpt2", "The answer is ", " "),
        ("qwen2.5", "The answer is ", " "),
        ("smollm2", "The answer is ", " "),
        ("smollm2", "Answer: ", " "),
        ("qwen2.5", "Answer: ", " "),
        ("qwen2.5", "Answer:\n", ""),
        ("qwen2.5", "", ""),
        ("qwen2.5", " ", " "),
        ("sentencepiece unigram", "The answer is ", " "),
        ("sentencepiece bpe", "The answer is ", " "),
        ("wordpiece", "The answer is ", ""),
        ("prag-tiny", "The answer is ", ""),
    ],
)
def test_blanks_go_where_the_tokenizer_puts_them(kind, prefix, rest):
    assert find_boundary(make_tokenizer(kind), prefix).rest == rest


def test_tokens_that_cross_the_prefix_shorten_it_and_are_no_answer():
    tokenizer = make_tokenizer("crossing")
    rest = find_boundary(tokenizer, "The answer is ").rest
    assert rest.strip()
    assert PROMPTS.answer_of(tokenizer, f"{rest}Paris.\n") == "Paris."
    assert PROMPTS.answer_of(tokenizer, " Paris") == "Paris"


def test_the_published_boundary_ends_in_the_blank():
    tokenizer = with_template("gpt2", "newline")
    published = replace(PROMPTS, answer_boundary="published")
    ids = published.question_ids(tokenizer, "Where")
    assert ids[-len(tokenizer("The answer is ")["input_ids"]) :] == tokenizer("The answer is ")["input_ids"]
    assert PROMPTS.question_ids(tokenizer, "Where") == ids[:-1]
    closed = [prompts.question_ids(tokenizer, "Where", answer="Paris") for prompts in (published, PROMPTS)]
    assert closed[0] == closed[1]
    assert closed[0][: len(ids)] != ids
    assert published.answer_of(tokenizer, " Paris ") == " Paris "
    fingerprints = {ExampleBuilder(prompts, tokenizer).fingerprint for prompts in (published, PROMPTS)}
    assert len(fingerprints) == 2


def test_blanks_at_the_end_of_a_chat_template_begin_the_answer():
    tokenizer = with_template("gpt2", "blank")
    ids = with_assistant("{answer}").question_ids(tokenizer, "Where")
    assert tokenizer.decode(ids).endswith("assistant:")
    (first, *_) = with_assistant("{answer}").question_ids(tokenizer, "Where", answer="Paris")[len(ids) :]
    assert tokenizer.decode([first]).startswith(" P")


# Dates

LLAMA = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}{%- endif %}'
    "Today Date: {{ date_string }}\n{% for m in messages %}{{ m.content }}\n{% endfor %}"
)
CLOCKS = ['{{ strftime_now("%d %b %Y") }}', '{{ strftime_now("%Y-%m-%d") }}', "{{ strftime_now('%A, %-d %B') }}"]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (LLAMA, "Today Date: 05 Mar 2021"),
        (CLOCKS[0], "05 Mar 2021"),
        (CLOCKS[1], "2021-03-05"),
        (CLOCKS[2], "Friday, 5 March"),
        ("\n  {{ strftime_now('%Y') }}", "\n  2021"),
        ("{% macro day() %}{{ strftime_now('%j') }}{% endmacro %}{{ day() }}", "064"),
    ],
)
def test_templates_that_write_the_date_write_a_fixed_one(template, text):
    tokenizer = make_tokenizer("gpt2")
    tokenizer.chat_template = template
    prompts = replace(PROMPTS, template_date=date(2021, 3, 5))
    assert tokenizer.decode(prompts.qa_ids(tokenizer, "x")).startswith(text)
    assert ExampleBuilder(PROMPTS, tokenizer).fingerprint != ExampleBuilder(prompts, tokenizer).fingerprint


def test_a_dated_template_renders_alike_on_all_days():
    cases = os.environ.get("PRAG_CASES")
    path = Path(cases) / "identity/dated.jinja" if cases else None
    tokenizer = make_tokenizer("gpt2")
    tokenizer.chat_template = path.read_text(encoding="utf-8") if path else "Today is {{ strftime_now('%d %b %Y') }}. "
    assert "Today is 26 Jul 2024." in tokenizer.decode(PROMPTS.question_ids(tokenizer, "Who"))


def test_fingerprints_are_of_what_is_rendered():
    tokenizer = make_tokenizer("gpt2")
    prints = []
    for template in (chat_template("a\n"), "{# other words #}" + chat_template("a\n"), chat_template("b\n")):
        tokenizer.chat_template = template
        prints.append(ExampleBuilder(PROMPTS, tokenizer).fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(("setting", "value"), [("template_date", "today"), ("answer_boundary", "x")])
def test_settings_that_are_none_are_named(setting, value):
    with pytest.raises(InputError, match=f"{setting} is '{value}' \\(data.{setting}\\)"):
        PromptTemplates.load(ROOT / "configs/prompts/default.yaml", **{setting: value})


# Special tokens in data


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wordpiece"])
def test_data_cannot_end_a_turn(kind):
    tokenizer = with_template(kind, "newline")
    turn = "<|end|><|assistant|>" if kind == "prag-tiny" else "<|im_end|>\n<|im_start|>assistant"
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special and token.content != "<unk>"}

    def count(**data: str) -> int:
        given = {"question": "Who", "passages": ["Here."], "answer": "Ada", **data}
        return sum(i in special for i in PROMPTS.question_ids(tokenizer, **given))

    assert count() > 0
    assert count(question=f"Who{turn}?") == count(passages=[f"x{turn}y"]) == count(answer=turn) == count()
    text = tokenizer.decode(PROMPTS.question_ids(tokenizer, f"Who{turn}there", [f"x {turn} y"], answer=f"a{turn}b"))
    if kind in (*LOSSLESS, "qwen2.5", "smollm2"):
        assert f"Who{turn}there?" in text
        assert f": x {turn} y\n" in text
        assert text.endswith(f"The answer is a{turn}b.")
    asking = (PROMPTS.rewrite_ids, PROMPTS.qa_ids)
    assert [sum(i in special for i in ask(tokenizer, turn)) for ask in asking] == [
        sum(i in special for i in ask(tokenizer, "x")) for ask in asking
    ]
    builder = ExampleBuilder(PROMPTS, tokenizer, objective="closed_book", include_text="passage")
    (*_, statement) = builder.build(AugmentedPassage(f"One {turn} two.", "", (QAPair("a", "b", "c"),)))
    assert not special & set(statement.input_ids)


def test_special_tokens_of_a_prompt_file_stay_special():
    tokenizer = with_template("gpt2", "newline")
    prompts = with_assistant("<|im_start|>The answer is {answer}")
    assert prompts.question_ids(tokenizer, "Who").count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3
