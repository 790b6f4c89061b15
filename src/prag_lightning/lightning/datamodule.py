"""The data of an experiment: questions, corpus, augmented records, and the batches that Lightning hands on."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from prag_lightning.augment import AugmentSettings, ChatSettings
from prag_lightning.augment.files import read_records
from prag_lightning.data.benchmarks import load_questions
from prag_lightning.data.boundary import AnswerBoundary
from prag_lightning.data.chat_text import TEMPLATE_DATE
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.files import safe_name, visible
from prag_lightning.llm.names import short_name
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Question
from prag_lightning.retrieval import RankBM25Retriever, Retriever
from prag_lightning.training.library import PendingPassage

T = TypeVar("T")


class Encoding(Protocol):
    """What the data asks of the module that works on it."""

    model_name: str

    def groups_to_encode(self, passages: Sequence[AugmentedPassage]) -> list[list[PendingPassage]]:
        """Groups of the passages whose adapters are missing."""
        ...

    def find_passages(self, questions: Sequence[Question]) -> list[AugmentedQuestion]:
        """Each question with the passages that are retrieved for it now, and adapters of these."""
        ...


class PragDataModule(LightningDataModule):
    """Questions of a dataset with their passages: to augment, to encode, to answer.

    Args:
        dataset: hotpotqa, 2wikimultihopqa, popqa, complexwebquestions, or a name of your own for plain JSON questions.
        data_path: The dataset's file or folder; for a benchmark unset means data/{dataset}.
        data_type: The split to work on; unset means each split.
        with_cot: Answer with a chain of thought, shown in the prompt file's worked examples.
        sample: How many questions of each split, from the first on; -1 means all.
        topk: Passages a question.
        augment_model: Who wrote the rewrites and QA pairs, as a short name, path or hub id; unset means the model
            itself.
        prompts: The prompt file.
        answer_boundary: Where prompts end: token (where the answer's first token begins, so that a prompt always is the
            beginning of what was trained) or published (in the blank before the answer, as the paper's code does).
        template_date: What chat templates that write today's date take for it, as YYYY-MM-DD.
        corpus: Passages to retrieve from, .tsv (id, text, title) or .jsonl, also .gz.
        retriever: Finds passages; unset means BM25 in memory over the corpus.
        retrieve_at_test: Take each question's passages from the retriever at test time instead of from its augmented
            record; what is missing of their adapters is made then.
        augment_root: Where augmented data is kept, as {dataset}/{augment_model}/{split}.json.
        require_answers: Whether a question without a gold answer is a mistake; `prag predict` needs none.
        per_device_eval_batch_size: Questions answered at once.
        augment: How `prag augment` asks for rewrites and QA pairs.
        chat: A server that speaks the OpenAI chat API and augments in place of a local LLM; its model is
            `augment_model`.
    """

    def __init__(
        self,
        dataset: str,
        data_path: str | None = None,
        data_type: str | None = None,
        with_cot: bool = False,
        sample: int = -1,
        topk: int = 3,
        augment_model: str | None = None,
        prompts: str = "configs/prompts/default.yaml",
        answer_boundary: AnswerBoundary = "token",
        template_date: str = TEMPLATE_DATE,
        corpus: str | None = None,
        retriever: Retriever | None = None,
        retrieve_at_test: bool = False,
        augment_root: str = "data/aug",
        require_answers: bool = True,
        per_device_eval_batch_size: int = 16,
        augment: AugmentSettings = AugmentSettings(),  # noqa: B008  frozen, so sharing it is safe
        chat: ChatSettings | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["retriever"])
        safe_name(dataset, "data.dataset")
        if sample != -1 and sample < 1:
            raise InputError(f"sample is {sample}", where="data.sample", hint="Give 1 or more, or -1 for all questions")
        for name, value in (("topk", topk), ("per_device_eval_batch_size", per_device_eval_batch_size)):
            if value < 1:
                raise InputError(f"{name} is {value}", where=f"data.{name}", hint="Give 1 or more")
        self.dataset, self.data_path, self.data_type = dataset, data_path, data_type
        self.with_cot, self.sample, self.topk = with_cot, sample, topk
        self.augment_model, self.augment_root = augment_model, augment_root
        self.prompt_templates = PromptTemplates.load(prompts, answer_boundary, template_date)
        self.corpus, self._retriever, self.retrieve_at_test = corpus, retriever, retrieve_at_test
        self.require_answers = require_answers
        self.batch_size = per_device_eval_batch_size
        self.augment_settings, self.chat = augment, chat
        if chat is not None and augment_model is None:
            raise InputError(
                "no model is named for the server", where="data.augment_model", hint="Set it to the model's name there"
            )
        self._records: dict[str, list[AugmentedQuestion]] | None = None

    # Questions and their passages

    def questions(self) -> dict[str, list[Question]]:
        """The dataset's questions by split, cut to `data_type` and `sample`.

        Raises:
            InputError: for a dataset that is missing or malformed, or has no such split.
        """
        splits = load_questions(self.dataset, self.data_path, require_answers=self.require_answers)
        return {split: self._first(questions) for split, questions in self._chosen(splits, self.dataset).items()}

    @property
    def retriever(self) -> Retriever:
        """The configured retriever, or BM25 in memory over the corpus.

        Raises:
            InputError: if there is neither.
        """
        if self._retriever is None:
            if self.corpus is None:
                raise InputError(
                    "there is nothing to retrieve from", where="data.corpus", hint="Set it to a .tsv or .jsonl file"
                )
            self._retriever = RankBM25Retriever(self.corpus)
        return self._retriever

    def augment_folder(self, model_name: str) -> Path:
        """Where the augmented files stand; `model_name` counts where no `augment_model` is set."""
        return Path(self.augment_root) / self.dataset / self.augment_name(model_name)

    def augment_name(self, model_name: str) -> str:
        """Short name of the model that augments; `model_name` counts where no `augment_model` is set."""
        return safe_name(short_name(self.augment_model or model_name), "data.augment_model")

    def records(self, model_name: str) -> dict[str, list[AugmentedQuestion]]:
        """The augmented records by split, cut to `data_type`, `sample` and `topk`.

        Raises:
            InputError: if there are none, or one is malformed: the message names file and record.
        """
        if self._records is None:
            folder = self.augment_folder(model_name)
            files = {path.stem: path for path in visible(folder, "*.json")}
            if not files:
                raise InputError(
                    "there is no augmented data",
                    where=str(folder),
                    hint="Run 'prag augment' with the same configuration",
                )
            chosen = self._chosen(files, str(folder))
            self._records = {
                split: self._first(self._cut(read_records(path, self.augment_name(model_name))))
                for split, path in chosen.items()
            }
        return self._records

    def augmented_passages(self, model_name: str) -> dict[str, AugmentedPassage]:
        """Every passage of the augmented files that there are, by its text."""
        paths = visible(self.augment_folder(model_name), "*.json")
        records = (record for path in paths for record in read_records(path, self.augment_name(model_name)))
        return {passage.passage: passage for record in records for passage in record.passages}

    def planned_records(self, model_name: str) -> list[AugmentedQuestion]:
        """The augmented records, and for the questions that have none, or have too few passages, those that retrieval
        gives them, augmented or not.

        Raises:
            InputError: if there are neither records nor questions.
        """
        has_files = bool(visible(self.augment_folder(model_name), "*.json"))
        of_splits = self.records(model_name) if has_files else {}
        records = {(split, record.question.test_id): record for split in of_splits for record in of_splits[split]}
        try:
            questions = self.questions()
        except InputError:
            if not records:
                raise
            questions = {}
        others = {
            (split, question.test_id): question
            for split in questions
            for question in questions[split]
            if (split, question.test_id) not in records or len(records[split, question.test_id].passages) < self.topk
        }
        found = self.retriever.search([q.question for q in others.values()], self.topk) if others else []
        for (place, question), hits in zip(others.items(), found, strict=True):
            passages = tuple(AugmentedPassage(hit.passage.text, "", ()) for hit in hits)
            records[place] = AugmentedQuestion(question, passages)
        return list(records.values())

    def _chosen(self, splits: dict[str, T], where: str) -> dict[str, T]:
        if self.data_type is None:
            return splits
        if self.data_type not in splits:
            raise InputError(
                f"there is no split {self.data_type!r}",
                where=where,
                hint=f"Set data.data_type to one of {', '.join(splits)}",
            )
        return {self.data_type: splits[self.data_type]}

    def _first(self, items: list[T]) -> list[T]:
        return items if self.sample == -1 else items[: self.sample]

    def _cut(self, records: list[AugmentedQuestion]) -> list[AugmentedQuestion]:
        return [AugmentedQuestion(record.question, record.passages[: self.topk]) for record in records]

    # Batches

    def passages(self, model_name: str) -> list[AugmentedPassage]:
        """Every distinct augmented passage of the records, in order of occurrence."""
        records = [record for split in self.records(model_name).values() for record in split]
        return list({p.content_hash: p for record in records for p in record.passages}.values())

    def train_dataloader(self) -> DataLoader[Any]:
        """Groups of passages whose adapters are missing, this process's share of them."""
        module = self._module
        groups = module.groups_to_encode(self.passages(module.model_name))
        return self._loader(groups)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """A loader a split, of batches of questions with their passages, this process's share of them.

        Raises:
            InputError: if a question has no gold answer.
        """
        for split, records in self.records(self._module.model_name).items():
            path = self.augment_folder(self._module.model_name) / f"{split}.json"
            for record in records:
                if not record.question.answers:
                    raise InputError(
                        "the question has no gold answer",
                        where=f"{path}, test_id {record.question.test_id}",
                        hint="Use 'prag predict' for questions without answers",
                    )
        return self.predict_dataloader()

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """As `test_dataloader`, gold answers or not."""
        return [
            self._loader(self._batches(self._with_passages(records)))
            for records in self.records(self._module.model_name).values()
        ]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave a batch as it is: it holds records, of which encoder and answerer make tensors."""
        return batch

    def _with_passages(self, records: list[AugmentedQuestion]) -> list[AugmentedQuestion]:
        """The records, with passages found now where `retrieve_at_test` asks for it."""
        if not self.retrieve_at_test or not records:
            return records
        return self._module.find_passages([record.question for record in records])

    def scores(
        self, records: Sequence[AugmentedQuestion], passages: Sequence[Sequence[AugmentedPassage]]
    ) -> list[list[float]]:
        """What each question's passages score in retrieval; 0 for one that is not among those found."""
        depth = self.topk + self.augment_settings.extra_candidates
        found = self.retriever.search([record.question.question for record in records], depth)
        by_text = [{hit.passage.text: hit.score for hit in hits} for hits in found]
        return [
            [scores.get(passage.passage, 0.0) for passage in row] for scores, row in zip(by_text, passages, strict=True)
        ]

    def _batches(self, records: Sequence[AugmentedQuestion]) -> list[list[AugmentedQuestion]]:
        """Batches of questions of like length, so that little is padding."""
        ordered = sorted(records, key=lambda r: len(r.question.question) + sum(len(p.passage) for p in r.passages))
        return [list(ordered[i : i + self.batch_size]) for i in range(0, len(ordered), self.batch_size)]

    @property
    def _module(self) -> Encoding:
        assert self.trainer is not None
        return cast(Encoding, self.trainer.lightning_module)

    def _loader(self, batches: Sequence[list[Any]]) -> DataLoader[Any]:
        """A loader of this process's share; empty batches fill it up, since Lightning lets processes meet at every
        batch."""
        assert self.trainer is not None
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        share = [*batches[rank::processes]]
        share += [[]] * (ceil(len(batches) / processes) - len(share))
        return DataLoader(_Batches(share), batch_size=None, collate_fn=_same)


class _Batches(Dataset[T]):
    """Batches that were made beforehand."""

    def __init__(self, batches: Sequence[T]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> T:
        return self.batches[index]


def _same(batch: Any) -> Any:
    return batch
