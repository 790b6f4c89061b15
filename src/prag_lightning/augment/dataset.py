"""Augmenting a dataset: its questions, a search and an augmenter into files of the published format."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from prag_lightning.augment.base import Augmenter
from prag_lightning.augment.files import write_records
from prag_lightning.augment.provenance import UNKNOWN, Provenance
from prag_lightning.augment.questions import KnownFirst, augment_questions, with_hits
from prag_lightning.augment.survey import Augmentation, SplitSurvey, survey
from prag_lightning.errors import InputError
from prag_lightning.metrics import answer_presence, normalize_answer
from prag_lightning.records import AugmentedPassage, AugmentedQuestion, Json
from prag_lightning.retrieval import Hit, report_unfound

Search = Callable[[Sequence[str], int], Sequence[Sequence[Hit]]]
"""Up to so many passages for each text, best first, as a retriever's `search` gives."""
_FEW_IN_PASSAGE = 0.5
_UNSEARCHED = frozenset({"yes", "no"})
"""Answers that need not stand in a passage to be right."""


def augment_dataset(
    task: Augmentation, search: Search, make_augmenter: Callable[[], Augmenter], *, write: bool = True
) -> int:
    """Write `{split}.json` for each split. What a file has already is kept; what has changed since it was written, of
    questions, gold answers and corpus, is made good, and passages that it has are not augmented again.

    Args:
        task: What is to be augmented.
        search: A retriever's; not called if there is nothing to do.
        make_augmenter: Makes the augmenter; not called if no passage is new.
        write: Write the files and say so: one of several processes does.

    Returns:
        How many questions have fewer passages than they should.

    Raises:
        InputError: if a file was made with another recipe, or by other software from other questions.
    """
    found = {split: survey(task, split) for split in task.questions}
    for each in found.values():
        _check(each, task)
    known = {p.passage: p for each in found.values() for record in each.records.values() for p in record.passages}
    recipe = task.recipe()

    def check_again() -> None:
        if task.recipe() != recipe:
            for split in found:
                _check(survey(task, split), task)

    augmenter = KnownFirst(known, make_augmenter, check_again)
    todo = [(split, question, count) for split, each in found.items() for question, count in each.todo.values()]
    if todo:
        counts, spare = [count for *_, count in todo], task.settings.extra_candidates
        hits = search([question.question for _, question, _ in todo], max(counts) + spare)
        if write:
            report_unfound([question.question for _, question, _ in todo], hits)
        texts = [list(dict.fromkeys(hit.passage.text for hit in row)) for row in hits]
        candidates = [row[: count + spare] for row, count in zip(texts, counts, strict=True)]
        records = augment_questions([question for _, question, _ in todo], candidates, counts, augmenter)
        for (split, *_), record, row in zip(todo, records, hits, strict=True):
            found[split].records[record.question.test_id] = with_hits(record, row)
    if not write:
        return 0
    changed = [split for split, each in found.items() if _save(each, task, split)]
    if not changed and not todo:
        print(f"Every question has its augmented passages already, in {task.folder}")
    return sum(_tell(each, task) for each in found.values()) if changed or todo else 0


def _check(found: SplitSurvey, task: Augmentation) -> None:
    if found.mismatch and task.settings.on_mismatch == "error":
        raise InputError(
            f"the augmented file was made with {found.mismatch}",
            where=str(found.path),
            hint="Set data.augment.on_mismatch to keep, which uses what it has and writes what it lacks, or to renew, "
            "which writes it anew; or set data.augment_root to another folder",
        )
    if found.provenance is None and found.edited:
        test_id, text = next(iter(found.edited.items()))
        question = next(each.question for each in task.questions[found.path.stem] if each.test_id == test_id)
        raise InputError(
            f"the file has {text!r} where the dataset has {question!r}",
            where=f"{found.path}, test_id {test_id}",
            hint="It was made from another dataset: move it away, or set data.augment_root",
        )


def _save(found: SplitSurvey, task: Augmentation, split: str) -> bool:
    """Write the file and what made it, as far as they differ from what is there; gives whether records did.

    A command that is killed in between leaves a file that is taken for an older recipe's or corpus's, never for a later
    one's.
    """
    records = [found.records[test_id] for test_id in sorted(found.records)]
    changed = _json(records, task) != _json(found.written, task)
    old, new = found.provenance, _provenance(found, task, changed)
    if changed:
        if not found.written:
            new.write(task.folder, split)
        elif old is not None and new.made_by != old.made_by:
            Provenance((*old.made_by, *new.made_by[-1:]), old.corpus).write(task.folder, split)
        write_records(found.path, task.augment_model, records)
    if (old is not None or changed) and new != old:
        new.write(task.folder, split)
    return changed


def _json(records: Sequence[AugmentedQuestion], task: Augmentation) -> list[Json]:
    """As they are written, with what does not count when records are compared: where passages stand in documents."""
    return [record.to_json(task.augment_model) for record in records]


def _provenance(found: SplitSurvey, task: Augmentation, changed: bool) -> Provenance:
    """What made the file, once its records are written."""
    recipe, old = task.recipe(), found.provenance
    if not found.written:
        return Provenance((recipe,), task.corpus)
    if old is None:
        return Provenance((UNKNOWN, recipe))
    if found.mismatch and task.settings.on_mismatch == "renew":
        return Provenance((recipe,), task.corpus)
    made_by = (*old.made_by, recipe) if found.mismatch and changed else old.made_by
    renewed = not found.corpus_changed or found.records.keys() <= found.todo.keys()
    return Provenance(made_by, task.corpus if renewed and old.corpus else old.corpus)


def _tell(found: SplitSurvey, task: Augmentation) -> int:
    """Say what the file has; gives how many questions have too few passages."""
    records = list(found.records.values())
    short = sum(len(record.passages) < task.topk for record in records)
    parts = [f"{len(records)} questions in {found.path}"]
    if found.changes and found.provenance is not None:
        parts.append(f"mended: {found.changes}")
    if short:
        parts.append(f"{short} have fewer than {task.topk} passages")
    passages = {p.passage: p for record in records for p in record.passages}.values()
    in_passage, answers = answers_in_passages(passages)
    if answers:
        parts.append(f"{in_passage / answers:.0%} of {answers} answers stand in their passages")
    print("; ".join(parts))
    if in_passage < _FEW_IN_PASSAGE * answers:
        print(
            f"warning: most answers in {found.path} do not stand in their passages: read some of them, and let another "
            "model write (data.augment_model) if they are wrong",
            file=sys.stderr,
        )
    return short


def answers_in_passages(passages: Iterable[AugmentedPassage]) -> tuple[int, int]:
    """How many answers of QA pairs stand in their passage, and how many there are, but for yes and no."""
    searched = [
        (passage.passage, pair.answer)
        for passage in passages
        for pair in passage.qa
        if normalize_answer(pair.answer) not in _UNSEARCHED
    ]
    return sum(answer_presence(text, answer) > 0 for text, answer in searched), len(searched)
