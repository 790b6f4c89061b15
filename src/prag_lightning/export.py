"""Merged adapters of questions, written for other software."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from peft import LoraConfig
from torch.nn.functional import pad

from prag_lightning.errors import InputError
from prag_lightning.lora.adapters import write_adapter
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.records import AugmentedQuestion


def export_merged(
    records: Mapping[str, Sequence[AugmentedQuestion]],
    merged: Callable[[AugmentedQuestion], LoraWeights],
    config_of_rank: Callable[[int], LoraConfig],
    out: Path,
    test_ids: Collection[int] | None = None,
    rank: int | None = None,
) -> Iterator[Path]:
    """Write each question's merged adapter as a PEFT directory, `{out}/{split}/{test_id}`.

    Args:
        records: Questions by split.
        merged: Gives a question's adapter.
        config_of_rank: PEFT's configuration for an adapter of some rank.
        out: A folder; what is there already is left alone.
        test_ids: The questions that are wanted; unset means all.
        rank: Fill adapters up to this rank with zeros, which change nothing: serving engines take certain ranks only.

    Raises:
        InputError: if a question that is wanted is in no split, or an adapter's rank is greater.
    """
    known = {record.question.test_id for split in records.values() for record in split}
    if unknown := set(test_ids or ()) - known:
        raise InputError(f"there is no question {min(unknown)}", where="--test_ids", mend="Give ids of the split")
    for split, questions in records.items():
        for record in questions:
            if test_ids is None or record.question.test_id in test_ids:
                weights = merged(record)
                own_rank = next(iter(weights.values()))[0].shape[0]
                if rank is not None and rank < own_rank:
                    raise InputError(
                        f"the merged adapter of question {record.question.test_id} has rank {own_rank}",
                        where=f"--rank {rank}",
                        mend=f"Give {own_rank} or more",
                    )
                directory = out / split / str(record.question.test_id)
                write_adapter(directory, _filled(weights, rank or own_rank), config_of_rank(rank or own_rank))
                yield directory


def _filled(weights: LoraWeights, rank: int) -> LoraWeights:
    missing = {name: rank - lora_a.shape[0] for name, (lora_a, _) in weights.items()}
    return {
        name: (pad(lora_a, (0, 0, 0, missing[name])), pad(lora_b, (0, missing[name])))
        for name, (lora_a, lora_b) in weights.items()
    }
