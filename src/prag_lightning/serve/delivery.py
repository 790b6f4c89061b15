"""Replies on their way to clients: whole or in pieces, for as long as the client is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from prag_lightning.serve.api_errors import ApiError
from prag_lightning.serve.engine import Engine
from prag_lightning.serve.job import Job, several
from prag_lightning.serve.replies import DONE, Envelope, event
from prag_lightning.serve.requests import Asked, ChatRequest, CompletionRequest

Told = str | Job | ApiError


class Delivery:
    """Has replies written, and hands them over.

    Args:
        engine: Writes them.
        timeout: Seconds that a request may take.
    """

    def __init__(self, engine: Engine, timeout: float) -> None:
        self.engine, self.timeout = engine, timeout

    async def reply(
        self, request: Request, body: ChatRequest | CompletionRequest, asked: list[Asked], *, chat: bool
    ) -> Response:
        """A reply, whole or in pieces.

        Args:
            request: Of a client.
            body: What it sent.
            asked: The texts that are to be written.
            chat: Whether it is a chat's.

        Raises:
            ApiError: if there can be none.
            ClientDisconnect: if the client has gone.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[tuple[int, Told]] = asyncio.Queue()

        def tell(number: int, what: Told) -> None:
            if body.stream or not isinstance(what, str):
                loop.call_soon_threadsafe(told.put_nowait, (number, what))

        jobs = several(asked, tell)
        envelope = Envelope(body.model, chat)
        try:
            for job in jobs:
                self.engine.submit(job)
        except ApiError:
            _cancel(jobs)
            raise
        deadline = loop.time() + self.timeout
        if body.stream:
            first = await self._next(request, jobs, told, deadline)
            counts = body.stream_options is not None and body.stream_options.include_usage
            events = self._events(jobs, told, deadline, envelope, first, counts=counts)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        left = len(jobs)
        while left:
            _, what = await self._next(request, jobs, told, deadline)
            left -= isinstance(what, Job)
        return JSONResponse(envelope.whole(jobs))

    async def _next(
        self, request: Request, jobs: list[Job], told: asyncio.Queue[tuple[int, Told]], deadline: float
    ) -> tuple[int, Told]:
        """What is told next, while the client is there.

        Raises:
            ApiError: if that is an error, or it takes too long.
            ClientDisconnect: if the client has gone.
        """
        getting = asyncio.ensure_future(told.get())
        leaving = asyncio.ensure_future(_left(request))
        try:
            timeout = deadline - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({getting, leaving}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if getting in done:
                number, what = getting.result()
                if isinstance(what, ApiError):
                    _cancel(jobs)
                    raise what
                return number, what
            _cancel(jobs)
            raise ClientDisconnect if leaving in done else _too_long(self.timeout)
        except asyncio.CancelledError:
            _cancel(jobs)
            raise
        finally:
            getting.cancel()
            leaving.cancel()

    async def _events(
        self,
        jobs: list[Job],
        told: asyncio.Queue[tuple[int, Told]],
        deadline: float,
        envelope: Envelope,
        first: tuple[int, Told],
        *,
        counts: bool,
    ) -> AsyncIterator[str]:
        """The events of replies that are streamed; whoever closes them ends the writing."""
        left, (number, what) = len(jobs), first
        try:
            if envelope.chat:
                yield envelope.opening()
            while True:
                if isinstance(what, ApiError):
                    yield event(what.body)
                    break
                if isinstance(what, Job):
                    yield envelope.ending(number, what)
                    left -= 1
                    if not left:
                        if counts:
                            yield envelope.counting(jobs)
                        break
                else:
                    yield envelope.piece(number, what)
                try:
                    async with asyncio.timeout_at(deadline):
                        number, what = await told.get()
                except TimeoutError:
                    number, what = 0, _too_long(self.timeout)
            yield DONE
        finally:
            _cancel(jobs)


def _cancel(jobs: list[Job]) -> None:
    for job in jobs:
        job.cancelled.set()


def _too_long(seconds: float) -> ApiError:
    return ApiError(504, f"the reply took longer than {seconds:g} s", code="timeout")


async def _left(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
