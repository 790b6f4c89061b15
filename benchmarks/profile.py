"""Where the time of encoding and answering goes, by torch's profiler: to be looked at before anything is changed.

    python -m benchmarks.profile [--model 26M]

Prints the costliest operations of a group's training, of reading long prompts, and of writing long answers.
PROFILE.md beside this file says what was made of them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from benchmarks.answering import TOPK
from benchmarks.subjects import GROUP_TOKENS, PROMPTS, RECIPE, SHAPES, as_examples, make_model, some_passages
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import load_llm
from prag_lightning.lora.adapters import read_adapter
from prag_lightning.lora.merge import merge_all
from prag_lightning.training.encoder import Encoder
from prag_lightning.training.groups import group_passages

BATCH, ROWS = 16, 12


def main() -> None:
    """Profile, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), default="26M")
    size = parser.parse_args().model
    with tempfile.TemporaryDirectory() as name:
        folder = make_model(Path(name) / size, size)
        llm = load_llm(str(folder))
        start = read_adapter(folder / "base_weight", llm.stack, RECIPE.lora_rank, RECIPE.lora_alpha)
        passages = some_passages(200)
        (group, *_) = group_passages(as_examples(llm, passages), RECIPE, GROUP_TOKENS[size])
        encoder = Encoder(llm, start, RECIPE)
        show(f"{size}: a group of {len(group)} passages", lambda: encoder.encode(group))
        adapters = merge_all([[start] * TOPK] * BATCH)

        def answer(shown: int, length: int) -> object:
            texts = [passage.passage for passage in passages]
            prompts = [
                PROMPTS.question_ids(llm.tokenizer, f"Where was {i} born?", texts[shown * i : shown * (i + 1)])
                for i in range(BATCH)
            ]
            return generate(llm, prompts, length, adapters=adapters, scaling=RECIPE.scaling)

        show(f"{size}: {BATCH} prompts with {TOPK} passages each, one token", lambda: answer(TOPK, 1))
        show(f"{size}: {BATCH} short prompts, 128 tokens", lambda: answer(0, 128))


def show(title: str, work: Callable[[], object]) -> None:
    """Do some work once so that buffers are there, then again under the profiler, and print what took longest."""
    work()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    print(f"{title}\n{profiled.key_averages().table(sort_by='self_cpu_time_total', row_limit=ROWS)}")


if __name__ == "__main__":
    main()
