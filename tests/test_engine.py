"""The stacked engine gives the weights and the texts that plain PEFT gives."""

import random
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from benchmarks import baselines
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import load_llm
from prag_lightning.lora.adapters import lora_config, random_adapter, read_adapter, write_adapter
from prag_lightning.lora.int4 import compress, expand
from prag_lightning.lora.merge import TIES_DENSITY, merge, merge_all, stack
from prag_lightning.lora.names import MERGES
from prag_lightning.records import AugmentedPassage, QAPair
from prag_lightning.training.encoder import Encoder, PassageExamples
from prag_lightning.training.examples import Example, ExampleBuilder
from prag_lightning.training.groups import group_passages
from prag_lightning.training.recipe import TrainingRecipe
from prag_lightning.training.self_distillation import with_self_distillation

RANK, ALPHA = 2, 32
PROMPTS = PromptTemplates.load(Path(__file__).parent.parent / "configs/prompts/default.yaml")
WORDS = ["river", "stone", "harbour", "glass", "seven", "lantern", "winter", "copper", "Ana", "Oru", "Brell", "marsh"]


@pytest.fixture(scope="module")
def base_weight(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("base") / "base_weight"
    baselines.make_base_weight(
        AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32), directory, RANK, ALPHA
    )
    return directory


def passage(seed: int, pairs: int) -> AugmentedPassage:
    rng = random.Random(seed)

    def text(words: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(words))

    qa = tuple(QAPair(f"What is {text(3)}?", text(1), f"It is {text(4)}.") for _ in range(pairs))
    return AugmentedPassage(text(6 + seed % 5), text(5 + seed % 3), qa)


PASSAGES = [passage(seed, pairs) for seed, pairs in enumerate([3, 1, 2, 5, 3, 4, 3, 2])]


def as_plain(examples: tuple[Example, ...]) -> list[tuple[tuple[int, ...], int]]:
    return [(example.input_ids, example.first_target) for example in examples]


@pytest.mark.parametrize(
    ("objective", "include_text", "locality", "samples", "with_cot", "batch_size", "epochs"),
    [
        ("published", "none", 0, 0, False, 1, 1),
        ("published", "none", 0, 0, False, 2, 2),
        ("published", "none", 0, 0, True, 1, 2),
        ("published", "none", 1, 0, True, 2, 1),
        ("answer", "none", 0, 0, False, 1, 1),
        ("closed_book", "none", 0, 0, True, 2, 2),
        ("closed_book", "passage", 0, 0, False, 1, 2),
        ("closed_book", "rewrite", 2, 0, False, 3, 1),
        ("distill", "none", 0, 0, False, 2, 2),
        ("distill", "rewrite", 0, 0, True, 1, 1),
        ("distill", "none", 1, 2, False, 2, 1),
    ],
)
def test_adapters_equal_plain_peft(
    llm, model_folder, base_weight, objective, include_text, locality, samples, with_cot, batch_size, epochs
):
    builder = ExampleBuilder(
        PROMPTS,
        llm.tokenizer,
        with_cot=with_cot,
        dataset="demo",
        objective=objective,
        include_text=include_text,
        locality=locality,
        distill_samples=samples,
    )
    continued = with_self_distillation(llm, builder, PASSAGES)
    passages = [PassageExamples(str(i), tuple(builder.build(p))) for i, p in enumerate(continued)]
    recipe = TrainingRecipe(RANK, ALPHA, 3e-4, epochs, batch_size)
    start = read_adapter(base_weight, llm.stack, RANK, ALPHA)
    encoder = Encoder(llm, start, recipe)
    plain_model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    plain = [
        baselines.train(
            plain_model,
            base_weight,
            as_plain(p.examples),
            batch_size=batch_size,
            epochs=epochs,
            teachers=[example.teacher_ids for example in p.examples],
        )
        for p in passages
    ]
    for group_size in (1, 3, 8):
        groups = [passages[i : i + group_size] for i in range(0, len(passages), group_size)]
        encoded = [passage for group in groups for passage in encoder.encode(group)]
        assert [e.key for e in encoded] == [p.key for p in passages]
        for got, wanted, source in zip(encoded, plain, passages, strict=True):
            assert len(got.losses) == recipe.steps(len(source.examples))
            for name, pair in got.weights.items():
                for letter, tensor, begin in zip("AB", pair, start[name], strict=True):
                    reference = wanted[f"base_model.model.{name}.lora_{letter}.weight"]
                    error = (tensor - reference).norm() / (reference - begin).norm()
                    assert error < 1e-3, (group_size, got.key, name, letter, error)


def test_encoding_leaves_the_model_as_it_was(llm, model_folder):
    ids = torch.tensor([[5, 6, 7, 8]])
    plain_model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    assert torch.equal(llm.model(ids).logits, plain_model(ids).logits)
    other = load_llm(str(model_folder))
    names = [name for name, _ in plain_model.named_modules()]
    other.stack.detach()
    assert [name for name, _ in other.model.named_modules()] == names


def test_groups_hold_every_passage_once_within_the_budget(llm):
    recipe = TrainingRecipe(per_device_train_batch_size=2)
    rng = random.Random(0)
    passages = [
        PassageExamples(str(i), tuple(Example((1,) * rng.randint(2, 300)) for _ in range(rng.randint(1, 5))))
        for i in range(200)
    ]
    groups = group_passages(passages, recipe, 1000)
    assert sorted(p.key for group in groups for p in group) == sorted(p.key for p in passages)
    assert all(len(g) == 1 or len(g) * 2 * max(p.longest for p in g) <= 1000 for g in groups)
    assert max(len(g) for g in groups) > 10


@pytest.fixture(scope="module")
def adapters(llm, base_weight, tmp_path_factory) -> list[Path]:
    """Eight adapters trained hard, so that they change the texts."""
    builder = ExampleBuilder(PROMPTS, llm.tokenizer)
    recipe = TrainingRecipe(RANK, ALPHA, 3e-2, 2)
    encoder = Encoder(llm, read_adapter(base_weight, llm.stack, RANK, ALPHA), recipe)
    root = tmp_path_factory.mktemp("adapters")
    group = [PassageExamples(str(i), tuple(builder.build(p))) for i, p in enumerate(PASSAGES)]
    config = lora_config(llm.name, RANK, ALPHA, llm.stack.targets)
    for encoded in encoder.encode(group):
        write_adapter(root / encoded.key, encoded.weights, config)
    return [root / str(i) for i in range(len(PASSAGES))]


def test_answers_equal_peft_and_do_not_depend_on_the_batch(llm, model_folder, adapters):
    rng = random.Random(1)
    rows = [rng.sample(range(8), k=rng.randint(1, 3)) for _ in range(8)]
    prompts = [PROMPTS.question_ids(llm.tokenizer, f"Where is {WORDS[i]}?", [WORDS[i]] * (i % 3)) for i in range(8)]
    weights = [read_adapter(directory, llm.stack, RANK, ALPHA) for directory in adapters]
    merged = [merge([weights[i] for i in row]) for row in rows]
    scaling = ALPHA / RANK
    together = generate(llm, prompts, 12, adapters=stack(merged), scaling=scaling)
    alone = [
        generate(llm, [prompt], 12, adapters=[adapter], scaling=scaling)[0]
        for prompt, adapter in zip(prompts, merged, strict=True)
    ]
    assert together == alone
    assert together != generate(llm, prompts, 12)
    plain_model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    for text, prompt, row in zip(together, prompts, rows, strict=True):
        ids = baselines.answer(plain_model, prompt, [adapters[i] for i in row], 12)
        assert llm.tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize(
    ("method", "combination", "weight"), [("sum", "cat", 1.0), ("mean", "cat", 1 / 3), ("ties", "ties", 1.0)]
)
def test_merges_equal_pefts_and_are_written_as_one_adapter(
    llm, model_folder, adapters, tmp_path, method, combination, weight
):
    names = ["0", "1", "2"]
    plain = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    peft_model = PeftModel.from_pretrained(plain, str(adapters[0]), adapter_name="0")
    for name in names[1:]:
        peft_model.load_adapter(str(adapters[int(name)]), adapter_name=name)
    peft_model.add_weighted_adapter(names, [weight] * 3, "merged", combination_type=combination, density=TIES_DENSITY)
    peft_model.set_adapter("merged")
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = peft_model(ids).logits.detach()
    peft_model.unload()
    merged = merge([read_adapter(adapters[int(name)], llm.stack, RANK, ALPHA) for name in names], method)
    rank = next(iter(merged.values()))[0].shape[0]
    write_adapter(tmp_path / "merged", merged, lora_config(llm.name, rank, ALPHA * rank // RANK, llm.stack.targets))
    loaded = PeftModel.from_pretrained(plain, str(tmp_path / "merged"))
    torch.testing.assert_close(loaded(ids).logits, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(expected, llm.model(ids).logits, atol=1e-2)


@pytest.mark.parametrize("method", MERGES)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [[[0, 1, 2], [3, 4, 5], [5, 0, 3]], [[1], [2]], [[0, 1], [2], [3, 4, 5]]])
def test_questions_are_merged_together_as_one_by_one(llm, adapters, tmp_path, method, precision, rows):
    config = lora_config(llm.name, RANK, ALPHA, llm.stack.targets)
    stored = []
    for i, directory in enumerate(adapters[:6]):
        weights = read_adapter(directory, llm.stack, RANK, ALPHA)
        write_adapter(
            tmp_path / str(i), {n: (a.to(precision), b.to(precision)) for n, (a, b) in weights.items()}, config
        )
        stored.append(read_adapter(tmp_path / str(i), llm.stack, RANK, ALPHA))
    scores = [[8.0 - i for i in range(len(row))] for row in rows]
    expected = stack([merge([stored[i] for i in row], method, own) for row, own in zip(rows, scores, strict=True)])
    for chosen in (stored, [dict(adapter) for adapter in stored]):
        together = merge_all([[chosen[i] for i in row] for row in rows], method, scores)
        assert together.keys() == expected.keys()
        for name, pair in expected.items():
            assert all(torch.equal(got, wanted) for got, wanted in zip(together[name], pair, strict=True))
            assert together[name][1].mT.is_contiguous()


def test_scores_weigh_adapters_relative_to_the_best(llm, adapters):
    first, second = (read_adapter(directory, llm.stack, RANK, ALPHA) for directory in adapters[:2])
    merged = merge([first, second], "score", [8.0, 2.0])
    for name, (_, lora_b) in merged.items():
        torch.testing.assert_close(lora_b, torch.cat([first[name][1], 0.25 * second[name][1]], dim=1))
    assert_same(merge([first, second], "score"), merge([first, second]))


def test_orthogonal_adapters_leave_better_ranked_ones_alone(llm, adapters):
    weights = [read_adapter(directory, llm.stack, RANK, ALPHA) for directory in adapters[:3]]
    merged = merge(weights, "orthogonal")
    for name, (lora_a, lora_b) in merged.items():
        torch.testing.assert_close(lora_b[:, :RANK], weights[0][name][1])
        torch.testing.assert_close(lora_a, torch.cat([each[name][0] for each in weights]))
        blocks = lora_b.split(RANK, dim=1)
        for i, left in enumerate(blocks):
            for right in blocks[i + 1 :]:
                assert (left.T @ right).norm() < 1e-4 * left.norm() * right.norm() + 1e-9
    assert_same(merge(weights[:1], "orthogonal"), weights[0])


LLAMA_1B = {
    f"model.layers.{layer}.mlp.{name}": shape
    for layer in range(16)
    for name, shape in (("gate_proj", (2048, 8192)), ("up_proj", (2048, 8192)), ("down_proj", (8192, 2048)))
}


def test_a_compact_adapter_is_small_and_keeps_to_its_way(tmp_path):
    generator = torch.Generator().manual_seed(0)
    base, weights = {}, {}
    for name, (d_in, d_out) in LLAMA_1B.items():
        base[name] = (torch.randn(2, d_in, generator=generator), torch.zeros(d_out, 2))
        weights[name] = (
            base[name][0] + 1e-3 * torch.randn(2, d_in, generator=generator),
            1e-3 * torch.randn(d_out, 2, generator=generator),
        )
    tensors = compress(weights, base)
    save_file(tensors, tmp_path / "adapter.safetensors")
    assert (tmp_path / "adapter.safetensors").stat().st_size < 500_000
    for name, (lora_a, lora_b) in expand(tensors, base).items():
        for start, wanted, got, dim in zip(base[name], weights[name], (lora_a, lora_b), (1, 0), strict=True):
            way = wanted - start
            half_a_step = way.abs().amax(dim=dim, keepdim=True) / 7 / 2
            assert ((got - wanted).abs() <= half_a_step * 1.01 + 1e-6).all()
    with pytest.raises(ValueError, match="values where"):
        expand(tensors, dict(list(base.items())[:-1]))
    assert_same(expand(compress(base, base), base), base)


def assert_same(left, right) -> None:
    for name, pair in left.items():
        for a, b in zip(pair, right[name], strict=True):
            torch.testing.assert_close(a, b)


def test_random_adapter_is_distributed_as_pefts(llm, base_weight):
    ours = random_adapter(llm.stack, RANK, seed=7)
    for name, (lora_a, lora_b) in read_adapter(base_weight, llm.stack, RANK, ALPHA).items():
        bound = lora_a.shape[1] ** -0.5
        for tensor in (lora_a, ours[name][0]):
            assert 0.8 * bound < tensor.abs().max() <= bound
        assert not lora_b.any()
        assert not ours[name][1].any()
    assert all(torch.equal(a, random_adapter(llm.stack, RANK, seed=7)[n][0]) for n, (a, _) in ours.items())
