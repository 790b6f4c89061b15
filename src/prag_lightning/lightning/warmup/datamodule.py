"""The rows of a warm-up: drawn from datasets, written to files, and handed on in batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from prag_lightning.data.boundary import AnswerBoundary
from prag_lightning.data.chat_text import TEMPLATE_DATE
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError, check_least
from prag_lightning.files import safe_name
from prag_lightning.lightning.warmup.batches import ResumableLoader, ShuffledBatches, collate
from prag_lightning.llm.loading import LLM
from prag_lightning.llm.names import short_name
from prag_lightning.training.examples import Example
from prag_lightning.warmup.questions import Candidates, TestSet, WarmupSource, check_disjoint, draw, question_hashes
from prag_lightning.warmup.rows import WarmupRow, read_rows


class Learner(Protocol):
    """What the data asks of the module that learns from it."""

    llm: LLM
    model_name: str

    def example(self, prompt: Sequence[int], closed: Sequence[int]) -> Example:
        """What is learnt of a prompt, open at its end and closed by its answer."""
        ...


class WarmupDataModule(LightningDataModule):
    """Questions with answers, and without passages, that are never those of `prag test`.

    `prag warmup-data` draws them and writes them down, `prag fit` learns from what is written.

    Args:
        sources: Where they are drawn from.
        test_sets: What testing asks: the sources' rows are others, and ask other questions.
        with_cot: Learn a chain of thought; the LLM writes it, and it is kept if its answer is exactly right.
        augment_model: Who writes chains of thought, as a short name, path or hub id; unset means the model itself.
        prompts: The prompt file.
        answer_boundary: Where prompts end: token (where the answer's first token begins, so that a prompt always is the
            beginning of what was trained) or published (in the blank before the answer, as the paper's code does).
        template_date: What chat templates that write today's date take for it, as YYYY-MM-DD.
        rows_root: Where the rows are kept, as direct/{source}.json and cot/{augment_model}/{source}.json.
        validation_rows: So many rows of each source, the last ones, are not learnt, but show in TensorBoard how well
            the others were.
        per_device_train_batch_size: Rows in a step of one device.
        augment_batch_size: Chains of thought that are written at once.
        max_new_tokens: Of the longest chain of thought.
        seed: Decides which rows are drawn, and the order of training.
    """

    def __init__(
        self,
        sources: list[WarmupSource],
        test_sets: list[TestSet],
        with_cot: bool = False,
        augment_model: str | None = None,
        prompts: str = "configs/prompts/default.yaml",
        answer_boundary: AnswerBoundary = "token",
        template_date: str = TEMPLATE_DATE,
        rows_root: str = "data/warmup",
        validation_rows: int = 0,
        per_device_train_batch_size: int = 1,
        augment_batch_size: int = 16,
        max_new_tokens: int = 128,
        seed: int = 42,
    ) -> None:
        super().__init__()
        if not sources:
            raise InputError("there are no sources", where="data.sources", hint="Name the datasets to learn from")
        if len({source.name for source in sources}) < len(sources):
            raise InputError("two sources are the same", where="data.sources", hint="Set another dataset or data_type")
        self.sources, self.test_sets, self.with_cot = sources, test_sets, with_cot
        self.augment_model, self.rows_root = augment_model, Path(rows_root)
        self.prompt_templates = PromptTemplates.load(prompts, answer_boundary, template_date)
        self.validation_rows, self.per_device_train_batch_size = validation_rows, per_device_train_batch_size
        self.augment_batch_size, self.max_new_tokens, self.seed = augment_batch_size, max_new_tokens, seed
        check_least(self, "data", 0, "validation_rows")
        check_least(self, "data", 1, "per_device_train_batch_size", "augment_batch_size", "max_new_tokens")
        self._rows: dict[str, list[WarmupRow]] | None = None

    def candidates(self) -> list[Candidates]:
        """What may be learnt from each source."""
        return [draw(source, self.test_sets, self.seed) for source in self.sources]

    def folder(self, model_name: str) -> Path:
        """Where the rows stand; `model_name` counts where no `augment_model` is set."""
        if not self.with_cot:
            return self.rows_root / "direct"
        return self.rows_root / "cot" / safe_name(short_name(self.augment_model or model_name), "data.augment_model")

    def rows(self, model_name: str) -> dict[str, list[WarmupRow]]:
        """The rows of each source, as they stand in its file.

        Raises:
            InputError: if one is missing or malformed, or testing asks one of their questions.
        """
        if self._rows is None:
            folder = self.folder(model_name)
            asked = [question.question for test in self.test_sets for question in test.questions()]
            rows = {}
            for source in self.sources:
                path = folder / f"{source.name}.json"
                rows[source.name] = read_rows(path, with_cot=self.with_cot)
                check_disjoint(
                    question_hashes(row.question for row in rows[source.name]),
                    asked,
                    str(path),
                    "Delete the file, and write it again with 'prag warmup-data'",
                )
                if len(rows[source.name]) <= self.validation_rows:
                    raise InputError(
                        f"there are {len(rows[source.name])} rows, and {self.validation_rows} are for validation",
                        where=str(path),
                        hint="Lower data.validation_rows",
                    )
            self._rows = rows
        return self._rows

    def training_rows(self, model_name: str) -> dict[str, list[WarmupRow]]:
        """The rows of each source that are learnt."""
        return {name: rows[: len(rows) - self.validation_rows] for name, rows in self.rows(model_name).items()}

    def fingerprint(self, model_name: str) -> str:
        """Hex SHA-256 of the rows that are learnt, and of all that decides what is made of them and in which order."""
        kind = "cot" if self.with_cot else "direct"
        templates = [self.prompt_templates.templates[f"{kind}.{role}"] for role in ("user", "assistant")]
        fewshot = [self.prompt_templates.fewshot_text(source.dataset) for source in self.sources if self.with_cot]
        rows = {name: [row.to_json() for row in rows] for name, rows in self.training_rows(model_name).items()}
        prompts = [templates, fewshot, self.prompt_templates.answer_boundary, str(self.prompt_templates.template_date)]
        content = json.dumps([prompts, rows, self.seed], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    # Batches

    def train_dataloader(self) -> ResumableLoader:
        """This process's share of the rows, shuffled anew each epoch."""
        assert self.trainer is not None
        examples = self._examples(self.training_rows(self._learner.model_name))
        batches = ShuffledBatches(len(examples), self.per_device_train_batch_size, self.seed, self.trainer)
        return ResumableLoader(examples, batches, self._learner.llm.pad_id)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """The rows that are not learnt, if there are any."""
        if not self.validation_rows:
            return []
        rows = {name: rows[-self.validation_rows :] for name, rows in self.rows(self._learner.model_name).items()}
        pad_id = self._learner.llm.pad_id
        return DataLoader(
            self._examples(rows),  # type: ignore[arg-type]
            batch_size=self.per_device_train_batch_size,
            collate_fn=lambda examples: collate(examples, pad_id),
        )

    def _examples(self, rows: dict[str, list[WarmupRow]]) -> list[Example]:
        return [self._example(source.dataset, row) for source in self.sources for row in rows[source.name]]

    def _example(self, dataset: str, row: WarmupRow) -> Example:
        tokenizer = self._learner.llm.tokenizer
        prompt, closed = (
            self.prompt_templates.question_ids(
                tokenizer, row.question, answer=answer, with_cot=self.with_cot, dataset=dataset
            )
            for answer in (None, row.target)
        )
        if tokenizer.eos_token_id is None:
            raise InputError("the tokenizer has no end of text to learn", where="model.model_name")
        return self._learner.example(prompt, [*closed, int(tokenizer.eos_token_id)])

    @property
    def _learner(self) -> Learner:
        assert self.trainer is not None
        return cast(Learner, self.trainer.lightning_module)
