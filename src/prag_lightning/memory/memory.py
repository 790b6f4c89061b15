"""A store: passages of documents, what was written about them, and their adapters, changed together."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import get_args
from urllib.parse import quote

from filelock import FileLock, Timeout

from prag_lightning.augment.base import from_entry
from prag_lightning.costs import COSTS_FILE, Cost, read_costs, record_cost
from prag_lightning.errors import InputError, PragError
from prag_lightning.files import parse_json, write_text
from prag_lightning.inference.asker import Asker
from prag_lightning.inference.exporter import Exporter
from prag_lightning.inference.methods import InferenceMethod, uses_adapters
from prag_lightning.inference.on_demand import OnDemand
from prag_lightning.llm.devices import device_name
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.store import adapter_bytes
from prag_lightning.memory.contents import Changes, Contents, StoredPassage
from prag_lightning.memory.incoming import document_id
from prag_lightning.memory.settings import ADAPTERS, AUGMENTED, CONFIG_FILE, LOCK, PROMPTS_FILE, make_store
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.records import AugmentedPassage, Json
from prag_lightning.training.library import AdapterLibrary

_CHANGED_BY, _DELETING = ".changed-by.json", ".deleting"
_NONE: Mapping[str, Json] = MappingProxyType({})
_JOURNALS, _FAILURES = "**/journal-*.jsonl", "**/failed-replies-*.jsonl"
_ADAPTERS = f"{ADAPTERS}/**/adapters*/[0-9a-f][0-9a-f]/*"


@dataclass(frozen=True)
class Synced:
    """What a change did to a store.

    Args:
        changes: What it was to do.
        contents: What the store holds now.
        augmented: How many passages were written about, and
        encoded: how many adapters were trained.
        seconds: What that took, by kind of work.
        skipped: By reason, files that were left out, and
        unreadable: those that could not be read, whose documents stay as they were.
    """

    changes: Changes
    contents: Contents
    augmented: int
    encoded: int
    seconds: Mapping[str, float]
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unreadable: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def failed(self) -> dict[str, str]:
        """Why passages have no adapter, by their ids."""
        return {stored.passage.id: stored.failure for stored in self.contents.passages if stored.failure}


class Memory:
    """A store, and the pipeline that its passages are encoded and its questions answered with.

    A change is made by one process at a time. What it trains is kept as it goes; the store's passages change at once at
    its end, and what they no longer need is deleted after that. So a change that is killed goes on when it is asked for
    again, and whoever asks meanwhile has the passages as they were.

    Args:
        folder: The store.
        pipeline: Of the store's settings; its corpus, adapters and augmented data are the store's.
        trainer: Settings of the trainer that the store is made with.
    """

    def __init__(self, folder: Path, pipeline: Pipeline, trainer: Mapping[str, Json] = _NONE) -> None:
        self.folder, self.pipeline, self.trainer = folder, pipeline, trainer

    @property
    def contents(self) -> Contents:
        """What the store holds now."""
        return Contents.read(self.folder)

    @contextmanager
    def changing(self) -> Iterator[Contents]:
        """Keep the store from every other change, with what it holds.

        Raises:
            InputError: if another process is changing it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        by = self.folder / _CHANGED_BY
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                write_text(by, json.dumps({"pid": os.getpid(), "since": time.strftime("%H:%M:%S")}))
                try:
                    contents = self.contents
                    if self._unused_are_left:
                        self._delete_unused(contents)
                    yield contents
                finally:
                    by.unlink(missing_ok=True)
                    if not any(path.name != LOCK for path in self.folder.iterdir()):
                        shutil.rmtree(self.folder)  # nothing came of the store
        except Timeout as error:
            raise InputError(
                f"{_who(by)} is changing the store", where=str(self.folder), hint="Wait until it has ended"
            ) from error

    # Changes

    def verified(self, contents: Contents) -> Contents:
        """The contents without the adapters that are missing, damaged, or of other weights of the model."""
        if not contents.passages:
            return contents
        known, library = self.augmented(), self.pipeline.library(create=True)
        checked = []
        for stored in contents.passages:
            augmented = known.get(stored.passage.text)
            key = None if augmented is None else library.key(augmented)
            sound = key is not None and self._place(library, key) == stored.adapter and key in library.store
            checked.append(stored if sound or not stored.adapter else replace(stored, adapter=""))
        return Contents(tuple(checked))

    def apply(self, changes: Changes) -> Synced:
        """Augment and encode what is new, and put it in the place of what the store held; call it while `changing`."""
        _ = self.pipeline.llm  # if it cannot be loaded, there is no store
        if not (self.folder / CONFIG_FILE).exists():
            make_store(self.folder, self.pipeline.settings, self.pipeline.data.settings, self.trainer)
        with self.pipeline.compute.autocast():
            made = self._encode(changes.to_encode)
        after = Contents(tuple(made.stored(passage) for passage in changes.after.passages))
        self._put(after)
        return Synced(changes, after, made.augmented, made.encoded, made.seconds)

    def _encode(self, texts: Sequence[str]) -> _Made:
        if not texts:
            return _Made({}, {}, 0, 0, {})
        library, seconds = self.pipeline.library(create=True), {}
        augmenter = self.pipeline.augmenter(self._journals)
        started = time.perf_counter()
        written = dict(augmenter.augment(texts))
        seconds["augment"] = time.perf_counter() - started
        on_demand = self._on_demand(written, library)
        started = time.perf_counter()
        on_demand.encode([passage for passage in written.values() if passage is not None])
        seconds["encode"] = time.perf_counter() - started
        device = device_name(self.pipeline.compute.device)
        for stage, passages, spent in (
            ("augment", augmenter.passages, augmenter.seconds),
            ("fit", on_demand.encoded, seconds["encode"]),
        ):
            record_cost(self.folder, Cost(stage, passages, spent, device))
        places, failures = {}, {}
        for text, passage in written.items():
            if passage is None:
                failures[text] = augmenter.failures.skipped.get(text, "no QA pairs could be had")
            elif (key := library.key(passage)) in library.store:
                places[text] = self._place(library, key)
            else:
                failures[text] = library.failed.get(text, "it could not be encoded")
        augmenter.failures.report()
        return _Made(places, failures, augmenter.passages, on_demand.encoded, seconds)

    def _place(self, library: AdapterLibrary, key: str) -> str:
        """Where an adapter is, within the store."""
        return library.store.directory(key).relative_to(self.folder).as_posix()

    def estimate(self, changes: Changes) -> tuple[float | None, int]:
        """What changes take: seconds, by what earlier ones took on this device, `None` before the first; and bytes."""
        device, passages = device_name(self.pipeline.compute.device), len(changes.to_encode)
        settings, stack = self.pipeline.settings, self.pipeline.llm.stack
        size = passages * adapter_bytes(random_adapter(stack, settings.lora_rank, seed=0), settings.adapter_format)
        seconds = 0.0
        for stage in ("augment", "fit"):
            costs = [cost for cost in read_costs(self.folder) if (cost.stage, cost.device) == (stage, device)]
            if not costs:
                return None, size
            seconds += passages * costs[-1].seconds / costs[-1].passages
        return seconds, size

    # Forgetting

    def forget(self, name: str) -> Forgotten:
        """Forget a document, a passage, or all documents of a folder.

        Args:
            name: The id of a document or a passage, a folder's within the ids, ending in `/`, or the path of a file or
                folder.

        Raises:
            InputError: if the store holds nothing of that name.
            PragError: if something of it is left.
        """
        with self.changing() as contents:
            path = document_id(Path(name), self.folder)
            names = (name, path, f"{path}/") if name.strip() else ()
            gone = next(filter(None, (_of(contents, each) for each in names)), [])
            if not gone:
                raise InputError(
                    f"the store holds no document {name!r}",
                    where=str(self.folder),
                    hint="Give the id of one, of a passage, or a folder that ends in /",
                )
            read = {(p.file, p.file_hash) for p in gone}
            after = Contents(
                tuple(
                    # a file of which something was forgotten is no longer held as it is, and is read again
                    replace(p, file_hash="") if p.file and (p.file, p.file_hash) in read else p
                    for p in contents.passages
                    if p not in gone
                )
            )
            self._put(after)
            kept = set(after.texts)
            lost = [p for p in gone if p.passage.text not in kept]
            files = self._see_gone([p.passage.text for p in lost], {p.adapter for p in gone} - after.adapters, kept)
        return Forgotten(tuple(gone), len(gone) - len(lost), files)

    def _see_gone(self, texts: Sequence[str], adapters: set[str], kept: set[str]) -> int:
        """See that no file of the store holds any of the texts, but in what it keeps of others, which may have the same
        words, and that the adapters are gone.

        Returns:
            How many files were looked through: all that may hold words of documents.
        """
        files = [
            path
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
            and path.name not in (_CHANGED_BY, CONFIG_FILE, PROMPTS_FILE, COSTS_FILE)
            and not path.is_relative_to(self.folder / ADAPTERS)
        ]
        needles = [form.encode() for text in texts for form in {json.dumps(text, ensure_ascii=False)[1:-1], text}]
        for path in files:
            lines = path.read_bytes().split(b"\n")
            content = b"\n".join(line for line in lines if _passage(line.decode("utf-8", "replace")) not in kept)
            if not any(needle in content for needle in needles):
                continue
            if path.suffix == ".json" and path.is_relative_to(self.folder / AUGMENTED):
                path.unlink()  # questions with their passages, of prag augment, which makes the file again
            else:
                raise PragError("a forgotten passage still stands in a file", where=str(path), hint="Delete the file")
        for place in filter(None, adapters):
            if (self.folder / place).exists():
                raise PragError("a forgotten passage's adapter is still there", where=place, hint="Delete it")
        return len(files)

    def _put(self, after: Contents) -> None:
        """Hold other passages from now on, and delete what they do not need. A process that is killed in between leaves
        word of it: without, what stands here unused is the work of a change that will go on."""
        write_text(self.folder / _DELETING, after.hash)
        after.write(self.folder)
        self._delete_unused(after)

    @property
    def _unused_are_left(self) -> bool:
        word = self.folder / _DELETING
        return word.exists() and word.read_text(encoding="utf-8") == self.contents.hash

    def _delete_unused(self, contents: Contents) -> None:
        """Delete what no passage needs: adapters, and what was written about other texts."""
        texts, adapters = set(contents.texts), contents.adapters
        for directory in self.folder.glob(_ADAPTERS):
            if directory.relative_to(self.folder).as_posix() not in adapters:
                shutil.rmtree(directory)
                if not any(directory.parent.iterdir()):
                    directory.parent.rmdir()
        for journals in {path.parent for path in self.folder.glob(f"{AUGMENTED}/{_JOURNALS}")}:
            _rewrite(journals, texts)
        for path in self.folder.glob(f"{AUGMENTED}/{_FAILURES}"):
            rows = [line for line in _lines(path) if _passage(line) in texts]
            if rows:
                write_text(path, "".join(f"{row}\n" for row in rows))
            else:
                path.unlink()
        (self.folder / _DELETING).unlink(missing_ok=True)

    # Answers

    def augmented(self) -> dict[str, AugmentedPassage]:
        """What was written about the store's passages, by text."""
        entries = (entry for path in self._journal_files() for entry in _entries(path))
        found = {entry["passage"]: from_entry(entry) for entry in entries}
        return {text: passage for text, passage in found.items() if passage is not None}

    def _journal_files(self) -> list[Path]:
        return sorted(self._journals.glob("journal-*.jsonl"))

    @property
    def _journals(self) -> Path:
        return self.pipeline.data.augment_folder

    def asker(self, method: InferenceMethod | None = None, topk: int | None = None) -> Asker:
        """What answers questions from the store as it is now; it makes no adapters.

        Args:
            method: How passages are used; unset means the settings' own.
            topk: Passages a question; unset means the settings' own.

        Raises:
            InputError: if there is no such method, `topk` is below 1, the store is empty, or its adapters are of other
                weights than the model's, and the method needs them.
        """
        pipeline = self.pipeline
        method = pipeline.settings.inference_method if method is None else method
        if method not in get_args(InferenceMethod):
            raise InputError(f"there is no method {method!r}", hint=f"Take {', '.join(get_args(InferenceMethod))}")
        if topk is not None and topk < 1:
            raise InputError(f"topk is {topk}", where="topk", hint="Give 1 or more")
        if method == "vanilla":
            return Asker(pipeline.answerer(method), None, pipeline.compute.autocast)
        contents = self.contents
        if not contents.passages:
            raise InputError("the store holds no document", where=str(self.folder), hint="Add some with prag sync")
        known = self.augmented() if uses_adapters(method) else {}
        if uses_adapters(method):
            self._check_adapters(contents, known)
        library = pipeline.library(create=False) if uses_adapters(method) else None
        return Asker(pipeline.answerer(method), self._on_demand(known, library, topk), pipeline.compute.autocast)

    def export(self, out: Path, names: Sequence[str] | None = None, *, merged: bool = False) -> list[Path]:
        """Write adapters as PEFT loads them; see `Exporter`.

        Args:
            out: A folder; what is there already is left alone.
            names: Ids of passages and documents; unset means all.
            merged: Make one adapter of them.

        Raises:
            InputError: if the store holds no such passage, or one has no adapter.
        """
        passages = self.contents.passages
        wanted = [p for p in passages if names is None or p.passage.id in names or p.document in names]
        missing = set(names or ()) - {p.passage.id for p in wanted} - {p.document for p in wanted}
        if missing or not wanted:
            what = f"no passage {min(missing)!r}" if missing else "no document"
            raise InputError(f"the store holds {what}", where=str(self.folder), hint="Give ids that it holds")
        known = self.augmented()
        if lacking := next((p for p in wanted if p.passage.text not in known), None):
            raise InputError(
                f"the passage has no adapter: {lacking.failure}", where=lacking.passage.id, hint="Leave it out"
            )
        exporter = Exporter(self.pipeline.adapters(), out)
        return list(
            exporter.of_passages({quote(p.passage.id, safe=""): known[p.passage.text] for p in wanted}, merged=merged)
        )

    def _check_adapters(self, contents: Contents, known: Mapping[str, AugmentedPassage]) -> None:
        library = self.pipeline.library(create=False)
        for stored in contents.passages:
            augmented = known.get(stored.passage.text)
            if stored.adapter and (augmented is None or self._place(library, library.key(augmented)) != stored.adapter):
                raise InputError(
                    "the adapters are of other weights of the model, or of another version of this program",
                    where=str(self.folder),
                    hint="Train them anew with prag sync",
                )

    def _on_demand(
        self, known: Mapping[str, AugmentedPassage | None], library: AdapterLibrary | None, topk: int | None = None
    ) -> OnDemand:
        data, group_tokens = self.pipeline.data, self.pipeline.group_tokens
        spare, topk = data.settings.augment.extra_candidates, topk or data.settings.topk
        return OnDemand(data.retriever, topk, spare, library, _Written(known), group_tokens)


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten.

    Args:
        passages: With what they were.
        shared: How many of them stay in another document in the same words.
        files: How many files of the store were looked through for them.
    """

    passages: tuple[StoredPassage, ...]
    shared: int
    files: int


@dataclass(frozen=True)
class _Made:
    """What was made for texts: where their adapters are, or why there is none."""

    places: Mapping[str, str]
    failures: Mapping[str, str]
    augmented: int
    encoded: int
    seconds: Mapping[str, float]

    def stored(self, passage: StoredPassage) -> StoredPassage:
        text = passage.passage.text
        if text in self.places:
            return replace(passage, adapter=self.places[text], failure="")
        return replace(passage, failure=self.failures[text]) if text in self.failures else passage


@dataclass(frozen=True)
class _Written:
    """An augmenter of passages that have been written about before, and of no others."""

    known: Mapping[str, AugmentedPassage | None]

    def augment(self, passages: Sequence[str]) -> Iterator[tuple[str, AugmentedPassage | None]]:
        return ((passage, self.known.get(passage)) for passage in passages)


def _of(contents: Contents, name: str) -> list[StoredPassage]:
    """The passages of a document, a file of several, or a folder that ends in /; or the one of this id."""
    return [
        stored
        for stored in contents.passages
        if (name in (stored.document, stored.file, stored.passage.id))
        or (name.endswith("/") and stored.document.startswith(name))
    ]


def _who(by: Path) -> str:
    try:
        row = json.loads(by.read_text(encoding="utf-8"))
        return f"process {row['pid']}, since {row['since']},"
    except (OSError, ValueError, KeyError):
        return "another process"


def _lines(path: Path) -> list[str]:
    """The whole lines of a file, without one that is torn, or is being written."""
    return path.read_bytes().decode("utf-8", "replace").split("\n")[:-1]


def _entries(path: Path) -> Iterator[dict[str, Json]]:
    for number, line in enumerate(_lines(path), 1):
        if _passage(line) is None:
            raise InputError(
                "a line of the journal is damaged",
                where=f"{path}, line {number}",
                hint="Delete that line, and run prag sync",
            )
        yield parse_json(line)


def _passage(line: str) -> str | None:
    """The text of the passage that a line of the corpus or a journal is about."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    text = row.get("passage", row.get("text")) if isinstance(row, dict) else None
    return text if isinstance(text, str) else None


def _rewrite(folder: Path, texts: set[str]) -> None:
    """Leave in journals what was written about these texts, in an order that does not depend on when."""
    files = sorted(folder.glob("journal-*.jsonl"))
    lines = [line for path in files for line in _lines(path)]
    kept = {passage: line for line in lines if (passage := _passage(line)) in texts and passage is not None}
    content = "".join(f"{kept[text]}\n" for text in sorted(kept))
    first = folder / "journal-0.jsonl"
    if files != [first] or first.read_bytes() != content.encode():
        write_text(first, content)
    for path in files:
        if path != first:
            path.unlink()
