"""Where a reply ends: at its end token, or as soon as it holds all that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase


class ReplyEnds(LogitsProcessor):
    """Ends each row once its text is complete, and remembers which rows have ended: the others were cut.

    Goes last among the processors, since the token that it sees as best is the one that is taken.

    Args:
        tokenizer: The model's.
        end_ids: Tokens that end a text; without any, no row can be ended.
        rows: How many there are.
        is_complete: Whether a text holds all that was asked for; unset means that only the model ends a row.
        mark: The last character of a complete text: only a token that has it is looked at.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        end_ids: Sequence[int],
        rows: int,
        is_complete: Callable[[str], bool] | None = None,
        mark: str = "]",
    ) -> None:
        self.ended = torch.zeros(rows, dtype=torch.bool)
        self._tokenizer, self._end_ids, self._is_complete = tokenizer, list(end_ids), is_complete
        self._marks = frozenset() if is_complete is None else _tokens_with(tokenizer, mark)
        self._complete = torch.zeros(rows, dtype=torch.bool)
        self._prompt: int | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[N, V]` after the ids so far, `[N, T + step]`; a complete row has no choice but to end."""
        if not self._end_ids:
            return scores
        if self._prompt is None:
            self._prompt = input_ids.shape[1]
        elif self._is_complete is not None:
            for row, token in enumerate(input_ids[:, -1].tolist()):
                if token in self._marks and not self._complete[row] and not self.ended[row]:
                    text = self._tokenizer.decode(input_ids[row, self._prompt :], skip_special_tokens=True)
                    self._complete[row] = self._is_complete(str(text))
        if self._complete.any():
            end = torch.full_like(scores[:1], float("-inf"))
            end[0, self._end_ids[0]] = 0
            scores = torch.where(self._complete.to(scores.device)[:, None], end, scores)
        chosen = scores.argmax(-1).cpu()
        self.ended |= torch.isin(chosen, torch.tensor(self._end_ids))
        return scores


@lru_cache(maxsize=8)
def _tokens_with(tokenizer: PreTrainedTokenizerBase, mark: str) -> frozenset[int]:
    """The tokens whose text has a character."""
    ids = list(range(len(tokenizer)))
    texts = tokenizer.batch_decode([[i] for i in ids])
    return frozenset(i for i, text in zip(ids, texts, strict=True) if mark in text)
