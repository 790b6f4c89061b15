"""Adapters of questions and passages, written for other software."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peft import LoraConfig
from torch.nn.functional import pad

from prag_lightning.errors import InputError, output_errors
from prag_lightning.files import safe_name, temp_path
from prag_lightning.inference.answerer import Adapters
from prag_lightning.lora.adapters import CONFIG_FILE, WEIGHTS_FILE, named_tensors, write_adapter, write_files
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.lora.weights_file import Origin
from prag_lightning.records import AugmentedPassage, AugmentedQuestion

HINT = "Name another folder with --out"
Scores = Callable[[AugmentedQuestion], Sequence[float]]


@dataclass(frozen=True)
class Exporter:
    """Writes adapters as PEFT directories below a folder.

    Args:
        adapters: Has those of passages, and merges them.
        out: The folder; what else is there is left alone.
        rank: Fill adapters up to this rank with zeros, which change nothing: serving engines take certain ranks only.
    """

    adapters: Adapters
    out: Path
    rank: int | None = None

    def of_questions(
        self,
        records: Mapping[str, Sequence[AugmentedQuestion]],
        test_ids: Collection[int] | None = None,
        *,
        merged: bool = True,
        scores: Scores = lambda _: (),
    ) -> Iterator[Path]:
        """Write the adapters of questions, `{split}/{test_id}`, or of each of their passages,
        `{split}/data_{test_id}/passage_{pid}`.

        Args:
            records: Questions with their passages, by split.
            test_ids: The questions that are wanted; unset means all.
            merged: Whether a question's adapters become one.
            scores: Gives those of a question's passages, if the merge takes them.

        Raises:
            InputError: if a question is in no split, an adapter is missing or of a greater rank, or another one stands
                in its place.
        """
        known = {record.question.test_id for split in records.values() for record in split}
        if unknown := set(test_ids or ()) - known:
            raise InputError(f"there is no question {min(unknown)}", where="--test_ids", hint="Give ids of the split")
        wanted = known if test_ids is None else set(test_ids)
        for split, questions in records.items():
            for record in questions:
                test_id, passages = record.question.test_id, record.passages
                if test_id in wanted and merged:
                    weights = self.adapters.load(passages, test_id, scores(record))
                    yield self._write(self.out / split / str(test_id), weights)
                elif test_id in wanted:
                    for passage in passages:
                        place = self.out / split / f"data_{test_id}" / f"passage_{passage.pid}"
                        yield self._write(place, self.adapters.load([passage], test_id))

    def of_passages(self, passages: Mapping[str, AugmentedPassage], *, merged: bool = True) -> Iterator[Path]:
        """Write the adapter of a set of passages, `merged`, or each passage's own, `passage_{id}`.

        Args:
            passages: By their ids.
            merged: Whether their adapters become one.

        Raises:
            InputError: as `of_questions`, or if an id cannot be a part of a path.
        """
        if merged:
            yield self._write(self.out / "merged", self.adapters.load(list(passages.values())))
            return
        for key, passage in passages.items():
            place = self.out / f"passage_{safe_name(key, 'the id of a passage')}"
            yield self._write(place, self.adapters.load([passage]))

    def _write(self, directory: Path, weights: LoraWeights) -> Path:
        own_rank = next(iter(weights.values()))[0].shape[0]
        if self.rank is not None and self.rank < own_rank:
            raise InputError(
                f"the adapter for {directory} has rank {own_rank}",
                where=f"--rank {self.rank}",
                hint=f"Give {own_rank} or more",
            )
        rank = self.rank or own_rank
        config = self.adapters.library.adapter_config(rank)
        factor = self.adapters.library.scaling * rank / config.lora_alpha
        weights, origin = _filled(weights, rank, factor), Origin(base_weight=self.adapters.library.store.base_hash)
        with output_errors("an adapter", directory, HINT):
            if not directory.exists():
                write_adapter(directory, weights, config, origin)
            elif not _same(directory, weights, config, origin):
                raise InputError("something else stands in an adapter's place", where=str(directory), hint=HINT)
        return directory


def _filled(weights: LoraWeights, rank: int, factor: float) -> LoraWeights:
    """An adapter filled up to a rank.

    PEFT scales by alpha / rank and serving engines want a whole alpha: `factor` makes up for what that is off.
    """
    filled = {}
    for name, (lora_a, lora_b) in weights.items():
        missing = rank - lora_a.shape[0]
        exact = lora_b if factor == 1 else lora_b.float() * factor
        filled[name] = (pad(lora_a, (0, 0, 0, missing)), pad(exact, (0, missing)))
    return filled


def _same(directory: Path, weights: LoraWeights, config: LoraConfig, origin: Origin) -> bool:
    """Whether a directory holds this adapter, to the last bit."""
    fresh = temp_path(directory)
    try:
        write_files(fresh, named_tensors(weights), config, origin=origin)
        _, different, absent = filecmp.cmpfiles(fresh, directory, (CONFIG_FILE, WEIGHTS_FILE), shallow=False)
        return not different and not absent
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
