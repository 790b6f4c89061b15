"""`prag serve`: a server that answers from an experiment or a store."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import uvicorn

from prag_lightning.errors import InputError
from prag_lightning.memory.memory import Memory
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.serve.app import Server
from prag_lightning.serve.backend import Backend
from prag_lightning.serve.settings import Limits, ServerSettings

_API_KEY = "PRAG_API_KEY"


def serve(pipeline: Pipeline, memory: Memory | None, settings: ServerSettings, limits: Limits) -> None:
    """Serve until the process is asked to end; what was taken on by then is answered.

    Args:
        pipeline: The experiment, or that of the store.
        memory: The store, if there is one.
        settings: How the server is reached.
        limits: What it takes on.

    Raises:
        InputError: if the address cannot be listened at.
    """
    if settings.api_key is None:
        settings = replace(settings, api_key=os.environ.get(_API_KEY))
    with _listening(settings.host, settings.port) as listening:
        server = Server(Backend(pipeline, memory, limits.adapter_cache_mb * 1e6), settings, limits)
        host, port = listening.getsockname()[:2]
        where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        print(f"{where}: a page, and OpenAI's API at {where}/v1", flush=True)
        print(f"models: {', '.join(server.models)}", flush=True)
        config = uvicorn.Config(
            server.app(), log_level="warning", lifespan="on", server_header=False, access_log=False, proxy_headers=False
        )
        asyncio.run(_Uvicorn(config).serve(sockets=[listening]))
    lost = [] if server.documents is None else server.documents.waiting
    if lost:
        print(f"documents that were not yet held, and are lost: {', '.join(lost)}", file=sys.stderr)


class _Uvicorn(uvicorn.Server):
    """A server that ends with its command when a signal comes, which is no failure."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Begin to end at the first signal, and end at once at the second."""
        previous = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: object) -> None:
        if self.should_exit:
            os._exit(128 + number)
        print("ending: what was taken on is finished first; once more to end at once", file=sys.stderr, flush=True)
        self.should_exit = True


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Raises:
        InputError: if the address cannot be listened at.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(
            f"there is no address {host!r}: {error}", where="--host", hint="Give one of this machine"
        ) from error
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen(1024)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(
                f"cannot listen at {host}:{port}: {reason}",
                where="--port",
                hint="Give another, or 0 for one that is free",
            ) from error
        yield listening
