"""The one family of errors: each says what is wrong, where, and what mends it."""

from __future__ import annotations


class PragError(Exception):
    """A failure while running: what went wrong, where, and what to do about it.

    Args:
        what: What is wrong, in a few words, quoting the value that was found.
        where: The file, row, key or setting it was found in.
        mend: What the reader can do, as a sentence.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        message = what + (f" ({where})" if where else "")
        if mend:
            message += f". {mend.rstrip('.')}."
        super().__init__(" ".join(message.split()))


class InputError(PragError):
    """A mistake in what the user gave: a setting, a path or a file's content. Ends a command with exit code 2."""

    exit_code = 2


class Terminated(PragError):
    """The process was asked to end."""

    exit_code = 143

    def __init__(self) -> None:
        super().__init__("terminated", mend="Run the same command again to go on from here")
