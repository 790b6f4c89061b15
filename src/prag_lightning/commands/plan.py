"""`prag plan`: what an experiment still takes: passages, time, memory and disk, measured on a piece of its own work."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from prag_lightning.augment.base import JournalledAugmenter
from prag_lightning.errors import InputError, PragError
from prag_lightning.inference.answerer import Answerer
from prag_lightning.llm.devices import PeakMemory, free_memory
from prag_lightning.llm.loading import parameter_bytes
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.records import AugmentedPassage, AugmentedQuestion
from prag_lightning.training.library import AdapterLibrary, PendingPassage

T = TypeVar("T")


@dataclass(frozen=True)
class StagePlan:
    """What one stage takes.

    Args:
        stage: Its command.
        unit: What it works on, in the plural.
        done: How many are done.
        todo: How many are not.
        seconds: What is left takes; `None` where there is nothing to measure it on yet.
        size: Bytes that it adds on disk.
        note: What a person should know.
    """

    stage: str
    unit: str
    done: int
    todo: int
    seconds: float | None = None
    size: int = 0
    note: str = ""


def plan(pipeline: Pipeline, *, measure: bool = True) -> list[StagePlan]:
    """Print what is there and what is left to do: passages, time, memory and disk, stage by stage.

    Args:
        pipeline: The experiment.
        measure: Do a batch of each stage to see how long it takes; what it makes is kept. A server of another's is
            never asked.

    Returns:
        The stages that the method has.

    Raises:
        InputError: if the LLM does not fit into memory.
    """
    settings, data, compute = pipeline.settings, pipeline.data, pipeline.compute
    if not pipeline.is_loaded:
        size = parameter_bytes(settings.model_name, compute.dtype, trust_remote_code=settings.trust_remote_code)
        check_memory(settings.model_name, size, compute.dtype, compute.device)
    once = []
    if settings.uses_adapters:
        started = time.perf_counter()
        pipeline.library(create=True)  # `base_weight` is float32, whatever the context
        if settings.null_space is not None:
            took = f"ready after {time.perf_counter() - started:,.0f} s"
            once = [StagePlan("null space", "projections", 1, 0, 0.0, note=f"{took}, once a model")]
    with compute.autocast():
        surveys = data.surveys(ask_server=True)
        renewed = data.settings.augment.on_mismatch == "renew" and any(found.mismatch for found in surveys.values())
        known = {} if renewed else data.augmented_passages()
        records = data.planned_records(surveys)
        texts = list(dict.fromkeys(p.passage for record in records for p in record.passages))
        stages = [StagePlan("augment", "passages", len(texts), 0, 0.0)]
        if any(text not in known for text in texts):
            asks_server = data.settings.chat is not None
            stages = [plan_augment(pipeline.augmenter(), texts, known, measure=measure and not asks_server)]
        changes = ", ".join(dict.fromkeys(found.summary for found in surveys.values() if found.summary))
        stages[0] = replace(stages[0], note=", ".join(filter(None, (stages[0].note, changes))))
        if settings.uses_adapters:
            library, augmented = pipeline.library(create=True), [known[text] for text in texts if text in known]
            stages.append(plan_fit(library, augmented, stages[0].todo, pipeline.group_tokens, measure=measure))
        records = [replace(r, passages=tuple(known.get(p.passage, p) for p in r.passages)) for r in records]
        answerer = pipeline.answerer()
        answered = pipeline.is_answered(answerer)
        batch_size = data.settings.per_device_eval_batch_size
        stages.append(plan_test(answerer, records, batch_size, answered, measure=measure))
    passages = sum(len(record.passages) for record in records)
    stages = [*once, *stages]
    print_plan(f"{len(records)} questions, {passages} passages, {len(texts)} of them distinct", stages)
    return stages


def plan_augment(
    augmenter: JournalledAugmenter, passages: Sequence[str], known: dict[str, AugmentedPassage], *, measure: bool
) -> StagePlan:
    """Plan the augmentation of passages.

    Args:
        augmenter: Augments the few passages that it is measured on, for good.
        passages: Each once.
        known: Those that have been augmented, by their text; what is found in the journal comes to them.
        measure: Whether to augment a batch.
    """
    journal = augmenter.journal
    todo = [text for text in passages if text not in known and journal.get(augmenter.key(text)) is None]
    seconds = None if todo else 0.0
    if todo and measure:
        sample = spread(sorted(todo, key=len), augmenter.settings.augment_batch_size)
        taken = _timed(lambda: list(augmenter.augment(sample)))
        todo = [text for text in todo if text not in sample]
        seconds = taken / len(sample) * len(todo)
    finished = [text for text in passages if text not in known and text not in todo]
    known.update((text, augmented) for text, augmented in augmenter.augment(finished) if augmented is not None)
    failed = sum(text not in known for text in finished)
    note = f"{failed} could not be augmented: others will take their places" if failed else ""
    return StagePlan("augment", "passages", len(passages) - len(todo), len(todo), seconds, note=note)


def plan_fit(
    library: AdapterLibrary,
    passages: Sequence[AugmentedPassage],
    unwritten: int,
    group_tokens: Callable[[Sequence[PendingPassage]], int],
    *,
    measure: bool,
) -> StagePlan:
    """Plan the encoding of passages; the group that it is measured on is encoded for good.

    Args:
        library: Has the adapters.
        passages: Those that are augmented.
        unwritten: How many more will be.
        group_tokens: Tokens in a step of a group.
        measure: Whether to encode a group.
    """
    missing = library.missing(passages)
    done = len({library.key(passage) for passage in passages}) - len(missing) - len(library.failed)
    todo = len(missing) + unwritten
    seconds, notes = (None if todo else 0.0), []
    if missing:
        tokens_each = sum(passage.tokens for passage in missing) / len(missing)
    if missing and measure:
        groups = library.groups(missing, group_tokens(missing))
        group = groups[len(groups) // 2]
        memory = PeakMemory(library.llm.device)
        try:
            taken = _timed(lambda: library.encode(group))
        except PragError as error:
            notes.append(error.what)
        else:
            todo, done = todo - len(group), done + len(group)
            seconds = taken / sum(passage.tokens for passage in group) * tokens_each * todo
            notes.append(f"{len(group)} at once take {memory.peak() / 1e6:,.0f} MB of memory")
    if missing:
        notes.insert(0, f"{tokens_each * todo:,.0f} tokens, {tokens_each:,.0f} each")
    size, free = todo * library.store.bytes_each, shutil.disk_usage(_existing(library.store.root)).free
    if size > free:
        notes.append(f"only {free / 1e6:,.0f} MB are free on disk: see model.adapter_format")
    return StagePlan("fit", "passages", done, todo, seconds, size, ", ".join(notes))


def plan_test(
    answerer: Answerer,
    records: Sequence[AugmentedQuestion],
    batch_size: int,
    is_answered: Callable[[AugmentedQuestion], bool],
    *,
    measure: bool,
) -> StagePlan:
    """Plan the answering of questions, measured on a batch of them; where adapters are missing, `base_weight` stands
    for them.

    Args:
        answerer: Answers.
        records: The questions with their passages.
        batch_size: Questions answered at once.
        is_answered: Whether a question has been answered before.
        measure: Whether to answer a batch.
    """
    todo = [record for record in records if not is_answered(record)]
    seconds, note = (None if todo else 0.0), ""
    if todo and measure:
        batch = spread(sorted(todo, key=lambda r: sum(len(p.passage) for p in r.passages)), batch_size)
        encoded: list[tuple[AugmentedPassage, ...]] = [()] * len(batch)
        if answerer.adapters is not None:
            library = answerer.adapters.library
            ready = [all(library.key(p) in library.store for p in record.passages) for record in batch]
            encoded = [record.passages if there else () for record, there in zip(batch, ready, strict=True)]
        try:
            taken = _timed(lambda: answerer.replies(batch, encoded, [[1.0] * len(passages) for passages in encoded]))
            seconds = taken / len(batch) * len(todo)
        except torch.OutOfMemoryError:
            note = ", which does not fit into memory: lower data.per_device_eval_batch_size"
    note = f"{answerer.method}, {batch_size} at once, up to {answerer.max_new_tokens} tokens" + note
    return StagePlan("test", "questions", len(records) - len(todo), len(todo), seconds, note=note)


def check_memory(model_name: str, size: int, dtype: torch.dtype, device: torch.device) -> None:
    """See that a model fits into a device's memory before it is loaded.

    Args:
        model_name: As it is configured.
        size: Of its parameters, in bytes.
        dtype: Their precision.
        device: Where it shall go.

    Raises:
        InputError: if it does not.
    """
    free = free_memory(device)
    if size > free:
        narrower = "Set --trainer.precision bf16-true, or take" if dtype == torch.float32 else "Take"
        raise InputError(
            f"{model_name} takes {size / 1e9:,.1f} GB in {str(dtype).removeprefix('torch.')}, and {free / 1e9:,.1f} GB "
            f"of memory are free on {device.type}",
            where="model.model_name",
            hint=f"{narrower} another device or a smaller model",
        )


def spread(items: Sequence[T], count: int) -> list[T]:
    """Up to `count` items, from the first to the last in even steps."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def print_plan(facts: str, stages: Sequence[StagePlan]) -> None:
    """Print what the experiment consists of, and a row a stage."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(facts)
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading in ("stage", "done", "to do", "time left", "on disk"):
        table.add_column(heading, justify="left" if heading == "stage" else "right", no_wrap=True)
    table.add_column("")
    for stage in stages:
        left = "not yet known" if stage.seconds is None else str(timedelta(seconds=round(stage.seconds)))
        size = f"{stage.size / 1e6:,.1f} MB" if stage.size else ""
        table.add_row(stage.stage, f"{stage.done:,}", f"{stage.todo:,} {stage.unit}", left, size, stage.note)
    console.print(table)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
