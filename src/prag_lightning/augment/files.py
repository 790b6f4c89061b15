"""Augmented files of the published format: reading them, and writing those of a dataset's questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prag_lightning.augment.base import Augmenter
from prag_lightning.augment.questions import augment_questions
from prag_lightning.errors import InputError
from prag_lightning.files import read_json, write_json
from prag_lightning.records import AugmentedQuestion, Question
from prag_lightning.retrieval import Hit, report_unfound


def augment_dataset(
    questions: Mapping[str, Sequence[Question]],
    search: Callable[[Sequence[str], int], Sequence[Sequence[Hit]]],
    folder: Path,
    augment_model: str,
    make_augmenter: Callable[[], Augmenter],
    *,
    topk: int,
    extra_candidates: int,
    write: bool = True,
) -> None:
    """Write `{split}.json` for each split; records that a file has already are kept, and a complete file is left alone.

    Args:
        questions: By split.
        search: A retriever's; not called if there is nothing to do.
        folder: Where the files stand.
        augment_model: Name of the writer, in the keys of the records.
        make_augmenter: Makes the augmenter; not called if there is nothing to do.
        topk: Passages a question.
        extra_candidates: How many more are retrieved, to take the place of those that cannot be augmented.
        write: Write the files and say so: one of several processes does.

    Raises:
        InputError: if a file was made from other questions.
    """
    kept: dict[str, dict[int, AugmentedQuestion]] = {}
    missing: list[tuple[str, Question]] = []
    for split, of_split in questions.items():
        kept[split] = _kept_records(folder / f"{split}.json", augment_model, of_split)
        for question in of_split:
            record = kept[split].get(question.test_id)
            if record is None or len(record.passages) < topk:
                missing.append((split, question))
    if not missing:
        if write:
            print(f"Every question has its augmented passages already, in {folder}")
        return
    todo = [question for _, question in missing]
    found = search([question.question for question in todo], topk + extra_candidates)
    if write:
        report_unfound([question.question for question in todo], found)
    candidates = [list(dict.fromkeys(hit.passage.text for hit in hits)) for hits in found]
    records = augment_questions(todo, candidates, topk, make_augmenter())
    if not write:
        return
    changed = set()
    for (split, _), record in zip(missing, records, strict=True):
        if kept[split].get(record.question.test_id) != record:
            kept[split][record.question.test_id] = record
            changed.add(split)
    for split, by_id in kept.items():
        if split in changed:
            rows = [by_id[test_id].to_json(augment_model) for test_id in sorted(by_id)]
            write_json(folder / f"{split}.json", rows)
        short = sum(len(record.passages) < topk for record in by_id.values())
        note = f"; {short} have fewer than {topk} passages" if short else ""
        print(f"{len(by_id)} questions in {folder / split}.json{note}")


def read_records(path: Path, augment_model: str) -> list[AugmentedQuestion]:
    """Read an augmented file in the published format.

    Raises:
        InputError: naming the file and record that is malformed.
    """
    data = read_json(path, "Write it again with 'prag augment'")
    if not isinstance(data, list):
        raise InputError("an augmented file is a list of records, and this is not", where=str(path))
    records = [
        AugmentedQuestion.from_json(record, augment_model, f"{path}, record {i}") for i, record in enumerate(data)
    ]
    taken: set[tuple[int, int | None]] = set()
    for i, record in enumerate(records):
        test_id = record.question.test_id
        for place in ((test_id, None), *((test_id, passage.pid) for passage in record.passages)):
            if place in taken:
                twice = f"test_id {test_id}" if place[1] is None else f"pid {place[1]}"
                raise InputError(f"{twice} stands there twice", where=f"{path}, record {i}", hint="Number them apart")
            taken.add(place)
    return records


def _kept_records(path: Path, augment_model: str, questions: Sequence[Question]) -> dict[int, AugmentedQuestion]:
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
