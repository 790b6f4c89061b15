"""The projection of a model, from general text that it reads and answers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from prag_lightning.data.boundary import common_prefix
from prag_lightning.data.chat_text import document_ids, text_ids
from prag_lightning.data.general_text import GeneralText
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.files import temp_path
from prag_lightning.llm.generation import generate
from prag_lightning.llm.loading import LLM
from prag_lightning.lora.null_space import NullSpace, SecondMoments
from prag_lightning.progress import Progress
from prag_lightning.training.loss import hidden_and_head

_VERSION = 1
"""Of how a projection is made."""
_BATCH = 16
_ANSWER_TOKENS = 20
_Kind = tuple[bool, bool]
"""Of general text: whether it has a question, and a passage."""


@dataclass(frozen=True)
class NullSpaceFile:
    """Where the projection of a model is kept, and what makes it.

    Args:
        folder: Of the model's projections.
        share: Of the energy of general text that adapters still read.
        text: The general text.
        prompts: The templates that its questions are asked with.
    """

    folder: Path
    share: float
    text: Sequence[GeneralText]
    prompts: PromptTemplates

    def open(self, llm: LLM, *, create: bool) -> NullSpace:
        """The projection; see `NullSpace`.

        Args:
            llm: The model, without adapters set.
            create: Make it if it is missing. Of several processes one does, and the others wait.

        Raises:
            InputError: if it is missing and not to be made, or broken.
        """
        path = self.path(llm)
        if create and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    self._make(llm, path)
        try:
            return NullSpace.load(path, llm.stack)
        except FileNotFoundError as error:
            raise InputError(
                "the projection of model.null_space is missing", where=str(path), hint="Run 'prag fit', which makes it"
            ) from error
        except (OSError, ValueError) as error:
            raise InputError(
                f"the projection of model.null_space cannot be read: {error}",
                where=str(path),
                hint="Delete it and run 'prag fit' again",
            ) from error

    def path(self, llm: LLM) -> Path:
        """Its file, named by the share and by all that decides it."""
        rows = [[row.question, row.passage] for row in self.text]
        decisive = [_VERSION, llm.fingerprint, llm.stack.targets, self.prompts.fingerprint(llm.tokenizer), rows]
        named = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]
        return self.folder / f"null_space={self.share}_{named}.safetensors"

    def _make(self, llm: LLM, path: Path) -> None:
        moments = second_moments(llm, self.prompts, self.text)
        bases: dict[str, tuple[Tensor, bool]] = {}
        with Progress("null space", len(moments.sums), "layers") as progress:
            for of_layer in moments.bases(self.share):
                bases |= of_layer
                progress.advance(1)
        beside = temp_path(path)
        NullSpace.save(beside, bases)
        beside.replace(path)


@torch.inference_mode()
def second_moments(
    llm: LLM, prompts: PromptTemplates, text: Sequence[GeneralText], batch: int = _BATCH
) -> SecondMoments:
    """Those of the model's inputs while it reads passages, and prompts with its own answers.

    The kinds of general text (passages, questions, questions about a passage) count alike, however long. Rows that
    begin alike, as prompts do, are counted from where they differ, so that each token in its context counts once.
    Whatever the batch, the sums are the same but for rounding.

    Args:
        llm: The model, without adapters set.
        prompts: The templates that questions are asked with.
        text: What is read.
        batch: Rows read at once.
    """
    rows: list[tuple[_Kind, list[int]]] = [
        ((False, True), document_ids(llm.tokenizer, row.passage)) for row in text if not row.question
    ]
    rows += _answered(llm, prompts, [row for row in text if row.question], batch)
    rows = sorted(((kind, tokens[: llm.context]) for kind, tokens in rows), key=lambda row: row[1])
    begun = [0, *(common_prefix(before, tokens) for (_, before), (_, tokens) in pairwise(rows))]
    counted: Counter[_Kind] = Counter()
    for (kind, tokens), begin in zip(rows, begun, strict=True):
        counted[kind] += len(tokens) - begin
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][1]))
    moments, read = SecondMoments(llm.stack), hidden_and_head(llm)
    with Progress("general text", len(rows), "rows") as progress:
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            ids = torch.full((len(some), len(rows[some[-1]][1])), llm.pad_id)
            weights = torch.zeros(ids.shape, dtype=torch.float32)
            for place, i in enumerate(some):
                kind, tokens = rows[i]
                ids[place, : len(tokens)] = torch.tensor(tokens)
                weights[place, begun[i] : len(tokens)] = 1 / counted[kind]
            with moments.watching(weights.to(llm.device)):
                read(ids.to(llm.device))
            progress.advance(len(some))
    return moments


def _answered(
    llm: LLM, prompts: PromptTemplates, text: Sequence[GeneralText], batch: int
) -> list[tuple[_Kind, list[int]]]:
    """Questions with the model's own answers; one that leaves no room in its context is left out."""
    asked = []
    for row in text:
        ids = prompts.question_ids(llm.tokenizer, row.question, [row.passage] if row.passage else [])
        if len(ids) + _ANSWER_TOKENS <= llm.context:
            asked.append(((True, bool(row.passage)), ids))
    asked.sort(key=lambda each: len(each[1]))
    rows = []
    with Progress("answers to general questions", len(asked), "questions") as progress:
        for start in range(0, len(asked), batch):
            some = asked[start : start + batch]
            answers = generate(llm, [ids for _, ids in some], _ANSWER_TOKENS)
            rows += [
                (kind, [*ids, *text_ids(llm.tokenizer, answer)])
                for (kind, ids), answer in zip(some, answers, strict=True)
            ]
            progress.advance(len(some))
    return rows
