"""A store at work: documents become passages with adapters, and questions are answered with them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import get_args
from urllib.parse import quote

from prag_lightning.augment.questions import OnlyKnown
from prag_lightning.costs import Cost, read_costs, record_cost
from prag_lightning.data.corpus import file_stamp
from prag_lightning.errors import InputError
from prag_lightning.inference.asker import Asker
from prag_lightning.inference.exporter import Exporter, Format, Layout
from prag_lightning.inference.methods import InferenceMethod, uses_adapters
from prag_lightning.inference.on_demand import OnDemand
from prag_lightning.llm.devices import device_name
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.store import adapter_bytes
from prag_lightning.memory.contents import CORPUS_FILE, Changes, Contents, StoredPassage
from prag_lightning.memory.folder import StoreFolder
from prag_lightning.memory.incoming import Incoming, document_id
from prag_lightning.memory.settings import CONFIG_FILE, make_store
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.records import AugmentedPassage, Json
from prag_lightning.training.library import AdapterLibrary

_NONE: Mapping[str, Json] = MappingProxyType({})


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
    skipped: Mapping[str, Sequence[str]]
    unreadable: Mapping[str, Sequence[str]]

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
        self.store = StoreFolder(folder)
        self._read: _Held | None = None

    @property
    def contents(self) -> Contents:
        """What the store holds now."""
        return Contents.read(self.folder)

    def changing(self) -> AbstractContextManager[Contents]:
        """Keep the store from every other change; see `StoreFolder`."""
        return self.store.changing()

    # Changes

    def incoming(self, contents: Contents) -> Incoming:
        """Where documents are put that the store is to hold, given what it holds."""
        return Incoming(self.folder, contents, self.pipeline.data.settings.splitter)

    def changes(self, incoming: Incoming) -> Changes:
        """What it takes to hold documents: also adapters that are missing, damaged, or of other weights of the model.

        Raises:
            InputError: if two passages have one id.
        """
        return Changes.between(self._verified(incoming.held), incoming.all())

    def _verified(self, contents: Contents) -> Contents:
        """The contents without the adapters that do not serve."""
        if not contents.passages:
            return contents
        known, library = self.store.written(), self.pipeline.library(create=True)
        checked = []
        for stored in contents.passages:
            augmented = known.get(stored.passage.text)
            key = None if augmented is None else library.key(augmented)
            sound = key is not None and self._place(library, key) == stored.adapter and key in library.store
            checked.append(stored if sound or not stored.adapter else replace(stored, adapter=""))
        return Contents(tuple(checked))

    def apply(self, changes: Changes, incoming: Incoming) -> Synced:
        """Augment and encode what is new, and put it in the place of what the store held; call it while `changing`.

        Args:
            changes: What there is to do.
            incoming: The documents that it comes from.

        Raises:
            PragError: if the LLM cannot do its part.
        """
        _ = self.pipeline.llm  # if it cannot be loaded, there is no store
        if not (self.folder / CONFIG_FILE).exists():
            make_store(self.folder, self.pipeline.settings, self.pipeline.data.settings, self.trainer)
        with self.pipeline.compute.autocast():
            made = self._encode(changes.to_encode)
        after = Contents(tuple(made.stored(passage) for passage in changes.after.passages))
        self.store.hold(after)
        found = (incoming.skipped, incoming.failed)
        return Synced(changes, after, made.augmented, made.encoded, made.seconds, *found)

    def _encode(self, texts: Sequence[str]) -> _Made:
        if not texts:
            return _Made({}, {}, 0, 0, {})
        library, seconds = self.pipeline.library(create=True), {}
        augmenter = self.pipeline.augmenter()
        started = time.perf_counter()
        written = dict(augmenter.augment(texts))
        seconds["augment"] = time.perf_counter() - started
        on_demand = self._on_demand(lambda: written, library)
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
                hint = "Give the id of one, of a passage, or a folder that ends in /"
                if self.store.written().keys() - set(contents.texts):
                    hint += "; what an interrupted sync has made of others goes with the next prag sync"
                raise InputError(f"the store holds no document {name!r}", where=str(self.folder), hint=hint)
            read = {(p.file, p.file_hash) for p in gone}
            after = Contents(
                tuple(
                    # a file of which something was forgotten is no longer held as it is, and is read again
                    replace(p, file_hash="") if p.file and (p.file, p.file_hash) in read else p
                    for p in contents.passages
                    if p not in gone
                )
            )
            self.store.hold(after)
            files = self.store.see_gone(Contents(tuple(gone)), after)
            kept = set(after.texts)
        return Forgotten(tuple(gone), sum(p.passage.text in kept for p in gone), files)

    # Answers

    def _held(self) -> _Held:
        """What the store holds now with what was written about it: read once, and again after a change."""
        stamp = file_stamp(self.folder / CORPUS_FILE)
        if self._read is None or self._read.stamp != stamp:
            self._read = _Held(stamp, self.contents, self.store.written())
        return self._read

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
        held = self._held()
        if not held.contents.passages:
            raise InputError("the store holds no document", where=str(self.folder), hint="Add some with prag sync")
        library = pipeline.library(create=False) if uses_adapters(method) else None
        if library is not None and not held.checked:
            self._check_adapters(held, library)
        on_demand = self._on_demand(lambda: self._held().written, library, topk)
        return Asker(pipeline.answerer(method), on_demand, pipeline.compute.autocast)

    def exporter(
        self, out: Path, rank: int | None = None, layout: Layout = "published", format: Format = "peft"
    ) -> Exporter:
        """What writes the store's adapters for other software; see `Exporter`.

        Raises:
            InputError: if the store holds none.
        """
        if not self._held().contents.passages:
            raise InputError("the store holds no document", where=str(self.folder), hint="Add some with prag sync")
        return Exporter(self.pipeline.adapters(), out, self.pipeline.card(), rank, layout, format)

    def exported(
        self, exporter: Exporter, names: Sequence[str] | None = None, *, merged: bool = False
    ) -> Iterator[Path]:
        """Write adapters.

        Args:
            exporter: Writes them.
            names: Ids of passages and documents; unset means all.
            merged: Make one adapter of them.

        Raises:
            InputError: if the store holds no such passage, or one has no adapter.
        """
        held = self._held()
        passages, known = held.contents.passages, held.written
        wanted = [p for p in passages if names is None or p.passage.id in names or p.document in names]
        if missing := set(names or ()) - {p.passage.id for p in wanted} - {p.document for p in wanted}:
            raise InputError(
                f"the store holds no passage {min(missing)!r}", where=str(self.folder), hint="Give ids that it holds"
            )
        lacking = [p for p in wanted if p.passage.text not in known]
        if lacking and (names is not None or len(lacking) == len(wanted)):
            raise InputError(
                f"the passage has no adapter: {lacking[0].failure}", where=lacking[0].passage.id, hint="Leave it out"
            )
        for each in lacking:
            print(f"left out, has no adapter, {each.failure}: {each.passage.id}", file=sys.stderr)
        wanted = [p for p in wanted if p not in lacking]
        by_name = {quote(p.passage.id, safe=""): replace(known[p.passage.text], origin=p.passage) for p in wanted}
        return exporter.of_passages(by_name, merged=merged)

    def _check_adapters(self, held: _Held, library: AdapterLibrary) -> None:
        for stored in held.contents.passages:
            augmented = held.written.get(stored.passage.text)
            if stored.adapter and (augmented is None or self._place(library, library.key(augmented)) != stored.adapter):
                raise InputError(
                    "the adapters are of other weights of the model, or of another version of this program",
                    where=str(self.folder),
                    hint="Train them anew with prag sync",
                )
        held.checked = True

    def _on_demand(
        self,
        written: Callable[[], Mapping[str, AugmentedPassage | None]],
        library: AdapterLibrary | None,
        topk: int | None = None,
    ) -> OnDemand:
        data, group_tokens = self.pipeline.data, self.pipeline.group_tokens
        spare, topk = data.settings.augment.extra_candidates, topk or data.settings.topk
        return OnDemand(data.retriever, topk, spare, library, OnlyKnown(written), group_tokens)


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


@dataclass
class _Held:
    """What a store holds, and what was written about that, as of a stamp of its corpus.

    `checked` says whether the adapters were seen to be of the model as it is.
    """

    stamp: tuple[int, int] | None
    contents: Contents
    written: Mapping[str, AugmentedPassage]
    checked: bool = False


def _of(contents: Contents, name: str) -> list[StoredPassage]:
    """The passages of a document, a file of several, or a folder that ends in /; or the one of this id."""
    return [
        stored
        for stored in contents.passages
        if (name in (stored.document, stored.file, stored.passage.id))
        or (name.endswith("/") and stored.document.startswith(name))
    ]
