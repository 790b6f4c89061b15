"""How a server is reached, and what it takes on. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from prag_lightning.errors import InputError

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True)
class ServerSettings:
    """How a server is reached.

    Args:
        host: The address to listen at; 0.0.0.0 means any.
        port: 0 means one that is free.
        api_key: That clients must send; unset means the environment's PRAG_API_KEY, or none.
        allowed_hosts: Names that the server is called by; unset means its own on a loopback address, else any.
        max_body_mb: Megabytes of the largest request.

    Raises:
        InputError: for a port that cannot be.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    allowed_hosts: list[str] | None = None
    max_body_mb: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise InputError(f"port is {self.port}", where="--port", hint="Give one from 0 to 65535")

    @property
    def hosts(self) -> list[str]:
        """Names that requests may be for: on a loopback address only its own, so that no page of the web that has its
        name point there can ask."""
        loopback = self.host == "localhost" or self.host.startswith("127.") or self.host == "::1"
        return list(self.allowed_hosts or (_LOOPBACK if loopback else ("*",)))


@dataclass(frozen=True)
class Limits:
    """What a server takes on.

    Args:
        max_num_seqs: Replies that are written side by side.
        max_num_batched_tokens: Tokens of prompts, padding counted, that are read at once while replies wait for it.
        max_queue: Requests that wait; more are refused with status 429.
        max_tokens: Of a reply of the plain model for which none are given.
        adapter_cache_mb: Megabytes of adapters that are kept in memory.
        timeout: Seconds that a request may take.

    Raises:
        InputError: for one that is too small.
    """

    max_num_seqs: int = 16
    max_num_batched_tokens: int = 2048
    max_queue: int = 256
    max_tokens: int = 512
    adapter_cache_mb: float = 1024.0
    timeout: float = 600.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 1 if isinstance(value, int) else 0
            if not value >= least:
                raise InputError(f"{name} is {value}", where=f"--{name}", hint=f"Give {least} or more")
