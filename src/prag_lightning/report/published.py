"""The paper's numbers (arXiv 2501.15915): F1 of its main experiment, and the recipe behind it."""

from __future__ import annotations

from collections.abc import Mapping

from prag_lightning.records import Json

PAPER = "https://arxiv.org/abs/2501.15915"
_METHODS = ("icl", "prag", "combine")
_COLUMNS = {
    "2wikimultihopqa": ("comparison", "bridge_comparison", "inference", "compositional", "total"),
    "hotpotqa": ("bridge", "comparison", "total"),
    "popqa": ("total",),
    "complexwebquestions": ("total",),
}
_F1 = {
    ("llama3.2-1b-instruct", "2wikimultihopqa"): (
        (0.4298, 0.3032, 0.2263, 0.1064, 0.2520),
        (0.4920, 0.3994, 0.2185, 0.1334, 0.2764),
        (0.5046, 0.4595, 0.2399, 0.1357, 0.3237),
    ),
    ("llama3.2-1b-instruct", "hotpotqa"): (
        (0.2110, 0.4083, 0.2671),
        (0.1602, 0.4493, 0.1999),
        (0.2282, 0.4217, 0.2689),
    ),
    ("llama3.2-1b-instruct", "popqa"): ((0.1839,), (0.2205,), (0.2961,)),
    ("llama3.2-1b-instruct", "complexwebquestions"): ((0.3726,), (0.3482,), (0.4101,)),
    ("qwen2.5-1.5b-instruct", "2wikimultihopqa"): (
        (0.3875, 0.3884, 0.1187, 0.0568, 0.2431),
        (0.4529, 0.4494, 0.2072, 0.1372, 0.3025),
        (0.4053, 0.4420, 0.1705, 0.1154, 0.2627),
    ),
    ("qwen2.5-1.5b-instruct", "hotpotqa"): (
        (0.1619, 0.3713, 0.2073),
        (0.1720, 0.4623, 0.2165),
        (0.2383, 0.5037, 0.2942),
    ),
    ("qwen2.5-1.5b-instruct", "popqa"): ((0.0999,), (0.1885,), (0.2261,)),
    ("qwen2.5-1.5b-instruct", "complexwebquestions"): ((0.2823,), (0.3280,), (0.3495,)),
    ("llama3-8b-instruct", "2wikimultihopqa"): (
        (0.5843, 0.4794, 0.1833, 0.0991, 0.3372),
        (0.6353, 0.5437, 0.2471, 0.1992, 0.3932),
        (0.6432, 0.5556, 0.3160, 0.2339, 0.4258),
    ),
    ("llama3-8b-instruct", "hotpotqa"): ((0.1823, 0.3493, 0.2277), (0.3115, 0.6557, 0.3563), (0.4025, 0.6918, 0.4559)),
    ("llama3-8b-instruct", "popqa"): ((0.1613,), (0.2413,), (0.3059,)),
    ("llama3-8b-instruct", "complexwebquestions"): ((0.3545,), (0.4541,), (0.4728,)),
}
"""F1 in 0..1 by model and data set: a row a method, a column a split."""
_RECIPE = {
    "lora_rank": 2,
    "lora_alpha": 32,
    "learning_rate": 3e-4,
    "per_device_train_batch_size": 1,
    "block_size": 3000,
    "objective": "published",
    "include_text": "none",
    "locality": 0,
    "answer_extraction": "paper",
    "topk": 3,
    "sample": 300,
}


def published_f1(model: str, dataset: str, split: str, method: str) -> float | None:
    """The paper's F1, in 0..1, if it has one; `model` is a published short name."""
    rows = _F1.get((model, dataset))
    if rows is None or method not in _METHODS or split not in _COLUMNS[dataset]:
        return None
    return rows[_METHODS.index(method)][_COLUMNS[dataset].index(split)]


def has_published(model: str, dataset: str) -> bool:
    """Whether the paper has numbers for the model on the data set."""
    return (model, dataset) in _F1


def recipe_differences(model: str, dataset: str, settings: Mapping[str, Json]) -> list[str]:
    """Where settings differ from the paper's for this model and data set, as "lora_rank 8, not 2"."""
    two_epochs = dataset == "popqa" or (model, dataset) == ("qwen2.5-1.5b-instruct", "hotpotqa")
    cot = dataset in ("2wikimultihopqa", "hotpotqa")
    recipe = {**_RECIPE, "num_train_epochs": 2 if two_epochs else 1, "with_cot": cot}
    return [
        f"{name} {settings[name]}, not {value}"
        for name, value in recipe.items()
        if name in settings and settings[name] != value
    ]
