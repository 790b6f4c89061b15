"""Writes docs/models.md: what works with which model type, tried out on tiny ones with random weights.

python -m tools.supported_models [TYPE ...]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import random
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks import baselines
from prag_lightning.errors import InputError
from prag_lightning.llm.generation import generate_each
from prag_lightning.llm.loading import LLM, load_llm
from prag_lightning.lora.adapters import lora_config, named_tensors, random_adapter, write_adapter
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.training.encoder import Encoder, PassageExamples
from prag_lightning.training.examples import Example
from prag_lightning.training.loss import hidden_and_head
from prag_lightning.training.recipe import TrainingRecipe
from tools.tiny_models import TYPES, save_tiny, targets

PAGE = Path(__file__).parent.parent / "docs/models.md"
_PROMPTS, _NEW_TOKENS = (3, 40, 9, 21), 12
"""Lengths of the prompts that are continued together and alone, and of their continuations."""
_EXAMPLES = ((20, 31, 12), (25, 8, 17))
"""Lengths of each passage's training examples."""
_RECIPE = TrainingRecipe(lora_rank=2, lora_alpha=4, learning_rate=1e-3)
_INTRODUCTION = """# Model types

Each type was tried out as a tiny model with random weights, under transformers {transformers} and PyTorch {torch}, by
`python -m tools.supported_models`, which writes this page.

- **adapters**: the linear layers that carried them, and how far their updates were from those of plain PEFT, trained
  one passage at a time (relative error; above 0.001 is wrong). Where a model keeps the matrices of its experts as one
  tensor, they carry none, and loading says so.
- **batches**: `any` means that prompts of any length share a batch; `one length` that padding would reach the texts, so
  that only prompts of one length share one. Texts in batches, each row with an adapter of its own, were compared with
  those that PEFT and transformers' `generate` give for each prompt alone.
- **head**: `weights` means that the loss is computed in pieces from the last hidden states; `logits` that the model
  scales or caps its logits, and the loss takes all of them at once.

Types that are not here are tried out when they are loaded, in the same way, and refused by name if they fail.

| type | adapters on | error of updates | batches | head | notes |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """What was found of a type: the cells of its row in the table, in order."""

    cells: tuple[str, ...]

    def __str__(self) -> str:
        return f"| {' | '.join(self.cells)} |"


def try_out(model_type: str, folder: Path) -> Row:
    """Load a tiny model of a type, and compare what it does with plain transformers and PEFT."""
    save_tiny(model_type, folder)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            llm = load_llm(str(folder), target_modules=targets(model_type))
    except InputError as error:
        return Row((model_type, "", "", "", "", f"refused: {error.what}"))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    notes = [line.partition(": ")[2] for line in said.getvalue().splitlines() if line.startswith(f"{model_type}: ")]
    error = ""
    try:
        error = f"{update_error(llm, plain, folder / 'base'):.0e}"
        if wrong := wrong_texts(llm, plain, folder / "adapters"):
            notes.append(f"{wrong} of {len(_PROMPTS)} texts wrong")
    except Exception as failure:  # of theirs or of ours: the table says which
        notes.append(f"fails: {' '.join(str(failure).split())[:120]}")
    _, head, _ = hidden_and_head(llm)(torch.tensor([[1, 2]]))
    return Row(
        (
            model_type,
            ", ".join(targets(model_type)),
            error,
            "any" if llm.pads else "one length",
            "logits" if head is None else "weights",
            "; ".join(notes),
        )
    )


def update_error(llm: LLM, plain: PreTrainedModel, base: Path) -> float:
    """How far the update B A of any layer is from PEFT's, relative, at most."""
    start = random_adapter(llm.stack, _RECIPE.lora_rank, 0)
    write_adapter(base, start, lora_config("tiny", _RECIPE.lora_rank, _RECIPE.lora_alpha, llm.stack.targets))
    rng = random.Random(0)
    passages = [
        PassageExamples(str(i), tuple(Example(_tokens(rng, llm, length)) for length in lengths))
        for i, lengths in enumerate(_EXAMPLES)
    ]
    worst = 0.0
    for passage, encoded in zip(passages, Encoder(llm, start, _RECIPE).encode(passages), strict=True):
        examples = [(example.input_ids, example.first_target) for example in passage.examples]
        theirs = baselines.train(plain, base, examples, learning_rate=_RECIPE.learning_rate)
        ours = named_tensors(encoded.weights)
        for name in ours:
            if "lora_A" in name:
                b_name = name.replace("lora_A", "lora_B")
                update, wanted = ours[b_name] @ ours[name], theirs[b_name] @ theirs[name]
                worst = max(worst, float((update - wanted).norm() / wanted.norm().clamp(min=1e-12)))
    return worst


def wrong_texts(llm: LLM, plain: PreTrainedModel, folder: Path) -> int:
    """How many of some prompts' texts differ from what PEFT and transformers give for each alone."""
    rng, generator = random.Random(1), torch.Generator().manual_seed(1)
    prompts = [list(_tokens(rng, llm, length)) for length in _PROMPTS]
    adapters: list[LoraWeights] = [
        {
            name: (lora_a, 0.02 * torch.randn(lora_b.shape, generator=generator))
            for name, (lora_a, lora_b) in random_adapter(llm.stack, _RECIPE.lora_rank, seed).items()
        }
        for seed in range(len(prompts))
    ]
    texts = generate_each(llm, prompts, _NEW_TOKENS, adapters=adapters, scaling=_RECIPE.scaling)
    wrong = 0
    for i, (prompt, adapter, text) in enumerate(zip(prompts, adapters, texts, strict=True)):
        config = lora_config("tiny", _RECIPE.lora_rank, _RECIPE.lora_alpha, llm.stack.targets)
        write_adapter(folder / str(i), adapter, config)
        peft_model = PeftModel.from_pretrained(plain, str(folder / str(i)))
        ids = torch.tensor([prompt])
        output = peft_model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=_NEW_TOKENS, do_sample=False
        )
        wrong += text != llm.tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True)
        peft_model.unload()
    return wrong


def _tokens(rng: random.Random, llm: LLM, length: int) -> tuple[int, ...]:
    return tuple(rng.randrange(5, llm.vocabulary - 1) for _ in range(length))


def main() -> None:
    """Try out all types, or those that are named, and write the page, or print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="print these alone")
    chosen = parser.parse_args().types
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    rows = []
    for model_type in chosen or TYPES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(str(try_out(model_type, Path(folder) / model_type)))
        print(rows[-1], flush=True)
    if not chosen:
        versions = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
        PAGE.write_text(_INTRODUCTION.format(**versions) + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
