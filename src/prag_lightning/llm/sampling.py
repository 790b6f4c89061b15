"""What is done to the scores of an LLM that writes: sampling by row, and replies that must be JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from prag_lightning.errors import InputError


class Sampling:
    """Draws the tokens of one text, the same for the same seed whatever is written beside it.

    Args:
        temperature: Above 0; scores are divided by it.
        top_p: Of the likeliest tokens so many are drawn from that they have this share of the probability (nucleus
            sampling, arXiv 1904.09751, section 3.1); 1 means all.
        seed: Of the draws.
    """

    def __init__(self, temperature: float, top_p: float, seed: int) -> None:
        self.temperature, self.top_p = temperature, top_p
        self._generator = torch.Generator().manual_seed(seed)

    def choose(self, scores: Tensor) -> int:
        """A token by the scores `[V]` of all."""
        probs, tokens = (scores.float().cpu() / self.temperature).softmax(-1).sort(descending=True, stable=True)
        before = probs.cumsum(-1) - probs
        probs = torch.where(before < self.top_p, probs, 0.0)
        return int(tokens[torch.multinomial(probs, 1, generator=self._generator)])


class RowSampler(LogitsProcessor):
    """Sampling whose result for a row depends on that row's seed alone, not on the batch around it.

    Gumbel noise is added to the scores of the `top_k` best tokens, divided by the temperature; the greatest sum is a
    sample of their softmax (Gumbel-max trick), so greedy decoding over it samples.

    Args:
        seeds: One a row.
        temperature: Above 0.
        top_k: Tokens to sample from.
        max_new_tokens: Steps to draw noise for.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_k: int, max_new_tokens: int) -> None:
        self.temperature, self.top_k, self.step = temperature, top_k, 0
        rows = [
            torch.rand(max_new_tokens, top_k, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
            for seed in seeds
        ]
        self.noise = -torch.log(-torch.log(torch.stack(rows).clamp(1e-20, 1 - 1e-7)))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[N, V]` of which the greatest of each row is its sample."""
        self.noise = self.noise.to(scores.device)
        best, tokens = scores.float().topk(min(self.top_k, scores.shape[-1]), dim=-1)
        noisy = best / self.temperature + self.noise[:, self.step, : best.shape[-1]]
        self.step += 1
        return torch.full_like(scores, float("-inf"), dtype=torch.float32).scatter(1, tokens, noisy)


class JsonConstraint(LogitsProcessor):
    """Lets each row continue only as a JSON schema allows, by llguidance.

    Others were looked at: xgrammar brings triton, outlines a dozen packages, and lm-format-enforcer three and a slower
    automaton in Python; llguidance is one wheel of 3 MB that needs nothing else.

    Args:
        tokenizer: A fast one.
        vocab_size: Scores a row; more than the tokenizer has where the model pads them.
        schema: What a reply must be.
        rows: Rows in the batch.

    Raises:
        InputError: if llguidance is not installed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, schema: dict[str, Any], rows: int) -> None:
        try:
            import llguidance.hf
            import llguidance.numpy
        except ImportError as error:
            raise InputError(
                "llguidance is not installed",
                where="data.augment.constrained",
                hint="pip install 'prag-lightning[constrained]'",
            ) from error
        self._masks = llguidance.numpy
        self.tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocab_size)  # type: ignore[arg-type]
        spaced = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps({**schema, "x-guidance": spaced}))
        self.matchers = [llguidance.LLMatcher(self.tokens, grammar) for _ in range(rows)]
        self.begun = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[N, V]`, minus infinity where a token would leave the schema; a finished row is left alone."""
        mask = self._masks.allocate_token_bitmask(len(self.matchers), self.tokens.vocab_size)
        for row, matcher in enumerate(self.matchers):
            if self.begun and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[row, -1]))
            self._masks.fill_next_token_bitmask(matcher, mask, row)
        self.begun = True
        bits = torch.from_numpy(mask).to(scores.device)[:, :, None] >> torch.arange(32, device=scores.device) & 1
        allowed = bits.flatten(1)[:, : scores.shape[1]].bool()
        return scores.masked_fill(~allowed, float("-inf"))
