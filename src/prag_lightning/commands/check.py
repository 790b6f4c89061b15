"""`prag check`: every adapter of an experiment is looked at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from prag_lightning.errors import InputError, PragError
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.progress import Progress
from prag_lightning.records import AugmentedQuestion
from prag_lightning.training.library import AdapterLibrary


def check(pipeline: Pipeline, *, delete: bool = False) -> None:
    """Print what is wrong with an experiment's adapters, a line each, and a summary.

    Args:
        pipeline: The experiment.
        delete: Delete the damaged ones, so that `prag fit` makes them anew.

    Raises:
        PragError: if something is wrong.
    """
    records, library = pipeline.data.records(), pipeline.library(create=False)
    store = library.store
    directories = list(store.directories())
    damaged = _damaged(library, directories)
    for directory, reason in damaged.items():
        print(f"damaged: {directory}: {reason}")
        if delete:
            shutil.rmtree(directory)
    passages = {library.key(p): p for split in records.values() for record in split for p in record.passages}
    missing = [passage for key, passage in passages.items() if key not in store and store.directory(key) not in damaged]
    for passage in missing:
        print(f"missing: the adapter of {passage.passage[:60]!r}")
    stale = _stale_places(library, records)
    for place, reason in stale.items():
        print(f"out of date: {place}: {reason}")
    spare = len(set(directories) - {store.directory(key) for key in passages})
    print(f"{len(directories)} adapters in {store.root}, {spare} of them of no passage in the augmented files")
    wrong = {"damaged": len(damaged), "missing": len(missing), "out of date": len(stale)}
    if any(wrong.values()):
        first = ", after 'prag check' with --delete true, which deletes the damaged ones"
        raise PragError(
            "adapters are wrong: " + ", ".join(f"{count} {kind}" for kind, count in wrong.items() if count),
            where=str(store.root),
            hint="Run 'prag fit'" + (first if damaged and not delete else ""),
        )


def _damaged(library: AdapterLibrary, directories: Sequence[Path]) -> dict[Path, str]:
    damaged: dict[Path, str] = {}
    with Progress("check", len(directories), "adapters") as progress:
        for directory in directories:
            try:
                library.store.read(directory)
            except InputError as error:
                damaged[directory] = error.what
            progress.advance(1)
    return damaged


def _stale_places(library: AdapterLibrary, records: Mapping[str, Sequence[AugmentedQuestion]]) -> dict[Path, str]:
    """Published places that do not point to the adapter of their passage, and what is there instead."""
    stale = {}
    for split, questions in records.items():
        for record in questions:
            for passage in record.passages:
                place = library.store.place(split, record.question.test_id, passage.pid)
                key = library.key(passage)
                if place.is_symlink():
                    if os.readlink(place) != os.path.relpath(library.store.directory(key), place.parent):
                        stale[place] = "it points to the adapter of another text or recipe"
                elif place.exists():
                    stale[place] = "an adapter that 'prag fit' did not write is in its place"
                elif key in library.store:
                    stale[place] = "it does not point to its adapter"
    return stale
