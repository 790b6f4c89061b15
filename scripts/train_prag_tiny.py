"""Train prag-tiny, the small Llama of `checkpoints/prag-tiny/`, from nothing on a made-up world."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch

from prag_lightning.prompts import PromptTemplates
from prag_lightning.tiny.training import TinySettings, train

SMOKE = TinySettings(steps=20, width=64, layers=2, ffn=128, vocab_size=1024, rows=4, known_entities=20, compiled=False)
"""Big enough to go through every part, small enough for half a minute."""


def main() -> None:
    """Read the command line, train, evaluate, and write the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/prag-tiny"), help="where the model goes")
    parser.add_argument("--prompts", type=Path, default=Path("configs/prompts/default.yaml"), help="prompt file")
    parser.add_argument("--minutes", type=float, default=math.inf, help="finish training after so long")
    parser.add_argument("--steps", type=int, help="finish training after so many steps")
    parser.add_argument("--seed", type=int, default=0, help="decides world, weights and order")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--smoke", action="store_true", help="a model that knows nothing, in less than a minute")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = replace(SMOKE if options.smoke else TinySettings(), minutes=options.minutes, seed=options.seed)
    if options.steps is not None:
        settings = replace(settings, steps=options.steps)
    record = train(settings, PromptTemplates.load(options.prompts), options.out)
    print(record)


if __name__ == "__main__":
    main()
