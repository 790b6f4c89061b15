"""Augmenting a dataset: its questions, the retriever and an augmenter into files of the published format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prag_lightning.augment.base import Augmenter
from prag_lightning.augment.questions import augment_questions
from prag_lightning.errors import InputError
from prag_lightning.files import write_json
from prag_lightning.lightning.datamodule import PragDataModule, read_records
from prag_lightning.records import AugmentedQuestion, Question


def augment_dataset(
    data: PragDataModule, model_name: str, make_augmenter: Callable[[Path], Augmenter], *, write: bool = True
) -> None:
    """Write `{split}.json` for each split; records that a file has already are kept, and a complete file is left alone.

    Args:
        data: Questions, retriever and settings.
        model_name: Augments where `data` names no other model.
        make_augmenter: Makes the augmenter, given the folder of its journal; not called if there is nothing to do.
        write: Write the files and say so: one of several processes does.

    Raises:
        InputError: if a file was made from other questions.
    """
    folder, name = data.augment_folder(model_name), data.augment_name(model_name)
    kept: dict[str, dict[int, AugmentedQuestion]] = {}
    missing: list[tuple[str, Question]] = []
    for split, questions in data.questions().items():
        kept[split] = _kept_records(folder / f"{split}.json", name, questions)
        for question in questions:
            record = kept[split].get(question.test_id)
            if record is None or len(record.passages) < data.topk:
                missing.append((split, question))
    if not missing:
        if write:
            print(f"Every question has its augmented passages already, in {folder}")
        return
    todo = [question for _, question in missing]
    found = data.retriever.search([q.question for q in todo], data.topk + data.augment_settings.extra_candidates)
    candidates = [list(dict.fromkeys(hit.passage.text for hit in hits)) for hits in found]
    records = augment_questions(todo, candidates, data.topk, make_augmenter(folder))
    if not write:
        return
    changed = set()
    for (split, _), record in zip(missing, records, strict=True):
        if kept[split].get(record.question.test_id) != record:
            kept[split][record.question.test_id] = record
            changed.add(split)
    for split, by_id in kept.items():
        if split in changed:
            write_json(folder / f"{split}.json", [by_id[test_id].to_json(name) for test_id in sorted(by_id)])
        short = sum(len(record.passages) < data.topk for record in by_id.values())
        note = f"; {short} have fewer than {data.topk} passages" if short else ""
        print(f"{len(by_id)} questions in {folder / split}.json{note}")


def _kept_records(path: Path, augment_model: str, questions: list[Question]) -> dict[int, AugmentedQuestion]:
    if not path.exists():
        return {}
    records = {record.question.test_id: record for record in read_records(path, augment_model)}
    for question in questions:
        record = records.get(question.test_id)
        if record is not None and record.question.question != question.question:
            raise InputError(
                f"the file has {record.question.question!r} where the dataset has {question.question!r}",
                where=f"{path}, test_id {question.test_id}",
                hint="It was made from another dataset: move it away, or set data.augment_root",
            )
    return records
