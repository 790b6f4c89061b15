"""Causal attention with rotary positions over frozen matrices, forward and backward in one piece each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from prag_lightning.fused.pieces import pieces

NAMES = ("q_proj", "k_proj", "v_proj", "o_proj")
LONGEST = 1024
"""Tokens a row: its probabilities are kept, and grow with the square."""
_BLOCK = 64
"""Queries at once."""


class _FrozenAttention(torch.autograd.Function):
    """`o_proj(softmax(scaling q k^T) v)` of q, k and v with rotary positions (arXiv 2104.09864, eq. 34).

    Only x has a gradient, so only q, k, v and the probabilities are kept for it. They are worked on by blocks of
    queries, each with the keys up to its last: what would be masked is mostly not computed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, scaling: float, *layers: Tensor | None) -> Tensor:
        (q_weight, q_bias), (k_weight, k_bias), (v_weight, v_bias), (o_weight, o_bias) = _pairs(layers)
        rows, length, _ = x.shape
        size = cos.shape[-1]
        heads, groups = len(q_weight) // size, len(k_weight) // size
        shared = heads // groups
        query = x.new_empty(rows, heads, length, size)
        key, value = (x.new_empty(rows, groups, length, size) for _ in range(2))
        blocks = _blocks(length)
        chances = [x.new_empty(rows * groups, shared * (b.stop - b.start), b.stop) for b in blocks]
        future = torch.full((length, length), float("-inf"), dtype=x.dtype, device=x.device).triu_(1)
        futures = [future[block, : block.stop].repeat(shared, 1) for block in blocks]
        y = torch.empty_like(x)
        for piece in pieces(rows, length):
            q, k, v = query[piece], key[piece], value[piece]
            _rotate(_by_head(linear(x[piece], q_weight, q_bias), size), cos, sin, q)
            _rotate(_by_head(linear(x[piece], k_weight, k_bias), size), cos, sin, k)
            v.copy_(_by_head(linear(x[piece], v_weight, v_bias), size))
            k, v = k.flatten(0, 1), v.flatten(0, 1)
            read = torch.empty_like(q)
            for block, later, kept in zip(blocks, futures, chances, strict=True):
                p = kept[piece.start * groups : piece.stop * groups]
                asked = _of_group(q, block, shared)
                torch.softmax(torch.baddbmm(later, asked, k[:, : block.stop].mT, alpha=scaling), -1, out=p)
                read[:, :, block] = (p @ v[:, : block.stop]).view(read[:, :, block].shape)
            y[piece] = linear(read.transpose(1, 2).flatten(2), o_weight, o_bias)
        ctx.save_for_backward(query, key, value, cos, sin, q_weight, k_weight, v_weight, o_weight, *chances)
        ctx.scaling = scaling
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, cos, sin, q_weight, k_weight, v_weight, o_weight, *chances = ctx.saved_tensors
        dy = gradients[0]
        rows, groups, length, size = key.shape
        shared = query.shape[1] // groups
        dx = torch.empty_like(dy)
        for piece in pieces(rows, length):
            q, k, v = query[piece], key[piece].flatten(0, 1), value[piece].flatten(0, 1)
            d_read = _by_head(dy[piece] @ o_weight, size)
            d_query, d_key, d_value = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for block, kept in zip(_blocks(length), chances, strict=True):
                p, stop = kept[piece.start * groups : piece.stop * groups], block.stop
                d_block = _of_group(d_read, block, shared)
                d_value[:, :stop].baddbmm_(p.mT, d_block)
                d_scores = torch._softmax_backward_data(d_block @ v[:, :stop].mT, p, -1, p.dtype).mul_(ctx.scaling)
                d_query[:, :, block] = (d_scores @ k[:, :stop]).view(q[:, :, block].shape)
                d_key[:, :stop].baddbmm_(d_scores.mT, _of_group(q, block, shared))
            flat = dx[piece].flatten(0, 1)
            torch.mm(_rotated_back(d_query, cos, sin), q_weight, out=flat)
            flat.addmm_(_rotated_back(d_key.view_as(key[piece]), cos, sin), k_weight)
            flat.addmm_(d_value.view_as(key[piece]).transpose(1, 2).reshape(len(flat), -1), v_weight)
        return dx, *[None] * (3 + 2 * len(NAMES))


def _blocks(length: int) -> list[slice]:
    return [slice(start, min(start + _BLOCK, length)) for start in range(0, length, _BLOCK)]


def _of_group(x: Tensor, block: slice, shared: int) -> Tensor:
    """A block's positions of the heads that share a key: `[N * groups, shared * block, size]` of `[N, heads, T,
    size]`."""
    rows, heads, length, size = x[:, :, block].shape
    grouped = x[:, :, block].reshape(rows, heads // shared, shared * length, size)
    return grouped.flatten(0, 1)


def _pairs(layers: tuple[Any, ...]) -> Any:
    return zip(layers[::2], layers[1::2], strict=True)


def _by_head(x: Tensor, size: int) -> Tensor:
    """`[N, T, heads * size]` as `[N, heads, T, size]`."""
    return x.view(*x.shape[:2], -1, size).transpose(1, 2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Rotary positions: `x cos + (-x2, x1) sin`, of x `[N, heads, T, size]`, cosines and sines `[1, T, size]`."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    torch.mul(x, cos, out=out)
    out[..., :half].addcmul_(second, sin[..., :half], value=-1)
    out[..., half:].addcmul_(first, sin[..., half:])


def _rotated_back(dy: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The gradient that reaches what `_rotate` was given, `[N * T, heads * size]`."""
    half = dy.shape[-1] // 2
    out = dy.new_empty(len(dy), dy.shape[2], dy.shape[1], dy.shape[3])
    dx = out.transpose(1, 2)
    torch.mul(dy, cos, out=dx)
    dx[..., :half].addcmul_(dy[..., half:], sin[..., half:])
    dx[..., half:].addcmul_(dy[..., :half], sin[..., :half], value=-1)
    return out.view(len(dy) * dy.shape[2], -1)


class FusedAttention:
    """The forward of an attention block without adapters.

    Args:
        attention: The block.
    """

    def __init__(self, attention: nn.Module) -> None:
        self.attention = attention
        self.layers = [getattr(attention, name) for name in NAMES]

    @staticmethod
    def suits(module: nn.Module) -> bool:
        """Whether a module has the parts of such a block; what it computes of them has to be looked at besides."""
        layers = [getattr(module, name, None) for name in NAMES]
        return (
            all(isinstance(layer, nn.Linear) for layer in layers)
            and isinstance(getattr(module, "scaling", None), float)
            and getattr(module, "is_causal", False)
        )

    def applies(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: object = None,
        **_: object,
    ) -> bool:
        """Whether each token reads what stands before it in its row, all of it. Lower precision is left to
        `use_float32_attention`."""
        return (
            hidden_states.dtype == torch.float32
            and hidden_states.shape[1] <= LONGEST
            and position_embeddings is not None
            and position_embeddings[0].shape[0] == 1
            and attention_mask is None
            and past_key_values is None
        )

    def __call__(
        self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: object
    ) -> tuple[Tensor, None]:
        """See `_FrozenAttention`; states are `[N, T, d]`, positions two tensors `[1, T, head size]`."""
        layers = [tensor for layer in self.layers for tensor in (layer.weight, layer.bias)]
        y: Tensor = _FrozenAttention.apply(hidden_states, *position_embeddings, self.attention.scaling, *layers)  # type: ignore[no-untyped-call]
        return y, None
