"""Choose how prag-tiny's adapters are trained: the table behind the demo's settings.

Entities are newly drawn from the demo's side of the world, none of them the demo's own; questions are in the demo's
wordings. Prints a Markdown table and writes it to `--out`.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.files import write_text
from prag_lightning.llm.loading import load_llm
from prag_lightning.training.examples import IncludeText, Objective
from prag_lightning.training.recipe import TrainingRecipe
from tools.prag_tiny.evaluation import Evaluation

_Way = tuple[Objective, IncludeText, TrainingRecipe]
_PUBLISHED: list[_Way] = [
    ("published", "none", TrainingRecipe()),
    ("published", "none", TrainingRecipe(learning_rate=3e-3, num_train_epochs=4)),
    ("published", "none", TrainingRecipe(8, 16, 3e-3, 4)),
    ("answer", "none", TrainingRecipe(8, 16, 3e-3, 4)),
]
_RANKS, _LEARNING_RATES, _EPOCHS = (2, 8), (1e-3, 3e-3, 1e-2), (4, 8)
_STATEMENTS: tuple[IncludeText, ...] = ("none", "rewrite")
_ALPHA_PER_RANK = 2

_HEAD = """\
# How the demo's adapters were chosen

{entities} entities that are in neither the training nor the demo, {facts} questions in the demo's wordings. Exact match
in per cent without a passage in the prompt: with the passage's own adapter, with another passage's, and with its own
and two others' added; and with the passage both in the prompt and in the weights. The statement is what an adapter is
trained on beside the questions. The first row is the paper's recipe. `{command}` makes this table.

The demo takes the recipe for which own adapters and own adapters among three give most together.

| objective | statement | rank | alpha | rate | epochs | own | another's | own + 2 others | own + prompt | ms/passage |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


def main() -> None:
    """Try every recipe on the same entities."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="checkpoints/prag-tiny", help="folder of the model")
    parser.add_argument("--entities", type=int, default=60, help="how many entities to encode")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/prag-tiny/SWEEP.md"), help="file for the table")
    options = parser.parse_args()
    llm = load_llm(options.model)
    prompts = PromptTemplates.load("configs/prompts/default.yaml")
    grid: list[_Way] = [
        ("closed_book", include_text, TrainingRecipe(rank, _ALPHA_PER_RANK * rank, rate, epochs))
        for include_text, rank, rate, epochs in product(_STATEMENTS, _RANKS, _LEARNING_RATES, _EPOCHS)
    ]
    command = "python -m tools.sweep_prag_tiny"
    table = _HEAD.format(entities=options.entities, facts=3 * options.entities, command=command)
    for objective, include_text, recipe in [*_PUBLISHED, *grid]:
        evaluation = Evaluation(llm, prompts, [], options.entities, seed=1)
        encoded = evaluation.encode(recipe, objective, include_text)
        shares = [result.share for result in evaluation.adapters(encoded)]
        cells: list[object] = [objective, include_text, recipe.lora_rank, recipe.lora_alpha]
        cells += [f"{recipe.learning_rate:g}", recipe.num_train_epochs]
        cells += [f"{100 * share:.0f}" for share in shares] + [f"{1000 * encoded.seconds:.0f}"]
        table += f"| {' | '.join(map(str, cells))} |\n"
        print(table.splitlines()[-1], flush=True)
    write_text(options.out, table)


if __name__ == "__main__":
    main()
