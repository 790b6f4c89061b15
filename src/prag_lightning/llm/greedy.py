"""What greedy decoding honours of a checkpoint's generation settings.

The published code calls `generate` with `num_beams=1, do_sample=False` and leaves the checkpoint's other settings in
force: Qwen2.5's `repetition_penalty` of 1.1 acts in its results.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_NEUTRAL: dict[str, Any] = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": 1.0,
    "min_length": 0,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "remove_invalid_values": False,
    "repetition_penalty": 1.0,
    "sequence_bias": None,
    "stop_strings": None,
    "suppress_tokens": None,
    "watermarking_config": None,
}
"""The settings that change which token greedy decoding takes, or where it ends, and the values that change nothing."""


def greedy_config(config: GenerationConfig) -> GenerationConfig:
    """A checkpoint's settings without those that sample, search with beams, or only say how `generate` is to run."""
    kept = {name: getattr(config, name, None) for name in (*_TOKENS, *_NEUTRAL)}
    greedy: GenerationConfig = GenerationConfig(  # type: ignore[no-untyped-call]
        **{name: value for name, value in kept.items() if value is not None}
    )
    return greedy


def settings_in_force(config: GenerationConfig) -> dict[str, Any]:
    """Those that change what greedy decoding writes, by name."""
    asked = {name: getattr(config, name, None) for name in _NEUTRAL}
    return {name: value for name, value in asked.items() if value not in (None, [], _NEUTRAL[name])}


def end_tokens(config: GenerationConfig) -> list[int]:
    """The tokens that end a text."""
    ends = config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


class RepetitionPenalty(LogitsProcessor):
    """Divides the positive scores of tokens that stand in a row, in prompt or continuation, by a penalty, and
    multiplies the negative ones (CTRL, arXiv 1909.05858, section 4.1). Padding is no part of a row, though
    transformers' own penalty counts it.

    Args:
        penalty: Above 0; 1 changes nothing.
        mask: 1 where a prompt stands, `[N, T]`.
    """

    def __init__(self, penalty: float, mask: Tensor) -> None:
        self.penalty, self.mask = penalty, mask
        self._seen: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[N, V]` after the ids so far, `[N, T + step]`."""
        if self._seen is None:
            self._seen = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
            rows, places = self.mask.nonzero(as_tuple=True)
            self._seen[rows, input_ids[rows, places]] = True
        else:
            self._seen.scatter_(1, input_ids[:, -1:], True)
        penalised = torch.where(scores < 0, scores * self.penalty, scores / self.penalty)
        return torch.where(self._seen, penalised, scores)
