"""Train prag-tiny, the small Llama of `checkpoints/prag-tiny/`, from nothing on a made-up world, and try it.

Writes the model, its tokenizer, `training.json` (what it took) and `README.md` (the model card) into the folder given
by `--out`. `--demo FOLDER` writes the demo's questions and corpus instead. Beside other busy processes, start it with
`OMP_WAIT_POLICY=passive`: threads that spin while they wait for each other make every step many times slower.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import torch

from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.files import write_text
from prag_lightning.llm.loading import load_llm
from tools.prag_tiny.card import model_card
from tools.prag_tiny.demo import make_demo, write_demo
from tools.prag_tiny.evaluation import Evaluation
from tools.prag_tiny.training import TinySettings, TrainingRecord, known_entities, read_record, train

SMOKE = TinySettings(steps=20, width=64, layers=2, ffn=128, vocab_size=1024, rows=4, known_entities=20, compiled=False)
"""Goes through every part in half a minute; its model knows nothing."""


def main() -> None:
    """Read the command line and do what it says."""
    options = _options()
    if options.demo:
        write_demo(options.demo)
        return
    torch.set_num_threads(options.threads)
    prompts = PromptTemplates.load(options.prompts)
    if not options.evaluate_only:
        settings, earlier = _plan(options)
        train(settings, prompts, options.out, earlier)
    _evaluate(options.out, prompts, options.cases)


def _plan(options: argparse.Namespace) -> tuple[TinySettings, TrainingRecord]:
    """Settings of the training, and what was done of it before."""
    settings, earlier = SMOKE if options.smoke else TinySettings(), TrainingRecord(())
    if options.resume:
        settings, earlier = read_record(options.out)
    given = {name: getattr(options, name) for name in ("minutes", "steps", "seed", "learning_rate")}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    return settings, replace(earlier, commands=(*earlier.commands, shlex.join(["python", *sys.argv])))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/prag-tiny"), help="folder of the model")
    parser.add_argument("--prompts", type=Path, default=Path("configs/prompts/default.yaml"), help="prompt file")
    parser.add_argument("--minutes", type=float, help="finish training after so long, earlier runs included")
    parser.add_argument("--steps", type=int, help="finish training after so many steps")
    parser.add_argument("--seed", type=int, help="decides world, weights and order")
    parser.add_argument("--learning-rate", type=float, help="at its peak")
    parser.add_argument("--resume", action="store_true", help="go on with the training whose model is in --out")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--cases", type=int, default=100, help="questions, passages or entities to try each job on")
    parser.add_argument("--smoke", action="store_true", help="train a model that knows nothing, in half a minute")
    parser.add_argument("--evaluate-only", action="store_true", help="try the model that is there, and write its card")
    parser.add_argument("--demo", type=Path, metavar="FOLDER", help="write the demo's questions and corpus, then end")
    return parser.parse_args()


def _evaluate(folder: Path, prompts: PromptTemplates, cases: int) -> None:
    """Try the model in `folder` and write its card."""
    settings, record = read_record(folder)
    llm = load_llm(str(folder))
    results = Evaluation(llm, prompts, known_entities(settings), cases, settings.seed).run(make_demo())
    card = model_card(settings, record, llm.model.num_parameters(), results)
    write_text(folder / "README.md", card)
    print(card)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
