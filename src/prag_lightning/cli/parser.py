"""What the parsers of all `prag` commands share."""

from __future__ import annotations

import re
import sys
from argparse import RawDescriptionHelpFormatter
from typing import Any, NoReturn

from jsonargparse import DefaultHelpFormatter

from prag_lightning.errors import InputError, print_error

DESCRIPTION = """Parametric RAG: passages become LoRA adapters, questions are answered from weights.

The stages, in order, each with the same configuration file:
  prag augment --config configs/demo.yaml   the LLM rewrites passages and asks itself questions about them
  prag fit     --config configs/demo.yaml   passages become adapters
  prag test    --config configs/demo.yaml   questions are answered and scored
  prag report  --config configs/demo.yaml   all results as a table, and as a page with intervals and comparisons
  prag export  --config configs/demo.yaml --out FOLDER   adapters of questions or passages, as PEFT loads them
  prag check   --config configs/demo.yaml   every adapter is looked at: damaged, missing or out of date
A start for adapters that knows what answers look like, before fit:
  prag warmup-data --config configs/warmup.yaml    draws its questions, none of which testing asks
  prag fit         --config configs/warmup.yaml    trains it; --model.base_weight warmup then uses it
And for a question of your own:
  prag ask     --config configs/demo.yaml "Where was Ada Lovelace born?"
Before them:
  prag plan   --config configs/demo.yaml       what is left to do, how long it takes and how much it holds
  prag corpus --documents FOLDER --out FILE    cut documents of your own into passages
  prag data check --config configs/demo.yaml   what is there of the questions, the corpus and its index
  prag index      --config FILE                make the index of a retriever that keeps one on disk or on a server
Any value of the file can be overridden, as in: prag test --config configs/demo.yaml --model.inference_method combine
"""

_OF_A_SETTING = re.compile(r'Parser key "([^"]*)":\s*(.*)', re.DOTALL)


class HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """jsonargparse's help, with the line breaks of descriptions kept."""


class OneLineErrors:
    """A parser whose errors are one line."""

    def error(self, message: str, *_: Any, **__: Any) -> NoReturn:
        """Print the message in the shape of all errors, and end with exit code 2."""
        found = _OF_A_SETTING.match(message)
        where, what = found.groups() if found else ("", message)
        print_error(str(InputError(what.rstrip("."), where=where, hint="See --help")))
        sys.exit(2)
