"""The made-up world, the demo that is drawn from it, and the model that is trained on it."""

import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.metrics import evaluate
from tools.prag_tiny.demo import make_demo, write_demo
from tools.prag_tiny.names import Names, is_for_demo
from tools.prag_tiny.packing import Example, Tree, pack
from tools.prag_tiny.reasoning import bridge_question, comparison_question
from tools.prag_tiny.tasks import Jobs
from tools.prag_tiny.training import TinySettings, known_entities, new_model
from tools.prag_tiny.wordings import WORDINGS
from tools.prag_tiny.world import KINDS, World

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "checkpoints" / "prag-tiny"
DEMO = ROOT / "data" / "demo"


@pytest.fixture(scope="module")
def prompts():
    return PromptTemplates.load(ROOT / "configs" / "prompts" / "default.yaml")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


def test_no_name_is_on_both_sides():
    sides = {demo: Names(random.Random(1), demo=demo) for demo in (False, True)}
    drawn = {
        demo: {names.draw(kind) for kind in (*KINDS, "river") for _ in range(300)} for demo, names in sides.items()
    }
    assert not drawn[False] & drawn[True]


def test_the_demo_is_about_entities_that_training_cannot_draw():
    assert all(is_for_demo(passage.title) for passage in make_demo().passages)
    assert not any(is_for_demo(entity.name) for entity in known_entities(TinySettings()))


def test_every_attribute_is_asked_in_two_sets_of_wordings_that_share_none():
    for attributes in WORDINGS.values():
        qa = {wording for each in attributes.values() for wording in each.qa}
        test = {wording for each in attributes.values() for wording in each.test}
        assert len(qa) == len(test) == 2 * len(attributes)
        assert not qa & test


@pytest.mark.parametrize("draw", [bridge_question, comparison_question])
def test_questions_over_two_passages_are_worded_otherwise_in_the_demo(draw):
    of_qa, of_test = (draw(World(3, demo=True), wording).question for wording in ("qa", "test"))
    assert of_qa != of_test


def test_a_passage_states_every_fact_and_its_rewrite_does_so_in_other_sentences():
    world = World(4, demo=False)
    for _ in range(200):
        entity = world.entity()
        augmented = world.augmented(entity)
        assert [pair.answer for pair in augmented.qa] == list(entity.facts.values())
        for text in (augmented.passage, augmented.rewrite):
            assert all(fact in text for fact in (entity.name, *entity.facts.values()))
        assert not set(augmented.passage.split(". ")) & set(augmented.rewrite.split(". "))


def test_a_chain_of_thought_scores_as_its_answer():
    world = World(5, demo=False)
    for draw in (bridge_question, comparison_question):
        for _ in range(100):
            question = draw(world, "test")
            assert evaluate(question.chain_of_thought + ".", question.answer, with_cot=True)["em"] == 1.0


def test_the_demo_in_the_repository_is_the_one_that_is_drawn(tmp_path):
    write_demo(tmp_path)
    files = ["corpus.tsv", *(f"questions/{split}.json" for split in ("single", "bridge", "comparison"))]
    for file in files:
        assert (tmp_path / file).read_bytes() == (DEMO / file).read_bytes()


def test_each_demo_question_names_its_passage():
    demo = make_demo()
    titles = [passage.title for passage in demo.passages]
    assert len(set(titles)) == len(titles) == 2400

    def named(question: str) -> int:
        found = [t for t in titles if t in question and re.search(rf"\b{t}\b", question)]
        return sum(not any(title != other and title in other for other in found) for title in found)

    assert all(named(question) == 1 for question, _ in demo.questions["single"])
    assert all(named(question) == 2 for question, _ in demo.questions["comparison"])


def test_a_prompt_and_its_answer_give_the_same_tokens_apart_and_together(tokenizer):
    for answer in ("Mirton.", "1931.", "Ada Borkfel.", "The Silent Harbour.", "yes."):
        apart = [*tokenizer("The answer is ")["input_ids"], *tokenizer(answer)["input_ids"]]
        assert apart == tokenizer("The answer is " + answer)["input_ids"]


@pytest.mark.parametrize("text", ["", " two  spaces ", "tab\tand\nlines\n\n", "Zürich, 東京 & 🙂", '[{"a": "b\\"c"}]'])
def test_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_examples_on_a_tree_are_computed_as_if_each_stood_alone(tokenizer, prompts):
    settings = TinySettings(width=64, layers=2, ffn=96)
    model = new_model(settings, tokenizer).eval()
    jobs = Jobs(World(6, demo=False), known_entities(settings), prompts, tokenizer)
    for group in (jobs.answer_from_passages(), jobs.reason(), jobs.write_qa_pairs()):
        examples = [jobs.example(job) for job in group]
        batch, left = pack([Tree.of(examples)], 1, 640)
        assert not left
        with torch.no_grad():
            logits = model(input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.mask).logits[0]
            losses = torch.nn.functional.cross_entropy(logits, batch.targets[0], reduction="none")
            in_tree = losses[batch.weights[0] >= 1.0]
            alone = []
            for example in examples:
                ids = torch.tensor([example.prompt + example.reply])
                start = len(example.prompt)
                answers = model(input_ids=ids).logits[0, start - 1 : -1]
                alone.append(torch.nn.functional.cross_entropy(answers, ids[0, start:], reduction="none"))
        torch.testing.assert_close(in_tree, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_answers_are_taught_where_they_stand_in_the_passages(tokenizer, prompts):
    jobs = Jobs(World(8, demo=False), known_entities(TinySettings()), prompts, tokenizer)
    taught = 0
    for _ in range(20):
        group = jobs.choose_among_statements()
        tree = Tree.of([jobs.example(job) for job in group])
        batch, _ = pack([tree], 1, len(tree.ids))
        for asking, places in enumerate(batch.copied_from[0]):
            targets = {tokenizer.decode([tree.ids[place]]).strip() for place in places.nonzero().flatten().tolist()}
            if targets:
                assert targets == {tokenizer.decode([tree.targets[asking]]).strip().rstrip(".")}
                assert batch.mask[0, 0, asking][places].all()
                taught += 1
    assert taught > 100


def test_trees_of_a_full_batch_wait_for_the_next():
    trees = [Tree.of([Example([1, 2, 3], [4] * count, 1.0)]) for count in (5, 3, 2)]
    batch, left = pack(trees, 1, 14)
    assert [len(tree.ids) for tree in left] == [5]
    assert batch.ids[0].tolist() == [1, 2, 3, 4, 4, 4, 4, 4, 1, 2, 3, 4, 4, 4]
    assert not batch.mask[0, 0, 8:, :8].any()


def test_the_model_in_the_repository_is_small_and_reads_its_passages(tokenizer, prompts):
    assert sum(file.stat().st_size for file in MODEL.iterdir()) < 20e6
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    world = World(7, demo=True)
    right = 0
    for _ in range(20):
        entity = world.entity()
        attribute = entity.attributes[0]
        ids = prompts.question_ids(tokenizer, world.question(entity, attribute, "test"), [world.passage(entity)])
        output = model.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)
        text = tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
        right += evaluate(text, entity.facts[attribute])["em"]
    assert right >= 17


def test_the_training_script_goes_through(tmp_path):
    command = [sys.executable, "-m", "tools.train_prag_tiny", "--smoke", "--cases", "2"]
    subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert json.loads((tmp_path / "training.json").read_text())["record"]["steps"] == 20
    assert "three passages" in (tmp_path / "README.md").read_text()
    AutoModelForCausalLM.from_pretrained(tmp_path)
