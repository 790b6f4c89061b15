"""Continuous batching: what a row is written as does not depend on which rows come and go beside it."""

import random

import pytest
import torch
from torch.nn.functional import softmax

from prag_lightning.llm.continuous import NOT_FINITE, ContinuousBatch, OneByOne, Row, decoder_for
from prag_lightning.llm.generation import generate_each
from prag_lightning.llm.sampling import Sampling
from prag_lightning.lora.adapters import random_adapter
from tiny_llm import MODELS, load_random_llm

JOBS = 24


def adapter(llm, rank: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    weights = random_adapter(llm.stack, rank, seed)
    return {name: (a, 0.3 * torch.randn(b.shape, generator=generator)) for name, (a, b) in weights.items()}


class Collected:
    """A row, and what it told."""

    def __init__(self, prompt, length, weights=None, sampling=None, most=None):
        self.tokens, self.why = [], []
        self.row = Row(prompt, length, self.take, self.why.append, weights, 2.0, sampling)
        self.most = most

    def take(self, token: int) -> bool:
        assert not self.why, "a token after its end"
        self.tokens.append(token)
        return self.most is None or len(self.tokens) < self.most


def write(decoder, collected: list[Collected], seed: int = 0) -> None:
    """Let rows join at random times, and write all to their ends."""
    chance, waiting = random.Random(seed), list(collected)
    while waiting or len(decoder):
        if waiting and chance.random() < 0.5:
            count = chance.randint(1, 3)
            decoder.add([each.row for each in waiting[:count]])
            waiting = waiting[count:]
        if len(decoder):
            decoder.step()


def jobs(llm) -> list[tuple[list[int], int, object]]:
    chance = random.Random(0)
    return [
        (
            [chance.randrange(250) for _ in range(chance.randint(1, 40))],
            chance.randint(1, 20),
            None if number % 4 == 0 else adapter(llm, chance.choice([2, 4, 8]), number),
        )
        for number in range(JOBS)
    ]


@pytest.mark.parametrize("name", ["llama", *MODELS])
@pytest.mark.parametrize("kind", [ContinuousBatch, OneByOne])
def test_rows_that_come_and_go_are_what_generate_writes_of_each_alone(name, kind, tmp_path):
    llm = load_random_llm(name, tmp_path)
    asked = jobs(llm)
    wanted = [
        generate_each(llm, [prompt], length, adapters=None if weights is None else [weights], scaling=2.0)[0]
        for prompt, length, weights in asked
    ]
    collected = [Collected(*job) for job in asked]
    write(kind(llm), collected)
    assert [llm.tokenizer.decode(each.tokens, skip_special_tokens=True) for each in collected] == wanted
    ends = llm.tokenizer.eos_token_id
    for each, (_, length, _) in zip(collected, asked, strict=True):
        assert each.why == (["stop"] if each.tokens[-1] == ends else ["length"])
        assert len(each.tokens) == length or each.tokens[-1] == ends


def test_the_repetition_penalty_acts_on_each_row_alone(tmp_path):
    llm = load_random_llm("llama", tmp_path)
    llm.model.generation_config.repetition_penalty = 1.7
    assert isinstance(decoder_for(llm), ContinuousBatch)
    asked = jobs(llm)
    wanted = [
        generate_each(llm, [prompt], length, adapters=None if weights is None else [weights], scaling=2.0)[0]
        for prompt, length, weights in asked
    ]
    collected = [Collected(*job) for job in asked]
    write(decoder_for(llm), collected)
    assert [llm.tokenizer.decode(each.tokens, skip_special_tokens=True) for each in collected] == wanted


def test_other_settings_and_other_models_are_left_to_generate(tmp_path):
    llm = load_random_llm("llama", tmp_path)
    llm.model.generation_config.no_repeat_ngram_size = 2
    decoder = decoder_for(llm)
    assert isinstance(decoder, OneByOne)
    collected = [Collected([1, 2, 1, 2], 30)]
    write(decoder, collected)
    assert (
        llm.tokenizer.decode(collected[0].tokens, skip_special_tokens=True)
        == (generate_each(llm, [[1, 2, 1, 2]], 30)[0])
    )
    llm.model.generation_config.no_repeat_ngram_size = 0
    llm.model.config.model_type = "unheard_of"
    assert isinstance(decoder_for(llm), OneByOne)


@pytest.mark.parametrize("kind", [ContinuousBatch, OneByOne])
def test_a_row_ends_where_it_wants_to_and_a_dropped_one_at_once(kind, tmp_path):
    llm = load_random_llm("llama", tmp_path)
    asked = [(prompt, 12, adapter(llm, 4, number)) for number, (prompt, _, _) in enumerate(jobs(llm)[:4])]
    wanted = [Collected(*job) for job in asked]
    write(kind(llm), wanted)
    decoder = kind(llm)
    short, dropped, whole = Collected(*asked[1], most=1), Collected(*asked[2]), Collected(*asked[3])
    decoder.add([short.row, dropped.row, whole.row])
    decoder.drop(dropped.row)
    decoder.drop(dropped.row)  # a second time does nothing
    while len(decoder):
        decoder.step()
    assert short.tokens == wanted[1].tokens[:1]
    assert short.why == ["stop"]
    assert dropped.why == []
    assert whole.tokens == wanted[3].tokens


@pytest.mark.parametrize("kind", [ContinuousBatch, OneByOne])
def test_a_draw_depends_on_its_seed_alone(kind, tmp_path):
    llm = load_random_llm("llama", tmp_path)

    def drawn(seeds: list[int], others: int) -> list[list[int]]:
        collected = [Collected([5, 6, 7], 12, sampling=Sampling(1.0, 0.9, seed)) for seed in seeds]
        beside = [Collected(*job) for job in jobs(llm)[:others]]
        write(kind(llm), [*beside, *collected], seed=others)
        return [each.tokens for each in collected]

    alone = drawn([1], 0)[0]
    assert drawn([1, 2, 1], 5)[::2] == [alone, alone]
    assert drawn([2], 0)[0] != alone


def test_draws_are_as_likely_as_the_model_says():
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0])
    sampling = Sampling(2.0, 1.0, seed=0)
    count = torch.bincount(torch.tensor([sampling.choose(scores) for _ in range(4000)]), minlength=4) / 4000
    torch.testing.assert_close(count, softmax(scores / 2.0, -1), atol=0.03, rtol=0)
    nucleus = Sampling(1.0, 0.7, seed=0)  # the first has 0.64, the first two 0.88
    assert {nucleus.choose(scores) for _ in range(200)} == {0, 1}


@pytest.mark.parametrize("kind", [ContinuousBatch, OneByOne])
def test_scores_that_are_not_finite_cost_their_row_alone(kind, tmp_path):
    llm = load_random_llm("llama", tmp_path)
    broken = {name: (a, b * float("inf")) for name, (a, b) in adapter(llm, 2, 0).items()}
    asked = jobs(llm)[1]
    lone, bad, good = Collected(*asked), Collected([1, 2], 5, broken), Collected(*asked)
    write(kind(llm), [lone])
    decoder = kind(llm)
    decoder.add([bad.row, good.row])
    while len(decoder):
        decoder.step()
    assert bad.why == [NOT_FINITE]
    assert good.tokens == lone.tokens


def test_a_twin_computes_the_same_with_adapters_of_its_own(tmp_path):
    llm = load_random_llm("llama", tmp_path)
    twin = llm.twin()
    plain = generate_each(llm, [[1, 2, 3]], 8)
    weights = adapter(llm, 4, 1)
    with llm.carrying({name: (a[None], b[None]) for name, (a, b) in weights.items()}, 2.0):
        assert generate_each(twin, [[1, 2, 3]], 8) == plain
    adapted = generate_each(twin, [[1, 2, 3]], 8, adapters=[weights], scaling=2.0)
    assert adapted == generate_each(llm, [[1, 2, 3]], 8, adapters=[weights], scaling=2.0) != plain
    shared = zip(llm.model.parameters(), twin.model.parameters(), strict=True)
    assert all(one is other for one, other in shared)
