"""A text in pieces while it is decoded: what may be told of it already, and the thread that it is decoded in."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from prag_lightning.errors import PragError

_INCOMPLETE = "\ufffd"
"""Stands for bytes that are no character yet."""
_LONGEST_CLEANED = 3
"""Characters that tokenizers which clean blanks up may still take together: all but the last of " n't"."""


class _Abandoned(Exception):
    """Nobody waits for the text any more."""


class PieceStreamer(BaseStreamer):
    """Tells a text while `generate` decodes it. transformers' own streamers decode what follows a line break anew,
    which loses blanks with some tokenizers, and wait for blanks, which some scripts do not have.

    Args:
        tokenizer: Decodes, without special tokens.
        on_text: Told after each token what is new and stays as it is whatever follows, which may be nothing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None]) -> None:
        self.tokenizer, self.on_text = tokenizer, on_text
        self.told = ""
        self._ids: list[int] | None = None

    def put(self, value: Tensor) -> None:
        """Take in the prompt, `[1, T]`, then each token, `[1]`."""
        if self._ids is None:
            self._ids = []
            return
        self._ids += value.flatten().tolist()
        text = str(self.tokenizer.decode(self._ids, skip_special_tokens=True))
        text = settled(self.tokenizer, text).rstrip()
        new = text[len(self.told) :] if text.startswith(self.told) else ""
        self.told += new
        self.on_text(new)

    def end(self) -> None:
        """Nothing: `rest` says what is left, when all that is decoded is known."""

    def rest(self, text: str) -> str:
        """What has not been told of the whole text.

        Raises:
            PragError: if the tokenizer has changed what was told.
        """
        if not text.startswith(self.told):
            raise PragError(f"the tokenizer makes {text!r} of a text that began {self.told!r}: ask without streaming")
        return text[len(self.told) :]


def settled(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """What of a text that was decoded stays as it is whatever tokens follow."""
    text = text.rstrip(_INCOMPLETE)
    return text[:-_LONGEST_CLEANED] if getattr(tokenizer, "clean_up_tokenization_spaces", False) else text


def in_a_thread(decode: Callable[[Callable[[str], None]], str], device: str) -> Generator[str, None, None]:
    """The pieces that a function tells, while it runs in a thread of its own, and at last what it returns; those that
    are empty are left out.

    It runs in the autocast that this is called in. What it raises is raised here. Closing the iterator ends it where it
    next tells a piece, and waits for that.

    Args:
        decode: Is given what it tells its pieces to.
        device: Whose autocast, by type.
    """
    mixed, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    pieces: SimpleQueue[str | None] = SimpleQueue()
    abandoned = Event()

    def tell(piece: str) -> None:
        if abandoned.is_set():
            raise _Abandoned
        pieces.put(piece)

    def run() -> str:
        try:
            # Both are states of a thread.
            with torch.autocast(device, dtype, enabled=mixed, cache_enabled=False):
                return decode(tell)
        finally:
            pieces.put(None)

    def told() -> Generator[str, None, None]:
        with ThreadPoolExecutor(1, "decoding") as thread:
            future = thread.submit(run)
            try:
                while (piece := pieces.get()) is not None:
                    if piece:
                        yield piece
            finally:
                abandoned.set()
            if rest := future.result():
                yield rest

    return told()
