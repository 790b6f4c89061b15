"""The LightningDataModule: groups of passages to encode, and batches of questions to answer."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from prag_lightning.errors import InputError
from prag_lightning.pipeline.data import ExperimentData, Records, distinct_passages
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.pipeline.settings import DataSettings, as_dict
from prag_lightning.records import AugmentedQuestion


class PragDataModule(LightningDataModule):
    """Questions of a dataset with their passages: to augment, to encode, to answer.

    Args:
        dataset: hotpotqa, 2wikimultihopqa, popqa, complexwebquestions, or a name of your own for plain JSON questions.
        settings: The others of `DataSettings`, by name.
    """

    def __init__(self, dataset: str, **settings: Any) -> None:
        super().__init__()
        self.settings = DataSettings(dataset=dataset, **settings)
        self.save_hyperparameters(as_dict(self.settings))
        self.data = ExperimentData(self.settings)
        self.records: Records = {}
        """The augmented records of the run, as they were on disk when it began."""
        self.pipeline: Pipeline | None = None
        """What forms groups and finds passages; the module that works on them sets it."""

    def setup(self, stage: str) -> None:
        """Read the augmented records.

        Raises:
            InputError: if there are none, or one is malformed.
        """
        self.records = self.data.records(tell=self.trainer is None or self.trainer.is_global_zero)

    def train_dataloader(self) -> DataLoader[Any]:
        """Groups of passages whose adapters are missing, this process's share of them."""
        return self._loader(self._pipeline.groups_to_encode(distinct_passages(self.records)))

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """A loader a split, of batches of questions with their passages, this process's share of them.

        Raises:
            InputError: if a question has no gold answer.
        """
        for split, records in self.records.items():
            for record in records:
                if not record.question.answers:
                    raise InputError(
                        "the question has no gold answer",
                        where=f"{self.data.augment_folder / split}.json, test_id {record.question.test_id}",
                        hint="Use 'prag predict' for questions without answers",
                    )
        return self.predict_dataloader()

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """As `test_dataloader`, gold answers or not."""
        return [self._loader(self._batches(self._with_passages(records))) for records in self.records.values()]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave a batch as it is: it holds records, of which encoder and answerer make tensors."""
        return batch

    def _with_passages(self, records: list[AugmentedQuestion]) -> list[AugmentedQuestion]:
        """The records, with passages found now where `retrieve_at_test` asks for it."""
        if not self.settings.retrieve_at_test or not records:
            return records
        with self._pipeline.compute.autocast():
            return self._pipeline.on_demand().passages([record.question for record in records])

    def _batches(self, records: Sequence[AugmentedQuestion]) -> list[list[AugmentedQuestion]]:
        """Batches of questions of like length, so that little is padding."""
        size = self.settings.per_device_eval_batch_size
        ordered = sorted(records, key=lambda r: len(r.question.question) + sum(len(p.passage) for p in r.passages))
        return [list(ordered[i : i + size]) for i in range(0, len(ordered), size)]

    @property
    def _pipeline(self) -> Pipeline:
        assert self.pipeline is not None, "a PragModule works on these data"
        return self.pipeline

    def _loader(self, batches: Sequence[list[Any]]) -> DataLoader[Any]:
        """A loader of this process's share; empty batches fill it up, since Lightning lets processes meet at every
        batch."""
        processes = self._pipeline.processes
        share = [*processes.share(batches)]
        share += [[]] * (ceil(len(batches) / processes.world_size) - len(share))
        return DataLoader(share, batch_size=None, collate_fn=_same)  # type: ignore[arg-type]


def _same(batch: Any) -> Any:
    return batch
