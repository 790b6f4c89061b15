"""Prompts become the method's token ids."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from prag_lightning.data.prompts import PromptTemplates, end_with_full_stop, end_with_question_mark, fill
from prag_lightning.errors import InputError
from prag_lightning.training.examples import ExampleBuilder
from tiny_llm import save_random_llm

DEFAULT = Path(__file__).parent.parent / "configs/prompts/default.yaml"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(save_random_llm(tmp_path_factory.mktemp("llm")))


@pytest.fixture(scope="module")
def prompts():
    return PromptTemplates.load(DEFAULT)


def test_direct_prompt_with_passages_and_answer(tokenizer, prompts):
    ids = prompts.question_ids(tokenizer, "Who is she ??", ["first", "second"], answer="Ada")
    text = tokenizer.decode(ids)
    assert text.startswith("<|user|>")
    assert "Passage 1: first\nPassage 2: second\n" in text
    assert "Question: Who is she?<|end|><|assistant|>The answer is Ada." in text
    assert tokenizer.eos_token_id not in ids[-3:]


def test_open_prompt_ends_in_the_prefix(tokenizer, prompts):
    assert tokenizer.decode(prompts.question_ids(tokenizer, "Who")).endswith("Who?<|end|><|assistant|>The answer is ")
    assert tokenizer.decode(prompts.question_ids(tokenizer, "Who", with_cot=True)).endswith("<|assistant|>Answer: ")


def test_worked_examples_stand_in_chain_of_thought_prompts_alone(tokenizer, prompts):
    assert prompts.fewshot_text("demo")
    text = tokenizer.decode(prompts.question_ids(tokenizer, "Who", with_cot=True, dataset="demo"))
    assert prompts.fewshot_text("demo") in text
    assert prompts.fewshot_text("demo") not in tokenizer.decode(prompts.question_ids(tokenizer, "Who", dataset="demo"))


def test_builders_of_other_examples_have_other_fingerprints(tokenizer, prompts):
    builders = [
        ExampleBuilder(prompts, tokenizer),
        ExampleBuilder(prompts, tokenizer, with_cot=True, dataset="demo"),
        ExampleBuilder(prompts, tokenizer, with_cot=True, dataset="other"),
        ExampleBuilder(prompts, tokenizer, block_size=100),
        ExampleBuilder(prompts, tokenizer, objective="answer"),
    ]
    assert len({builder.fingerprint for builder in builders}) == len(builders)
    assert builders[0].fingerprint == ExampleBuilder(prompts, tokenizer, dataset="demo").fingerprint


@given(st.text(), st.text())
def test_braces_in_data_are_data(question, passage):
    assert fill("a {question} b {passage}", question=question, passage=passage) == f"a {question} b {passage}"


@given(st.text())
def test_question_ends_in_one_question_mark(question):
    asked = end_with_question_mark(question)
    assert asked.endswith("?")
    assert not asked[:-1].endswith("?")
    assert end_with_question_mark(asked) == asked


def test_full_stop_is_not_doubled():
    assert [end_with_full_stop(text) for text in ("Paris", " Paris. ")] == ["Paris.", "Paris."]


def test_user_and_assistant_text_are_tokenised_apart(real_data, prompts):
    qwen = AutoTokenizer.from_pretrained(real_data / "tokenizer")
    open_ids = prompts.question_ids(qwen, "Where is it", ["Here."])
    assert qwen.decode(open_ids).endswith("<|im_start|>assistant\nThe answer is")
    assert open_ids[-3:] == qwen("The answer is")["input_ids"]
    closed = prompts.question_ids(qwen, "Where is it", ["Here."], answer="here")
    assert closed[-len(qwen("The answer is here.")["input_ids"]) :] == qwen("The answer is here.")["input_ids"]


def test_base_model_without_chat_template_gets_plain_text(real_data, prompts):
    llama = AutoTokenizer.from_pretrained(real_data / "model")
    ids = prompts.question_ids(llama, "Who")
    assert ids[0] == llama.bos_token_id
    assert ids.count(llama.bos_token_id) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("passage"), "no template 'passage'"),
        (lambda data: data["direct"].update(user="{question}"), r"'direct.user' lacks the placeholder \{passages\}"),
        (lambda data: data.update(qa=3), "no template 'qa.user'"),
        (lambda data: data.update(fewshot={"demo": [{"question": "?"}]}), r"fewshot.demo\[0\]"),
    ],
)
def test_faulty_prompt_files_are_named(tmp_path, change, message):
    data = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    change(data)
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        PromptTemplates.load(path)


def test_a_prompt_file_builds_on_another_and_asks_without_passages_in_its_own_words(tmp_path, tokenizer, prompts):
    path = tmp_path / "own.yaml"
    path.write_text(f"base: {DEFAULT}\ndirect: {{closed_book: 'Say: {{question}}'}}\n", encoding="utf-8")
    own = PromptTemplates.load(path)
    assert own.question_ids(tokenizer, "Who", ["x"]) == prompts.question_ids(tokenizer, "Who", ["x"])
    assert own.question_ids(tokenizer, "Who", with_cot=True) == prompts.question_ids(tokenizer, "Who", with_cot=True)
    assert "<|user|>Say: Who?<|end|>" in tokenizer.decode(own.question_ids(tokenizer, "Who"))
    builders = {
        objective: [ExampleBuilder(each, tokenizer, objective=objective) for each in (prompts, own)]
        for objective in ("closed_book", "published")
    }
    assert all(one.fingerprint != other.fingerprint for one, other in builders.values())


def test_what_is_never_trained_on_is_not_in_the_fingerprint(tokenizer, prompts):
    shorter = replace(prompts, templates={**prompts.templates, "passage": "{passage}\n"})
    same = {
        objective: len(
            {ExampleBuilder(each, tokenizer, objective=objective).fingerprint for each in (prompts, shorter)}
        )
        for objective in ("closed_book", "distill", "answer", "published")
    }
    assert same == {"closed_book": 1, "distill": 2, "answer": 2, "published": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: own.yaml", "builds on itself"),
        ("base: [a]", "'base' is no file's name"),
        ("base: absent.yaml", r"absent\.yaml"),
        (f"base: {DEFAULT}\ncot: {{closed_book: ''}}", r"'cot\.closed_book' lacks the placeholder \{question\}"),
        (f"base: {DEFAULT}\ncot: 3", r"no template 'cot\.user'"),
    ],
)
def test_faulty_bases_of_prompt_files_are_named(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        PromptTemplates.load(path)


@pytest.mark.parametrize("path", sorted(DEFAULT.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_prompt_files_of_the_repository_are_read(path):
    assert PromptTemplates.load(path)


@pytest.mark.parametrize("text", ["a: [", "- 1", "!!python/object:os.system {}", "\x00"])
def test_prompt_files_that_are_no_mapping(tmp_path, text):
    path = tmp_path / "prompts.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"prompts\.yaml"):
        PromptTemplates.load(path)
