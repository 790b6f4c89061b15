"""Names of what adapters can be: where they sit, how they are stored and merged. No torch."""

from __future__ import annotations

from typing import Literal, get_args

DEFAULT_TARGETS = ("down_proj", "gate_proj", "up_proj")
"""The feed-forward matrices, which the paper adapts (section 4.1)."""

Merge = Literal["sum", "mean", "score", "ties", "orthogonal"]
"""`sum` of the updates (paper section 3.3; PEFT calls it `cat`). `mean` of them. `score`: a sum in which each counts as
its passage scored in retrieval, relative to the best. `ties`: the larger half of each adapter's values, of those the
ones whose sign most agree on, averaged (arXiv 2306.01708), A and B apart as in PEFT. `orthogonal`: a sum in which each
adapter writes only into directions that no better ranked one writes into."""
MERGES: tuple[str, ...] = get_args(Merge)

LoraA = Literal["trained", "shared"]
"""`trained`: A and B are trained (LoRA, arXiv 2106.09685). `shared`: A stays as it is in `base_weight`, the same for
every passage, and B alone is trained (LoRA-FA, arXiv 2308.03303); adapters then add up by their B."""
LORA_AS: tuple[str, ...] = get_args(LoraA)

AdapterFormat = Literal["float32", "bfloat16", "int4"]
"""What an adapter takes of 4, 2 or half a byte a parameter. `int4` keeps the difference from `base_weight`."""
ADAPTER_FORMATS: tuple[str, ...] = get_args(AdapterFormat)
