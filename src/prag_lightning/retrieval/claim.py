"""The right to fill an index on a server, which one build has at a time."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any

from prag_lightning.errors import InputError, PragError
from prag_lightning.retrieval.search_server import SearchServer

_BEAT = 3.0
"""Seconds after which a holder renews its claim."""
_LAPSE = 15.0
"""Seconds without renewal after which a claim counts as a dead build's. Whoever meets it watches for so long, so that
the clocks of two machines need not agree."""
_ID = "build"
_SETTINGS = {"number_of_shards": 1, "auto_expand_replicas": "0-1"}


class Claim:
    """A claim on a name; a context manager, which gives it up at the end.

    It is a document in an index of its own, which only one can create, and which its holder writes again every few
    seconds. One that is not written again is taken over.

    Args:
        server: Where it is.
        name: Of the index that is to be filled.

    Raises:
        InputError: on entering, if another build has it.
    """

    def __init__(self, server: SearchServer, name: str) -> None:
        self._server, self._name, self._index = server, name, f"{name}-claim"
        self._holder = {
            "build": uuid.uuid4().hex,
            "by": f"process {os.getpid()} on {socket.gethostname()}",
            "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        }
        self._ended, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Claim:
        self._server.ask(
            lambda client: client.indices.create(
                index=self._index, body={"settings": _SETTINGS}, wait_for_active_shards="all"
            ),
            self._name,
            but=["resource_already_exists_exception"],
        )
        while not self._write(self._free()):
            pass
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(PragError):
            if self._is_ours(self._read(patience=0)):
                self._server.ask(lambda client: client.indices.delete(index=self._index), self._name, patience=0)

    def check(self) -> None:
        """See that it is still ours.

        Raises:
            PragError: if another build took it for a dead one's.
        """
        if self._lost.is_set():
            raise PragError(
                "another build has taken over, since the server had not heard of this one",
                where=self._server.place(self._name),
                hint="Let that one end",
            )

    def _free(self) -> dict[str, Any] | None:
        """What stands in the place of ours: nothing, or a claim that has lapsed."""
        held, end = self._read(), time.monotonic() + _LAPSE
        if held is None or self._is_ours(held):
            return held
        by = f"{held['_source']['by']}, since {held['_source']['since']}"
        where = self._server.place(self._name)
        print(f"{where}: a build was begun by {by}; seeing whether it still runs", file=sys.stderr)
        renewed = 0
        while held is not None and time.monotonic() < end:
            time.sleep(_BEAT / 3)
            now = self._read()
            if now is not None and now["_version"] != held["_version"]:
                # The first may have been on its way when its build was killed.
                renewed += 1
                end = time.monotonic() + _LAPSE
                if renewed > 1:
                    raise InputError(
                        f"another build fills it: {by}", where=where, hint="Wait until that one has ended, or end it"
                    )
            held = now
        return held

    def _read(self, patience: float | None = None) -> dict[str, Any] | None:
        """The claim that there is."""
        held: dict[str, Any] | None = self._server.ask(
            lambda client: dict(client.get(index=self._index, id=_ID)), self._name, but=[404], patience=patience
        )
        return held

    def _write(self, held: dict[str, Any] | None, patience: float | None = None) -> bool:
        """Write ours in the place of `held`; false if another stands there by now."""
        unchanged: dict[str, Any] = {"op_type": "create"}
        if held is not None:
            unchanged = {"if_seq_no": held["_seq_no"], "if_primary_term": held["_primary_term"]}
        written = self._server.ask(
            lambda client: client.index(index=self._index, id=_ID, body=self._holder, **unchanged),
            self._name,
            but=[409],
            patience=patience,
        )
        return written is not None

    def _is_ours(self, held: dict[str, Any] | None) -> bool:
        return held is not None and held["_source"]["build"] == self._holder["build"]

    def _renew(self) -> None:
        while not self._ended.wait(_BEAT):
            with suppress(PragError):  # while the server is away nobody else can take it
                held = self._read(patience=0)
                if held is not None and not self._is_ours(held):
                    self._lost.set()
                    return
                self._write(held, patience=0)
