"""What a client is told that cannot be answered, in the shape of OpenAI's errors."""

from __future__ import annotations

from prag_lightning.records import Json


class ApiError(Exception):
    """An error that a client is told.

    Args:
        status: Of HTTP.
        message: What is wrong, and what would do.
        param: The part of the request that is wrong, if it is one.
        code: A word for programs.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Json]:
        """As OpenAI's servers say it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def overloaded(waiting: int) -> ApiError:
    """Too many wait."""
    return ApiError(429, f"{waiting} requests wait already. Ask again later", code="queue_full")
