"""Requests at work: one thread finds what each rests on, one makes the adapters that are missing, and one writes all
replies side by side."""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue

import torch

from prag_lightning.inference.answerer import Prepared
from prag_lightning.llm.continuous import NOT_FINITE, Decoder, Row, decoder_for
from prag_lightning.llm.sampling import Sampling
from prag_lightning.serve.api_errors import ApiError, overloaded
from prag_lightning.serve.backend import Backend, Found
from prag_lightning.serve.job import Job
from prag_lightning.serve.metrics import ServerMetrics
from prag_lightning.serve.settings import Limits
from prag_lightning.serve.texts import AnswerForm, ReplyText

_IDLE = 0.1
"""Seconds between two looks at whether the server is to end, while nothing is written."""
UNKNOWN = "I don't know."


class Engine:
    """Writes replies.

    Args:
        backend: Finds what they rest on.
        limits: What is taken on.
        metrics: Counts.
    """

    def __init__(self, backend: Backend, limits: Limits, metrics: ServerMetrics) -> None:
        self.backend, self.limits, self.metrics = backend, limits, metrics
        self._find, self.encoding = (ThreadPoolExecutor(1, name) for name in ("find", "encode"))
        self._ready: SimpleQueue[_Written] = SimpleQueue()
        self._jobs: set[Job] = set()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._writing = 0
        self._thread = threading.Thread(target=self._write, name="decode", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """How many replies are being written."""
        return self._writing

    @property
    def waiting(self) -> int:
        """How many requests are not being written yet."""
        return max(0, len(self._jobs) - self._writing)

    def submit(self, job: Job) -> None:
        """Take on a request.

        Raises:
            ApiError: if too many wait, or the server ends.
        """
        with self._lock:
            if self._closing.is_set():
                raise ApiError(503, "the server is going down", code="shutting_down")
            if self.waiting >= self.limits.max_queue:
                raise overloaded(self.waiting)
            self._jobs.add(job)
        self._find.submit(self._found, job)

    def drop_forgotten(self) -> None:
        """Keep nothing in memory of what the store has forgotten."""
        self._find.submit(self.backend.drop_forgotten)

    def close(self) -> None:
        """Write what was taken on to its end, and end."""
        with self._lock:
            self._closing.set()
        self._thread.join()
        for pool in (self._find, self.encoding):
            pool.shutdown(cancel_futures=True)

    def _end(self, job: Job, outcome: Job | ApiError) -> None:
        with self._lock:
            self._jobs.discard(job)
        self.metrics.ended(job, outcome)
        job.end(outcome)

    def _guarded(self, job: Job, work: Callable[[], None]) -> None:
        """Do a part of a job; whatever goes wrong ends that job alone."""
        try:
            if job.cancelled.is_set():
                self._end(job, ApiError(499, "the client went away"))
            else:
                work()
        except ApiError as error:
            self._end(job, error)
        except Exception as error:
            self._end(job, failure(error))

    def _found(self, job: Job) -> None:
        def work() -> None:
            found = self.backend.find(job.asked)
            if found.hits:
                self.encoding.submit(self._encoded, job, found)
            else:
                self._prepared(job, found)

        self._guarded(job, work)

    def _encoded(self, job: Job, found: Found) -> None:
        def work() -> None:
            encoded = self.backend.encode(found)
            self._find.submit(self._guarded, job, lambda: self._prepared(job, encoded))

        self._guarded(job, work)

    def _prepared(self, job: Job, found: Found) -> None:
        started = time.perf_counter()
        prepared = self.backend.prepare(found)
        job.found, job.prompt_tokens = found, len(prepared.ids)
        job.seconds = {**found.seconds, "prepare": time.perf_counter() - started}
        self._ready.put(_Written(job, prepared, self))

    def _write(self) -> None:
        """Write replies until the server ends."""
        with self.backend.pipeline.compute.autocast():
            waiting: deque[_Written] = deque()
            decoder = decoder_for(self.backend.llm)
            going: set[_Written] = set()
            while True:
                idle = not going and not waiting
                if idle and self._closing.is_set() and not self._jobs:
                    return
                _receive(self._ready, waiting, _IDLE if idle else 0.0)
                try:
                    for written in [each for each in going if each.job.cancelled.is_set()]:
                        decoder.drop(written.row)
                        written.on_end("cancelled")
                    going.update(self._begin(decoder, waiting))
                    self._writing = len(going)
                    if len(decoder):
                        decoder.step()
                        going = {each for each in going if not each.ended}
                        self._writing = len(going)
                except Exception as error:  # of the model, as where memory does not suffice: it is in use no more
                    decoder = decoder_for(self.backend.llm)
                    for written in going:
                        self._end(written.job, failure(error))
                    going = set()
                    self._writing = 0

    def _begin(self, decoder: Decoder, waiting: deque[_Written]) -> list[_Written]:
        """Begin what may begin now; where that fails, as where memory does not suffice, the others go on."""
        batch = self._next(waiting, self.limits.max_num_seqs - len(decoder))
        if batch:
            try:
                decoder.add([written.row for written in batch])
            except Exception as error:
                for written in batch:
                    decoder.drop(written.row)
                    self._end(written.job, failure(error))
                return []
        return [written for written in batch if not written.ended]

    def _next(self, waiting: deque[_Written], places: int) -> list[_Written]:
        """Those that begin now: as many as may be written, and whose prompts may be read, at once."""
        batch: list[_Written] = []
        longest = 0
        while waiting and len(batch) < places:
            longest = max(longest, len(waiting[0].row.prompt))
            if batch and longest * (len(batch) + 1) > self.limits.max_num_batched_tokens:
                break
            written = waiting.popleft()
            if written.job.cancelled.is_set():
                written.on_end("cancelled")
            else:
                written.began()
                batch.append(written)
        return batch

    def rate(self, written: _Written) -> None:
        """See how sure the model is of a reply, where that decides whether it is given."""
        job, found = written.job, written.job.found
        assert found is not None
        answerer = found.answerer
        if job.asked.method is None or answerer.abstain_below is None:
            return
        value = answerer.log_probability(found.record, job.text, written.prepared, job.asked.conversation[:-1])
        job.log_probability, job.abstained = value, answerer.abstains(value)


class _Written:
    """A job while its reply is written."""

    def __init__(self, job: Job, prepared: Prepared, engine: Engine) -> None:
        asked, backend = job.asked, engine.backend
        self.job, self.prepared, self.engine, self.ended = job, prepared, engine, False
        self._at = self._ready_at = time.perf_counter()
        form = None
        if asked.method is not None:
            form = AnswerForm(backend.prompts, backend.pipeline.data.settings.with_cot, asked.options.extract)
        self._text = ReplyText(backend.llm.tokenizer, asked.stops, form)
        found = job.found
        assert found is not None
        self._held = asked.method is not None and found.answerer.abstain_below is not None
        """Whether nothing is told before it is known how sure the model is."""
        room = backend.llm.context - len(prepared.ids)
        default = engine.limits.max_tokens if asked.method is None else found.answerer.max_new_tokens
        sampling = None
        if asked.temperature > 0:
            seed = secrets.randbits(63) if asked.seed is None else asked.seed
            sampling = Sampling(asked.temperature, asked.top_p, seed)
        self.row = Row(
            prepared.ids,
            asked.max_tokens or min(default, room),
            self._on_token,
            self.on_end,
            prepared.adapter,
            prepared.scaling,
            sampling,
        )

    def began(self) -> None:
        """It is read now."""
        self._at = time.perf_counter()
        self.job.seconds["queue"] = self._at - self._ready_at

    def _on_token(self, token: int) -> bool:
        job = self.job
        job.completion_tokens += 1
        if job.completion_tokens == 1:
            self.engine.metrics.first_token(time.perf_counter() - job.at)
        piece = self._text.push(token)
        if piece and not self._held:
            job.tell(piece)
        return not self._text.ended and not job.cancelled.is_set()

    def on_end(self, why: str) -> None:
        """Nothing more is written."""
        if self.ended:
            return
        self.ended = True
        job = self.job
        try:
            outcome: Job | ApiError = job
            if job.cancelled.is_set():
                outcome = ApiError(499, "the client went away")
            elif why == NOT_FINITE:
                outcome = ApiError(500, NOT_FINITE)
            else:
                self._finish(why)
        except Exception as error:
            outcome = failure(error)
        self.engine._end(job, outcome)

    def _finish(self, why: str) -> None:
        job = self.job
        rest, job.text = self._text.finish(), self._text.whole
        job.finish_reason = why
        job.seconds["answer"] = time.perf_counter() - self._at
        self.engine.rate(self)
        if job.abstained:
            job.text = UNKNOWN
        if piece := job.text if self._held else rest:
            job.tell(piece)


def _receive(ready: SimpleQueue[_Written], waiting: deque[_Written], patience: float) -> None:
    """Move what has come to those that wait; where nothing has, wait for it so many seconds."""
    try:
        if patience:
            waiting.append(ready.get(timeout=patience))
        while True:
            waiting.append(ready.get_nowait())
    except Empty:
        pass


def failure(error: Exception) -> ApiError:
    """What went wrong, which stands in the log as well."""
    print(f"prag serve: {type(error).__name__}: {error}", file=sys.stderr)
    if isinstance(error, torch.OutOfMemoryError):
        return ApiError(503, "memory does not suffice. Ask for less at once", code="out_of_memory")
    return ApiError(500, f"the server failed: {type(error).__name__}")
