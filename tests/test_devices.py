"""Nothing is left on the CPU that belongs beside the model: encoding, merging and decoding on another device."""

import pytest
import torch

from other_device import DEVICE, OtherDevice
from prag_lightning.llm.gate import try_padding
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import load_llm
from prag_lightning.llm.sampling import RowSampler
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.merge import merge_all
from prag_lightning.lora.names import MERGES
from prag_lightning.training.encoder import Encoder, PassageExamples
from prag_lightning.training.examples import Example
from prag_lightning.training.recipe import TrainingRecipe
from tiny_llm import save_random_llm

GROUP = [
    PassageExamples("a", (Example((5, 6, 7, 8)), Example((9, 8, 7), first_target=2, teacher_ids=(4, 4, 9, 8, 7)))),
    PassageExamples("b", (Example((11, 12, 13, 14, 15)),)),
]
PROMPTS = [[5, 6, 7], [9, 10], [11, 12, 13, 14]]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return str(save_random_llm(tmp_path_factory.mktemp("llm") / "random"))


def encoded(llm):
    recipe = TrainingRecipe(learning_rate=0.01, num_train_epochs=2)
    return Encoder(llm, random_adapter(llm.stack, 2, seed=0), recipe).encode(GROUP)


def test_a_tensor_elsewhere_and_one_here_do_not_mix():
    with OtherDevice():
        there = torch.ones(3, device=DEVICE)
        with pytest.raises(RuntimeError, match="on the CPU"):
            there + torch.ones(3)
        assert (there.cpu() + torch.ones(3)).tolist() == [2, 2, 2]


def test_encoding_gives_the_same_and_leaves_adapters_on_the_cpu(model_folder):
    wanted = encoded(load_llm(model_folder))
    with OtherDevice():
        got = encoded(load_llm(model_folder, device=DEVICE))
    for here, there in zip(wanted, got, strict=True):
        assert there.losses == pytest.approx(here.losses)
        for name, pair in here.weights.items():
            for left, right in zip(pair, there.weights[name], strict=True):
                assert (right.device.type, right.dtype) == ("cpu", torch.float32)
                torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_encoding_elsewhere_in_other_precisions(model_folder, dtype):
    with OtherDevice():
        got = encoded(load_llm(model_folder, dtype=dtype, device=DEVICE))
    for passage, wanted in zip(got, encoded(load_llm(model_folder)), strict=True):
        assert passage.losses == pytest.approx(wanted.losses, rel=0.05)
        for pair in passage.weights.values():
            assert {(tensor.device.type, tensor.dtype) for tensor in pair} == {("cpu", torch.float32)}


@pytest.mark.parametrize("method", MERGES)
def test_merged_adapters_answer_the_same(model_folder, method):
    here = load_llm(model_folder)
    adapters = [passage.weights for passage in encoded(here)]
    merged = merge_all([adapters] * len(PROMPTS), method, [[2.0, 1.0]] * len(PROMPTS))
    wanted = generate(here, PROMPTS, 8, adapters=merged, scaling=16.0)
    assert wanted != generate(here, PROMPTS, 8)
    with OtherDevice():
        there = load_llm(model_folder, device=DEVICE)
        assert generate(there, PROMPTS, 8, adapters=merged, scaling=16.0) == wanted


def test_penalties_sampling_and_the_trial_of_padding_are_beside_the_model(model_folder):
    def texts(llm):
        llm.model.generation_config.repetition_penalty = 1.3
        return generate(
            llm,
            PROMPTS,
            8,
            make_processors=lambda rows: [RowSampler(rows, temperature=0.9, top_k=20, max_new_tokens=8)],
        )

    here = load_llm(model_folder)
    with OtherDevice():
        there = load_llm(model_folder, device=DEVICE)
        assert try_padding(there.model, there.stack, there.pad_id, "toy", "")
        assert texts(there) == texts(here)
