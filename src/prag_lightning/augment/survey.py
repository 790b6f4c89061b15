"""What an augmented file has of today's questions, and what has changed since it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prag_lightning.augment.files import read_records
from prag_lightning.augment.provenance import Provenance, Recipe
from prag_lightning.augment.settings import AugmentSettings
from prag_lightning.records import AugmentedQuestion, Question


@dataclass(frozen=True)
class Augmentation:
    """What is to be augmented, how, and where it is kept.

    Args:
        folder: Of the augmented files.
        augment_model: Short name of the writer, in the keys of the records.
        questions: All of each split.
        topk: Passages a question.
        settings: Sampling, and what to do about a file of another recipe.
        recipe: Gives today's; more may be known of the writer once it is loaded.
        sample: How many questions of a split are augmented, from the first on; -1 means all.
        corpus: The version of what is retrieved from, if known.
    """

    folder: Path
    augment_model: str
    questions: Mapping[str, Sequence[Question]]
    topk: int
    settings: AugmentSettings
    recipe: Callable[[], Recipe]
    sample: int = -1
    corpus: str | None = None

    def path(self, split: str) -> Path:
        """The augmented file of a split."""
        return self.folder / f"{split}.json"


@dataclass
class SplitSurvey:
    """What one augmented file has.

    Args:
        path: The file.
        provenance: What made it; `None` if other software did, or there is none.
        written: Its records, as they stand there.
        records: Those that serve today's questions, by `test_id`, with today's gold answers.
        todo: Questions to be retrieved, each with the number of its passages.
        edited: Questions of which the file has an older text, by `test_id`.
        corrected: How many questions have other gold answers than in the file.
        deleted: How many of its questions are no longer there.
        mismatch: How its recipe differs from today's.
        corpus_changed: Whether its passages are from another version of the corpus.
    """

    path: Path
    provenance: Provenance | None
    written: list[AugmentedQuestion]
    records: dict[int, AugmentedQuestion]
    todo: dict[int, tuple[Question, int]]
    edited: dict[int, str]
    corrected: int = 0
    deleted: int = 0
    mismatch: str = ""
    corpus_changed: bool = False

    @property
    def changes(self) -> str:
        """What is no longer as the file has it, in words; empty if all is."""
        counts = {
            "gold answer was corrected": self.corrected,
            "question was edited": len(self.edited),
            "question was deleted": self.deleted,
        }
        parts = [f"{n} {what}" if n == 1 else f"{n} {_plural(what)}" for what, n in counts.items() if n]
        return ", ".join(parts + (["the corpus has changed"] if self.corpus_changed else []))

    @property
    def summary(self) -> str:
        """All that a reader of the file should know, in words: changes, another recipe, and what it lacks."""
        missing = len(self.todo.keys() - self.records.keys() - self.edited.keys())
        parts = [self.changes]
        if self.provenance is None and self.corrected:
            parts = [f"{self.corrected} of its gold answers are not the dataset's: the file's are used"]
        parts.append(f"it was made with {self.mismatch}" if self.mismatch else "")
        parts.append(f"{missing} of the questions are not in it" if missing and self.written else "")
        return ", ".join(filter(None, parts))

    def with_todays_answers(self) -> list[AugmentedQuestion]:
        """The records as they stand in the file, with today's gold answers; those of other software are left alone."""
        if self.provenance is None:
            return self.written
        by_text = {record.question.question: record.question for record in reversed(self.records.values())}
        by_id = {(i, record.question.question): record.question for i, record in self.records.items()}
        mended = []
        for record in self.written:
            old = record.question
            new = by_id.get((old.test_id, old.question), by_text.get(old.question, old))
            same = new.answers == old.answers
            mended.append(record if same else replace(record, question=replace(old, answer=new.answer)))
        return mended


def survey(task: Augmentation, split: str) -> SplitSurvey:
    """Compare the augmented file of a split with today's questions, corpus and recipe.

    A file of other software is compared by `test_id` alone, and keeps its gold answers.

    Raises:
        InputError: for a malformed file.
    """
    path, questions = task.path(split), task.questions[split]
    wanted = questions if task.sample == -1 else questions[: task.sample]
    written = read_records(path, task.augment_model) if path.exists() else []
    provenance = Provenance.read(task.folder, split) if written else None
    found = SplitSurvey(path, provenance, written, {}, {}, {})
    if provenance is not None:
        found.mismatch = provenance.mismatch(task.recipe())
        found.corpus_changed = None not in (task.corpus, provenance.corpus) and task.corpus != provenance.corpus
    if found.mismatch and task.settings.on_mismatch == "renew":
        found.corpus_changed = False
    elif provenance is None:
        _match_by_id(found, wanted)
    else:
        _match_by_text(found, questions)
    for question in wanted:
        record = found.records.get(question.test_id)
        passages = 0 if record is None else len(record.passages)
        if passages < task.topk or found.corpus_changed:
            found.todo[question.test_id] = (question, max(passages, task.topk))
    return found


def _match_by_id(found: SplitSurvey, questions: Sequence[Question]) -> None:
    found.records = {record.question.test_id: record for record in found.written}
    for question in questions:
        record = found.records.get(question.test_id)
        if record is not None and record.question.question != question.question:
            found.edited[question.test_id] = record.question.question
        elif record is not None and question.answers and set(record.question.answers) != set(question.answers):
            found.corrected += 1


def _match_by_text(found: SplitSurvey, questions: Sequence[Question]) -> None:
    by_id = {record.question.test_id: record for record in found.written}
    by_text = {record.question.question: record for record in reversed(found.written)}
    todays = {question.question for question in questions}
    for question in questions:
        record = by_id.get(question.test_id)
        if record is None or record.question.question != question.question:
            if record is not None and question.question not in by_text and record.question.question not in todays:
                found.edited[question.test_id] = record.question.question
            record = by_text.get(question.question)
        if record is not None:
            corrected = bool(question.answers) and record.question.answers != question.answers
            moved = record.question.test_id != question.test_id
            found.corrected += corrected
            answer = question.answer if corrected else record.question.answer
            todays_question = replace(question, answer=answer)
            found.records[question.test_id] = (
                replace(record, question=todays_question) if corrected or moved else record
            )
    found.deleted = sum(record.question.question not in todays for record in found.written) - len(found.edited)


def _plural(what: str) -> str:
    noun, _, verb = what.partition(" was ")
    return f"{noun}s were {verb}"
