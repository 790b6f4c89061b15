"""How well prag-tiny does each of its jobs, on entities that it has never seen."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TypeVar

from prag_lightning.augment import parse_qa_pairs
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import LLM
from prag_lightning.llm.sampling import RowSampler
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.merge import merge_all
from prag_lightning.lora.names import Merge
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.metrics import answer_presence, evaluate
from prag_lightning.records import AugmentedPassage
from prag_lightning.retrieval import RankBM25Retriever
from prag_lightning.training.encoder import Encoder, PassageExamples
from prag_lightning.training.examples import ExampleBuilder, IncludeText, Objective
from prag_lightning.training.recipe import TrainingRecipe
from prag_lightning.training.self_distillation import with_self_distillation
from tools.prag_tiny.demo import Demo
from tools.prag_tiny.tasks import DEMO_DATASET
from tools.prag_tiny.world import Entity, World

TOPK = 3
RECIPE = TrainingRecipe(lora_rank=8, lora_alpha=16, learning_rate=1e-3, num_train_epochs=8)
"""What adapters are tried with: far more steps than a model of billions of parameters needs."""
_BATCH = 50
_TEMPERATURE, _SAMPLE_TOP_K = 0.7, 50
_DIRECT_TOKENS, _LONG_TOKENS, _QA_TOKENS = 20, 128, 256

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Result:
    """A job, how many cases it was tried on, and the share that it did well."""

    job: str
    cases: int
    share: float


@dataclass(frozen=True)
class Encoded:
    """Entities, the adapters of their passages, and what these took.

    Args:
        entities: One a passage.
        weights: An adapter each.
        scaling: alpha / r.
        seconds: Of training, a passage.
    """

    entities: Sequence[Entity]
    weights: Sequence[LoraWeights]
    scaling: float
    seconds: float


@dataclass(frozen=True)
class Asked:
    """A question, its answer, and what stands in the prompt and in the weights, with the scores that adapters are
    merged by."""

    question: str
    answer: str
    passages: Sequence[str] = ()
    adapters: Sequence[LoraWeights] = ()
    scores: Sequence[float] = ()


@dataclass(frozen=True)
class Scored:
    """Exact match and F1 of an answer."""

    em: float
    f1: float


class Evaluation:
    """Tries a model on the demo and on newly drawn entities of the demo's side.

    Args:
        llm: The model.
        prompts: The templates that it was trained with.
        known: The entities that it learnt by heart.
        cases: How many questions, passages or entities to try a job on.
        seed: Decides which, and the samples.
    """

    def __init__(self, llm: LLM, prompts: PromptTemplates, known: Sequence[Entity], cases: int, seed: int = 0) -> None:
        self.llm, self.prompts, self.known, self.cases = llm, prompts, known, cases
        self.world = World(seed + 100, demo=True)

    def run(self, demo: Demo) -> list[Result]:
        """Try every job."""
        return [
            *self.demo_questions(demo),
            *self.choosing(),
            self.by_heart(),
            *self.adapters(self.encode()),
            *self.qa_pairs(),
            self.rewrites(),
        ]

    def demo_questions(self, demo: Demo) -> list[Result]:
        """EM on the demo without passages, with the first that BM25 finds, and with the first three."""
        retriever = RankBM25Retriever(demo.passages)
        results = []
        for split, pairs in demo.questions.items():
            asked = [Asked(question, answer) for question, answer in pairs[: self.cases]]
            hits = retriever.search([each.question for each in asked], TOPK)
            shown = [
                Asked(each.question, each.answer, [hit.passage.text for hit in found])
                for each, found in zip(asked, hits, strict=True)
            ]
            found_answers = [answer_presence(" ".join(each.passages), each.answer) for each in shown]
            results.append(Result(f"{split}: the answer stands in the passages", len(shown), mean(found_answers)))
            results.append(self._exact_matches(f"{split}: no passages", asked))
            first = [replace(each, passages=each.passages[:1]) for each in shown]
            results.append(self._exact_matches(f"{split}: the first passage", first))
            results.append(self._exact_matches(f"{split}: three passages", shown))
            if split != "single":
                results.append(self._exact_matches(f"{split}: three passages, chain of thought", shown, with_cot=True))
        return results

    def choosing(self) -> list[Result]:
        """EM with three passages about things of one kind in random order, whose names are alike, or are not."""
        results = []
        for names in ("alike", "unlike"):
            asked = []
            for entity in self._entities():
                draw = self.world.confusable if names == "alike" else lambda e: self.world.entity(e.kind)
                shown = [entity, draw(entity), draw(entity)]
                self.world.rng.shuffle(shown)
                passages = [self.world.passage(each) for each in shown]
                asked += [replace(each, passages=passages) for each in self.facts(entity)]
            results.append(self._exact_matches(f"three passages of one kind, names {names}", asked))
        return results

    def by_heart(self) -> Result:
        """EM on entities of training, without passages."""
        entities = self.known[: self.cases]
        return self._exact_matches("entities known by heart", [each for e in entities for each in self.facts(e)])

    def encode(
        self,
        recipe: TrainingRecipe = RECIPE,
        objective: Objective = "closed_book",
        include_text: IncludeText = "rewrite",
        qa_pairs: int | None = None,
    ) -> Encoded:
        """Train an adapter for each of some unseen entities, of perfect rewrites and QA pairs, of which the first
        `qa_pairs` are taken."""
        entities = self._entities()
        builder = ExampleBuilder(self.prompts, self.llm.tokenizer, objective=objective, include_text=include_text)
        written = [self.world.augmented(entity) for entity in entities]
        passages = [replace(augmented, qa=augmented.qa[:qa_pairs]) for augmented in written]
        started = time.perf_counter()
        weights = self.train(passages, recipe, builder)
        return Encoded(entities, weights, recipe.scaling, (time.perf_counter() - started) / len(passages))

    def train(
        self, passages: Sequence[AugmentedPassage], recipe: TrainingRecipe, builder: ExampleBuilder
    ) -> list[LoraWeights]:
        """An adapter of each passage, all trained at once."""
        encoder = Encoder(self.llm, random_adapter(self.llm.stack, recipe.lora_rank, 0), recipe)
        passages = with_self_distillation(self.llm, builder, passages)
        group = [PassageExamples(str(i), tuple(builder.build(passage))) for i, passage in enumerate(passages)]
        return [encoded.weights for encoded in encoder.encode(group)]

    def adapters(self, encoded: Encoded) -> list[Result]:
        """EM on encoded entities with the adapter of the passage, another's, and three added, without a passage in the
        prompt; and with the passage both in the prompt and in the weights."""
        own = encoded.weights
        neighbours = {
            "its own adapter": [[weights] for weights in own],
            "another passage's adapter": [[own[i - 1]] for i in range(len(own))],
            "its own and two others' adapters": [[own[i], own[i - 1], own[i - 2]] for i in range(len(own))],
        }
        asked = {
            name: [each for e, weights in zip(encoded.entities, rows, strict=True) for each in self.facts(e, weights)]
            for name, rows in neighbours.items()
        }
        asked["its own adapter and the passage in the prompt"] = [
            replace(each, passages=[self.world.passage(entity)])
            for entity, weights in zip(encoded.entities, own, strict=True)
            for each in self.facts(entity, [weights])
        ]
        return [self._exact_matches(name, rows, scaling=encoded.scaling) for name, rows in asked.items()]

    def qa_pairs(self) -> list[Result]:
        """How many sampled replies hold three QA pairs, and how many of these ask for the passage's facts correctly."""
        entities = self._entities()
        ids = [self.prompts.qa_ids(self.llm.tokenizer, self.world.passage(entity)) for entity in entities]
        valid = correct = 0
        for entity, reply in zip(entities, self._sample(ids, _QA_TOKENS), strict=True):
            try:
                pairs = parse_qa_pairs(reply)
            except InputError:
                continue
            valid += 1
            answers = [pair.answer for pair in pairs]
            named = all(entity.name in pair.question for pair in pairs)
            correct += named and sorted(answers) == sorted(entity.facts.values())
        return [
            Result("QA pairs: three in the reply", len(entities), valid / len(entities)),
            Result("QA pairs: all three correct", len(entities), correct / len(entities)),
        ]

    def rewrites(self) -> Result:
        """How many sampled rewrites keep the name and all values."""
        entities = self._entities()
        ids = [self.prompts.rewrite_ids(self.llm.tokenizer, self.world.passage(entity)) for entity in entities]
        texts = self._sample(ids, _LONG_TOKENS)
        kept = [
            all(fact in text for fact in (entity.name, *entity.facts.values()))
            for entity, text in zip(entities, texts, strict=True)
        ]
        return Result("rewrites that keep every fact", len(kept), mean(kept))

    def _entities(self) -> list[Entity]:
        return [self.world.entity() for _ in range(self.cases)]

    def facts(self, entity: Entity, adapters: Sequence[LoraWeights] = ()) -> list[Asked]:
        """Questions about all that is known of an entity, in the demo's wordings."""
        return [
            Asked(self.world.question(entity, attribute, "test"), value, adapters=adapters)
            for attribute, value in entity.facts.items()
        ]

    def _exact_matches(
        self, job: str, asked: Sequence[Asked], *, with_cot: bool = False, scaling: float = 1.0
    ) -> Result:
        scored = self.score(asked, with_cot=with_cot, scaling=scaling)
        return Result(job, len(scored), mean(each.em for each in scored))

    def score(
        self, asked: Sequence[Asked], *, with_cot: bool = False, scaling: float = 1.0, method: Merge = "sum"
    ) -> list[Scored]:
        """Ask questions, each with what stands in its prompt and in the weights."""
        scored: list[Scored] = []
        for batch in _batches(asked):
            ids = [
                self.prompts.question_ids(
                    self.llm.tokenizer, each.question, each.passages, with_cot=with_cot, dataset=DEMO_DATASET
                )
                for each in batch
            ]
            texts = generate(
                self.llm,
                ids,
                _LONG_TOKENS if with_cot else _DIRECT_TOKENS,
                adapters=merge_all([each.adapters for each in batch], method, [each.scores for each in batch])
                if batch[0].adapters
                else None,
                scaling=scaling,
            )
            for text, each in zip(texts, batch, strict=True):
                values = evaluate(text, each.answer, with_cot)
                scored.append(Scored(float(values["em"]), float(values["f1"])))
        return scored

    def _sample(self, prompts: Sequence[list[int]], max_new_tokens: int) -> list[str]:
        texts: list[str] = []
        for rows in _batches(prompts):
            first = len(texts)
            texts += generate(
                self.llm,
                rows,
                max_new_tokens,
                make_processors=lambda chosen, first=first: [  # type: ignore[misc]
                    RowSampler([first + row for row in chosen], _TEMPERATURE, _SAMPLE_TOP_K, max_new_tokens)
                ],
            )
        return texts


def _batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
