"""The documents of a store that clients put into it and take out of it, one change after the other."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from prag_lightning.errors import PragError
from prag_lightning.memory.contents import StoredPassage
from prag_lightning.memory.incoming import hashed_id
from prag_lightning.memory.memory import Memory
from prag_lightning.progress import without_progress
from prag_lightning.records import Json
from prag_lightning.serve.api_errors import ApiError
from prag_lightning.serve.requests import DocumentRequest

_MOST_PENDING = 1000


@dataclass(frozen=True)
class _Pending:
    """A document that is on its way into the store, or did not get there."""

    text: str
    title: str
    error: str = ""

    def to_json(self, key: str) -> dict[str, Json]:
        status = "failed" if self.error else "in_progress"
        return {**_document(key, self.title, 0), "status": status, "error": self.error or None}


class Documents:
    """Those of a store, and those that are to come into it.

    What has been taken on is in memory until it is encoded: a server that ends drops what it has not begun, and says
    so.

    Args:
        memory: The store, with a model that nobody else computes with.
        thread: The one that changes it.
        on_forgotten: Called after a document was forgotten.
    """

    def __init__(self, memory: Memory, thread: ThreadPoolExecutor, on_forgotten: Callable[[], object]) -> None:
        self.memory, self._thread, self._on_forgotten = memory, thread, on_forgotten
        self._lock = threading.Lock()
        self._pending: dict[str, _Pending] = {}

    def all(self) -> list[dict[str, Json]]:
        """Each document, with its title, how many passages it has, and whether it can be asked about."""
        held = {key: _held(key, passages) for key, passages in self.memory.contents.by_document().items()}
        with self._lock:
            coming = {key: pending.to_json(key) for key, pending in self._pending.items()}
        return [document for _, document in sorted((held | coming).items())]

    def one(self, key: str) -> dict[str, Json]:
        """One document.

        Raises:
            ApiError: if there is none of this id.
        """
        found = next((document for document in self.all() if document["id"] == key), None)
        if found is None:
            raise _unknown(key)
        return found

    def add(self, request: DocumentRequest) -> tuple[str, Future[None]]:
        """Take on a document, in the place of one of the same id.

        Returns:
            Its id, and what is done when it is in the store, or has failed.

        Raises:
            ApiError: for an id that cannot be, or where too many are to come.
        """
        key = hashed_id(request.text) if request.id is None else request.id
        if not key.strip() or key != key.strip() or key.endswith("/") or not key.isprintable():
            raise ApiError(400, f"the id of a document cannot be {key!r}. Give a text without / at its end", param="id")
        if not any(char.isalnum() for char in request.text):
            raise ApiError(400, "the document holds no word", param="text")
        with self._lock:
            if sum(not pending.error for pending in self._pending.values()) >= _MOST_PENDING:
                raise ApiError(429, "too many documents wait already. Add more later", code="queue_full")
            self._pending.pop(key, None)
            self._pending[key] = _Pending(request.text, request.title)
            return key, self._thread.submit(self._apply)

    def delete(self, key: str) -> Future[None]:
        """Forget a document, also one that is to come.

        Raises:
            ApiError: if there is none of this id.
        """
        self.one(key)
        with self._lock:
            return self._thread.submit(self._forget, key)

    @property
    def waiting(self) -> list[str]:
        """Ids of those that are not in the store yet."""
        with self._lock:
            return [key for key, pending in self._pending.items() if not pending.error]

    def _apply(self) -> None:
        """Put what is to come into the store, all at once."""
        with self._lock:
            coming = {key: pending for key, pending in self._pending.items() if not pending.error}
        if not coming:
            return
        try:
            with without_progress(), self.memory.changing() as contents:
                incoming = self.memory.incoming(contents)
                for key, pending in coming.items():
                    incoming.add_text(key, pending.text, pending.title)
                self.memory.apply(self.memory.changes(incoming), incoming)
            self._settle(coming, "")
        except Exception as error:
            told = str(error) if isinstance(error, PragError) else f"{type(error).__name__}: {error}"
            print(f"prag serve: documents are not held: {told}", file=sys.stderr)
            self._settle(coming, told)

    def _settle(self, coming: dict[str, _Pending], error: str) -> None:
        with self._lock:
            for key, pending in coming.items():
                if self._pending.get(key) is not pending:  # another of that id has come meanwhile
                    continue
                if error:
                    self._pending[key] = _Pending("", pending.title, error)
                else:
                    del self._pending[key]

    def _forget(self, key: str) -> None:
        with self._lock:
            self._pending.pop(key, None)
        if key not in self.memory.contents.by_document():
            return
        try:
            self.memory.forget(key)
        except PragError as error:
            raise ApiError(409, str(error), code="not_forgotten") from error
        self._on_forgotten()


def _document(key: str, title: str, passages: int) -> dict[str, Json]:
    return {"id": key, "object": "document", "title": title, "passages": passages}


def _held(key: str, passages: list[StoredPassage]) -> dict[str, Json]:
    failures = [stored.failure for stored in passages if not stored.adapter]
    status = "failed" if len(failures) == len(passages) else "completed"
    error = f"{len(failures)} of {len(passages)} passages have no adapter: {failures[0]}" if failures else None
    return {**_document(key, passages[0].passage.title, len(passages)), "status": status, "error": error}


def _unknown(key: str) -> ApiError:
    return ApiError(404, f"there is no document {key!r}", code="document_not_found")
