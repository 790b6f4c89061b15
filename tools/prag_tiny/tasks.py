"""What prag-tiny is trained to do: the pipeline's own jobs, with the pipeline's own prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from prag_lightning.data.prompts import PromptTemplates
from tools.prag_tiny.packing import Example
from tools.prag_tiny.reasoning import ReasonedQuestion, bridge_question, comparison_question, single_question
from tools.prag_tiny.world import Entity, World

DEMO_DATASET = "demo"
"""Whose worked examples stand in prompts with a chain of thought."""
WORDING_SETS = ("qa", "test")
"""The model knows both as language; only `qa` wordings are written into QA pairs."""


MAX_PASSAGES = 3
MAX_STATEMENTS = 6
ANSWER_WEIGHT = 3.0


@dataclass(frozen=True)
class Job:
    """A prompt and the reply that is wanted.

    Args:
        prompt_ids: As the pipeline builds them.
        reply: The text that is to follow.
        is_answer: Whether it is nothing but an answer: few tokens that count more, to be copied from the prompt if they
            stand there.
    """

    prompt_ids: list[int]
    reply: str
    is_answer: bool = False


class Jobs:
    """Draws jobs from a world, in groups whose prompts begin alike: what they share is computed once.

    Args:
        world: Where entities come from.
        known: Entities that are asked about without passages, again and again: what the model is to know by heart.
        prompts: The pipeline's templates.
        tokenizer: Makes ids of them.
    """

    def __init__(
        self, world: World, known: Sequence[Entity], prompts: PromptTemplates, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self.world, self.known, self.prompts, self.tokenizer = world, known, prompts, tokenizer
        self.rng = world.rng
        self._spelling = [str(tokenizer.decode([i])).strip() for i in range(len(tokenizer))]
        self.choosing_share = 0.0
        self._mixture: list[tuple[Callable[[], list[Job]], int]] = [
            (self.answer_from_passages, 60),
            (self.answer_by_heart, 10),
            (self.reason, 14),
            (self.rewrite, 10),
            (self.write_qa_pairs, 14),
        ]

    def draw(self) -> list[Job]:
        """A group of jobs, kinds by the mixture."""
        if self.rng.random() < self.choosing_share:
            return self.choose_among_statements()
        kinds, weights = zip(*self._mixture, strict=True)
        draw: Callable[[], list[Job]] = self.rng.choices(kinds, weights)[0]
        return draw()

    def answer_from_passages(self) -> list[Job]:
        """Questions about the entities of the same few passages, of which one now and then takes two."""
        two_hop = self._two_hop() if self.rng.random() < 0.3 else None
        sought = two_hop.entities if two_hop else [self.world.entity()]
        entities = self._with_distractors(sought)
        passages = self._passages(entities)
        asked = [(two_hop.question, two_hop.answer)] if two_hop else []
        asked += [self._question(entity) for entity in (*sought * 2, *entities * 2)]
        return [Job(self._ask(question, passages), answer, is_answer=True) for question, answer in asked]

    def choose_among_statements(self) -> list[Job]:
        """Questions about one attribute of things of one kind, each passage a single statement."""
        first = self.world.entity()
        attribute = self.rng.choice(first.attributes)
        entities = [first]
        for _ in range(self.rng.randint(1, MAX_STATEMENTS - 1)):
            name = self.world.confusable(first).name if self.rng.random() < 0.5 else None
            entities.append(self.world.entity(first.kind, name=name, must={attribute: None}))
        self.rng.shuffle(entities)
        stated = [replace(entity, facts={attribute: entity.facts[attribute]}) for entity in entities]
        passages = [self.world.passage(entity) for entity in stated]
        asked = [self._question(entity) for entity in stated]
        return [Job(self._ask(question, passages), answer, is_answer=True) for question, answer in asked]

    def answer_by_heart(self) -> list[Job]:
        """Questions about known entities without passages; now and then below a passage about another."""
        shown = [self.world.passage(self.world.entity())] if self.rng.random() < 0.15 else []
        asked = [self._question(self.rng.choice(self.known)) for _ in range(8)]
        return [Job(self._ask(question, shown), answer, is_answer=True) for question, answer in asked]

    def reason(self) -> list[Job]:
        """Questions with a chain of thought below the same worked examples; most take two passages."""
        jobs = []
        for _ in range(2):
            one_hop = self.rng.random() < 0.3
            asked = single_question(self.world, self._wording()) if one_hop else self._two_hop()
            passages = self._passages(self._with_distractors(asked.entities))
            ids = self.prompts.question_ids(
                self.tokenizer, asked.question, passages, with_cot=True, dataset=DEMO_DATASET
            )
            jobs.append(Job(ids, asked.chain_of_thought))
        return jobs

    def rewrite(self) -> list[Job]:
        """Passages in other words."""
        drawn = [self.world.augmented(self.world.entity()) for _ in range(3)]
        return [Job(self.prompts.rewrite_ids(self.tokenizer, each.passage), each.rewrite) for each in drawn]

    def write_qa_pairs(self) -> list[Job]:
        """The QA pairs of passages, as JSON."""
        drawn = [self.world.augmented(self.world.entity()) for _ in range(2)]
        return [
            Job(self.prompts.qa_ids(self.tokenizer, each.passage), json.dumps([pair.to_json() for pair in each.qa]))
            for each in drawn
        ]

    def example(self, job: Job) -> Example:
        """A job's tokens: the reply, closed by a full stop unless it is JSON, and the turn's end."""
        text = job.reply if job.reply.endswith(("]", ".")) else job.reply + "."
        reply = [*self._ids(text), int(self.tokenizer.eos_token_id)]
        if not job.is_answer:
            return Example(job.prompt_ids, reply, 1.0)
        return Example(job.prompt_ids, reply, ANSWER_WEIGHT, self._places(job.reply, job.prompt_ids))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _places(self, answer: str, prompt_ids: Sequence[int]) -> list[list[int]]:
        """Where each of the answer's tokens stands in the prompt, in each place that holds all of the answer."""
        sought = [self._spelling[i] for i in self._ids(answer)]
        prompt = [self._spelling[i] for i in prompt_ids]
        starts = [i for i in range(len(prompt) - len(sought) + 1) if prompt[i : i + len(sought)] == sought]
        return [[start + step for start in starts] for step in range(len(sought))]

    def _question(self, entity: Entity) -> tuple[str, str]:
        attribute = self.rng.choice(entity.attributes)
        question = self.world.question(entity, attribute, self._wording())
        return question, entity.facts[attribute]

    def _ask(self, question: str, passages: Sequence[str]) -> list[int]:
        return self.prompts.question_ids(self.tokenizer, question, passages)

    def _wording(self) -> str:
        return self.rng.choice(WORDING_SETS)

    def _two_hop(self) -> ReasonedQuestion:
        draw = self.rng.choice((bridge_question, comparison_question))
        return draw(self.world, self._wording())

    def _with_distractors(self, entities: Sequence[Entity]) -> list[Entity]:
        """These entities and others, mostly with names like theirs, `MAX_PASSAGES` at most: these first, as a retriever
        ranks them, but now and then in any order."""
        shown = list(entities)
        for _ in range(self.rng.randint(0, MAX_PASSAGES - len(entities))):
            like = self.rng.choice(entities)
            shown.append(self.world.confusable(like) if self.rng.random() < 0.5 else self.world.entity())
        if self.rng.random() < 0.4:
            self.rng.shuffle(shown)
        return shown

    def _passages(self, entities: Sequence[Entity]) -> list[str]:
        """A passage each; in half of the prompts every sentence has the name, from which choosing is learnt first."""
        pronouns = self.rng.choice((0.0, 0.7))
        return [self.world.passage(entity, pronouns=pronouns) for entity in entities]


def training_texts(world: World, prompts: PromptTemplates, entities: int) -> list[str]:
    """Texts of all kinds that jobs are made of, for a tokenizer to be trained on."""
    texts = [*prompts.templates.values(), prompts.fewshot_text(DEMO_DATASET)] * (entities // 50)
    for _ in range(entities):
        augmented = world.augmented(world.entity())
        two_hop = world.rng.choice((bridge_question, comparison_question))(world, "test")
        texts += [augmented.passage, augmented.rewrite, json.dumps([pair.to_json() for pair in augmented.qa])]
        texts += [two_hop.question, two_hop.chain_of_thought]
    return texts
