"""`prag sync` and `prag forget`: a store kept in step with documents."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from prag_lightning.errors import InputError
from prag_lightning.memory.contents import Changes
from prag_lightning.memory.memory import Forgotten, Memory, Synced


def sync(
    memory: Memory, documents: Sequence[str] = (), corpora: Sequence[str] = (), *, dry_run: bool = False
) -> Synced | None:
    """Let a store hold documents as they are now, and say what that changes.

    Args:
        memory: The store.
        documents: Folders and files; what a folder no longer has is dropped.
        corpora: Corpus files, whose passages are taken as they are.
        dry_run: Only say it.

    Raises:
        InputError: if there is nothing to read, or another process is changing the store.
    """
    if not (documents or corpora) or not all(name.strip() for name in (*documents, *corpora)):
        raise InputError("no documents are named", hint="Give --documents FOLDER, or --corpus FILE")
    with memory.changing() as contents:
        incoming = memory.incoming(contents)
        for name in documents:
            incoming.add_files(Path(name), removes=True)
        for name in corpora:
            incoming.add_corpus(Path(name))
        incoming.report()
        changes = memory.changes(incoming)
        print(f"{changes}{_estimate(memory, changes)}", flush=True)
        if dry_run:
            return None
        synced = memory.apply(changes, incoming)
    for passage, reason in synced.failed.items():
        print(f"has no adapter, {reason}: {passage}", file=sys.stderr)
    count, size = len(synced.contents.by_document()), len(synced.contents.passages)
    print(f"{memory.folder}: {count} documents, {size} passages")
    return synced


def _estimate(memory: Memory, changes: Changes) -> str:
    if not changes.to_encode:
        return ""
    seconds, size = memory.estimate(changes)
    megabytes = f", {size / 1e6:.1f} MB"
    if seconds is None:
        return megabytes
    return (f", {timedelta(seconds=round(seconds))}" if seconds >= 60 else f", {seconds:.0f} s") + megabytes


def forget(memory: Memory, name: str) -> Forgotten:
    """Forget documents, and say what is gone.

    Args:
        memory: The store.
        name: The id of a document or passage, or a folder of documents, ending in `/`.

    Raises:
        InputError: if the store holds nothing of that name.
    """
    forgotten = memory.forget(name)
    count, shared = len(forgotten.passages), forgotten.shared
    stays = f"; in the same words in other documents, and kept there: {shared}" if shared else ""
    print(f"forgotten: {name}, {count} passage{'s' * (count != 1)}{stays}")
    print(f"looked through {forgotten.files} files of {memory.folder}: none holds it")
    return forgotten
