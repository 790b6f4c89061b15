"""Talking with Elasticsearch or OpenSearch: the client of each, what errors mean, and patience."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal
from urllib.parse import urlsplit

from tqdm import tqdm

from prag_lightning.errors import InputError, PragError

Kind = Literal["elasticsearch", "opensearch"]

_PASSING = (None, 429, 502, 503, 504)
"""Statuses that a server gives for a while: it is away, starting, full, or its proxy waits for it."""
_NODE_GONE = (
    "node_disconnected_exception",
    "node_not_connected_exception",
    "node_closed_exception",
    "connect_transport_exception",
    "receive_timeout_transport_exception",
)
"""What a node says, with the status 500, of another that goes while it is asked."""
_CONNECTIONS = 10
"""Kept open to a node, as Elasticsearch's client does by itself."""
_BLOCKED = "cluster_block_exception"
_NO_SHARD = "no_shard_available_action_exception"
_REASON_LENGTH = 300
_LONGEST_PAUSE = 60.0


class Refusal(Exception):
    """What came instead of an answer.

    Args:
        status: Of HTTP; `None` if nothing came.
        kind: What the server calls it, such as `index_not_found_exception`.
        reason: What it says of it.
    """

    def __init__(self, status: int | None, kind: str, reason: str) -> None:
        super().__init__(status, kind, reason)
        self.status, self.kind, self.reason = status, kind, " ".join(reason.split())[:_REASON_LENGTH]

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Refusal:
        """Of an answer with `status` and `error`, as it stands for one of several searches or passages."""
        status, error = answer.get("status"), answer.get("error")
        kind, reason = "", str(error)
        if isinstance(error, Mapping):
            cause = next(iter(error.get("root_cause") or ()), error)
            kind, reason = str(cause.get("type", "")), str(cause.get("reason") or error.get("reason") or "")
        if kind == _NO_SHARD or not reason:  # as a server says it that misses shards
            reason = "some of its shards are not there"
        return cls(status if isinstance(status, int) else None, kind, reason)

    @property
    def blocked(self) -> bool:
        """Whether somebody, or the server itself, has forbidden writing."""
        return self.kind == _BLOCKED and self.status in (403, 429)

    @property
    def passing(self) -> bool:
        """Whether waiting can help."""
        return (self.status in _PASSING or self.kind in _NODE_GONE) and not self.blocked

    def named(self, place: str) -> PragError:
        """As one of our errors."""
        if self.kind == "unsupported" or (self.status in (400, 406) and "media" in self.reason.lower()):
            return InputError(
                f"the server does not speak with this client: {self.reason}",
                where=place,
                hint="For OpenSearch set data.retriever.init_args.server to opensearch; for Elasticsearch install the "
                "client of the server's major version",
            )
        if self.blocked:
            return PragError(
                f"the server takes nothing in: {self.reason}",
                where=place,
                hint="At the flood stage make room on the server's disk; otherwise ask its administrator to lift the "
                "block. Then run the same command again: what the server holds is kept",
            )
        if self.kind == "certificate":
            return InputError(
                f"the server's certificate is not trusted: {self.reason}",
                where=place,
                hint="Set data.retriever.init_args.ca_certs to the certificate of whoever signed it",
            )
        if self.status in (401, 403):
            return InputError(
                f"the server refuses: {self.reason}",
                where=place,
                hint="Set ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD",
            )
        if self.status == 404:
            return InputError("there is no index", where=place, hint="Make it with prag index")
        if self.status == 400:
            return InputError(f"the server refuses: {self.reason}", where=place)
        return PragError(
            f"the server does not answer as it should: {self.reason}",
            where=place,
            hint="See that it runs, and set data.retriever.init_args.url or ELASTICSEARCH_URL; then run the same "
            "command again: what the server holds is kept",
        )


def whole(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer that every shard had a part in.

    Raises:
        Refusal: if one had not.
    """
    shards = answer["_shards"]
    if shards["failed"]:
        raise Refusal(503, "", f"{shards['failed']} of {shards['total']} shards do not answer")
    return answer


def _root(error: BaseException) -> str:
    """What the operating system said, where a client wraps it in errors of its own."""
    root = error
    while (cause := root.__cause__ or root.__context__) is not None:
        root = cause
    return (root.strerror or str(root)) if isinstance(root, OSError) else str(error)


class Patience:
    """Waits for a server that is away, longer each time, and says so on the standard error.

    Args:
        seconds: How long at most, from the first refusal.
        place: The server, for messages.
    """

    def __init__(self, seconds: float, place: str) -> None:
        self.seconds, self.place = seconds, place
        self.reset()

    def reset(self) -> None:
        """Begin anew, since something was answered."""
        self._pause, self._end = 1.0, 0.0
        self._status: int | None = None

    def wait(self, refusal: Refusal) -> None:
        """Wait before asking again.

        Raises:
            PragError: if waiting cannot help, or patience is over.
        """
        now = time.monotonic()
        self._end = self._end or now + self.seconds
        if not refusal.passing or now >= self._end:
            raise refusal.named(self.place) from refusal
        if refusal.status != self._status:  # one that answers at all is soon ready
            self._pause, self._status = 1.0, refusal.status
        pause = min(self._pause, self._end - now)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        # Goes above a bar, where there is one.
        tqdm.write(
            f"{self.place}: {refusal.reason}; asking again in {pause:.0f} s, {self._end - now:.0f} s at most",
            file=sys.stderr,
        )
        time.sleep(pause)


class SearchServer:
    """A server, or the nodes of one cluster, of which any can be asked: where one is gone, the client takes the next.

    Credentials come from the environment: ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD.

    Args:
        kind: Which client to talk with: Elasticsearch's refuses an OpenSearch server.
        urls: Of the nodes.
        ca_certs: Certificates to trust instead of the system's.
        verify_certs: Whether to check the server's certificate.
        timeout: Seconds to wait for an answer.
        patience: Seconds to wait for a server that is away.
    """

    def __init__(
        self,
        kind: Kind,
        urls: Sequence[str],
        ca_certs: str | None = None,
        verify_certs: bool = True,
        timeout: float = 60.0,
        patience: float = 600.0,
    ) -> None:
        self.kind, self.urls, self.ca_certs, self.verify_certs = kind, list(urls), ca_certs, verify_certs
        self.timeout, self.patience = timeout, patience
        self._answered = False

    def ask(
        self,
        request: Callable[[Any], Any],
        place: str,
        *,
        but: Collection[int | str] = (),
        patience: float | None = None,
    ) -> Any:
        """What the server answers, after waiting for it where it is away.

        Args:
            request: Asks through the client that it is given; may raise `Refusal` itself. It can be called again.
            place: What is asked for, for messages.
            but: Statuses and kinds of refusals that count as the answer `None`.
            patience: Seconds; unset means the server's.

        Raises:
            InputError: if it refuses, or cannot be asked in this way.
            PragError: if it does not answer as it should.
        """
        waiting = Patience(self.patience if patience is None else patience, self.place(place))
        while True:
            try:
                if not self._answered:
                    self.client.info()
                    self._answered = True
                return request(self.client)
            except self.errors as error:
                refusal = self.refusal(error)
                if refusal.status in but or refusal.kind in but:
                    return None
                waiting.wait(refusal)

    def refusal(self, error: Exception) -> Refusal:
        """What one of the client's errors means."""
        if isinstance(error, Refusal):
            return error
        library, status = self.library, getattr(error, "status_code", None)
        details = getattr(error, "info", None)
        if isinstance(details, Mapping) and "error" in details:
            return Refusal.of({"error": details["error"], "status": status})
        kind = ""
        if isinstance(error, library.SSLError):
            kind, status = "certificate", 495
        elif type(error).__name__ == "UnsupportedProductError":
            kind = "unsupported"
        elif isinstance(error, library.SerializationError):
            status = 502
        if not isinstance(status, int):
            return Refusal(None, kind, _root(error))
        return Refusal(status, kind, str(error))

    def place(self, name: str) -> str:
        """Where an index is, without name and password."""
        parts = [urlsplit(url) for url in self.urls]
        hosts = ",".join(part.netloc.rpartition("@")[2] for part in parts)
        return f"{parts[0].scheme}://{hosts}/{name}"

    @cached_property
    def library(self) -> Any:
        """The client's package."""
        try:
            if self.kind == "opensearch":
                import opensearchpy

                return opensearchpy
            import elasticsearch
            import elasticsearch.helpers
        except ImportError as error:
            raise InputError(
                f"the client of {self.kind} is not installed",
                where="data.retriever",
                hint=f"pip install 'prag-lightning[{self.kind}]'",
            ) from error
        return elasticsearch

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What is raised where the server does not answer."""
        if self.kind == "opensearch":
            return (Refusal, self.library.OpenSearchException)
        return (Refusal, self.library.ApiError, self.library.TransportError, self.library.helpers.ScanError)

    @cached_property
    def client(self) -> Any:
        """The client; it has asked nothing yet.

        Raises:
            InputError: for a url that is none.
        """
        key, name = os.environ.get("ELASTICSEARCH_API_KEY"), os.environ.get("ELASTICSEARCH_USERNAME")
        login = (name, os.environ.get("ELASTICSEARCH_PASSWORD", "")) if name else None
        # Its own retries go to the next node at once; a pause is for when none of them answers.
        options: dict[str, Any] = {"hosts": self.urls, "max_retries": len(self.urls), "retry_on_timeout": True}
        if any(urlsplit(url).scheme == "https" for url in self.urls):
            options |= {"ca_certs": self.ca_certs, "verify_certs": self.verify_certs}
        library = self.library
        try:
            if self.kind == "opensearch":
                headers = {"authorization": f"ApiKey {key}"} if key else None
                options |= {"timeout": self.timeout, "pool_maxsize": _CONNECTIONS}
                return library.OpenSearch(http_auth=login, headers=headers, **options)
            return library.Elasticsearch(api_key=key, basic_auth=login, request_timeout=self.timeout, **options)
        except ValueError as error:
            raise InputError(
                f"the server cannot be asked: {error}", where=self.place(""), hint="Check the url"
            ) from error
