"""A gated feed-forward block over frozen matrices with a stack of LoRAs, forward and backward in one piece each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prag_lightning.fused.pieces import pieces
from prag_lightning.lora.stack import StackedLinear

NAMES = ("gate_proj", "up_proj", "down_proj")


class _StackedMLP(torch.autograd.Function):
    """`down(silu(gate(x)) * up(x))`, each of the three with its LoRAs; only x and the LoRAs have gradients.

    Kept for the backward pass are x, what gate and up gave, and the low-rank products; all else is computed again,
    piece by piece, while it is in the cache. Every B comes transposed, `[G, r, d_out]`: a CPU multiplies by two rows
    several times faster than by two columns.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, up: Tensor, down: Tensor, scaling: float, *lora: Tensor) -> Tensor:
        a_gate, b_gate, a_up, b_up, a_down, b_down = lora
        adapters, rank = len(a_gate), a_gate.shape[1]
        rows = x.reshape(adapters, -1, x.shape[-1])
        tokens = rows.shape[1]
        gated, raised = (x.new_empty(adapters, tokens, len(gate)) for _ in range(2))
        lows = [x.new_empty(adapters, tokens, rank) for _ in range(3)]
        y = torch.empty_like(rows)
        for piece in pieces(adapters, tokens):
            g, u = gated[piece], raised[piece]
            _project(rows[piece], gate, a_gate[piece], b_gate[piece], scaling, g, lows[0][piece])
            _project(rows[piece], up, a_up[piece], b_up[piece], scaling, u, lows[1][piece])
            product = nn.functional.silu(g).mul_(u)
            _project(product, down, a_down[piece], b_down[piece], scaling, y[piece], lows[2][piece])
        ctx.save_for_backward(rows, gated, raised, gate, up, down, *lora, *lows)
        ctx.scaling = scaling
        return y.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, gated, raised, gate, up, down, *rest = ctx.saved_tensors
        lora, (low_gate, low_up, low_down) = rest[:6], rest[6:]
        a_gate, b_gate, a_up, b_up, a_down, b_down = lora
        dy = gradients[0].reshape(rows.shape)
        dx = torch.empty_like(rows) if ctx.needs_input_grad[0] else None
        d_lora = [torch.empty_like(weight) for weight in lora]
        for piece in pieces(*rows.shape[:2]):
            d_a_gate, d_b_gate, d_a_up, d_b_up, d_a_down, d_b_down = (weight[piece] for weight in d_lora)
            x, g, u = rows[piece], gated[piece], raised[piece]
            active = nn.functional.silu(g)
            d_low = _lora_gradients(
                dy[piece], active * u, b_down[piece], low_down[piece], ctx.scaling, d_a_down, d_b_down
            )
            d_product = (dy[piece].flatten(0, 1) @ down).view_as(g).baddbmm_(d_low, a_down[piece])
            d_up = active.mul_(d_product)
            d_gate = torch.ops.aten.silu_backward(d_product.mul_(u), g)
            d_low_gate = _lora_gradients(d_gate, x, b_gate[piece], low_gate[piece], ctx.scaling, d_a_gate, d_b_gate)
            d_low_up = _lora_gradients(d_up, x, b_up[piece], low_up[piece], ctx.scaling, d_a_up, d_b_up)
            if dx is not None:
                flat = dx[piece].flatten(0, 1)
                torch.mm(d_gate.flatten(0, 1), gate, out=flat)
                flat.addmm_(d_up.flatten(0, 1), up)
                dx[piece].baddbmm_(
                    torch.cat([d_low_gate, d_low_up], dim=-1), torch.cat([a_gate[piece], a_up[piece]], dim=1)
                )
        return (None if dx is None else dx.view_as(gradients[0]), None, None, None, None, *d_lora)


def _project(
    x: Tensor, weight: Tensor, lora_a: Tensor, lora_b: Tensor, scaling: float, out: Tensor, low: Tensor
) -> None:
    """`out = W x + scaling * B_g (A_g x)` and `low = A_g x`, of x `[g, n, d_in]`."""
    torch.mm(x.flatten(0, 1), weight.T, out=out.flatten(0, 1))
    torch.bmm(x, lora_a.mT, out=low)
    out.baddbmm_(low, lora_b, alpha=scaling)


def _lora_gradients(
    dy: Tensor, x: Tensor, lora_b: Tensor, low: Tensor, scaling: float, d_a: Tensor, d_b: Tensor
) -> Tensor:
    """Write the gradients of A and B, and give that of `low = A_g x`, `[g, n, r]`."""
    d_low = torch.bmm(dy, lora_b.mT).mul_(scaling)
    torch.bmm(d_low.mT, x, out=d_a)
    torch.bmm(low.mT, dy, out=d_b).mul_(scaling)
    return d_low


class FusedMLP:
    """The forward of a gated feed-forward block whose three layers carry adapters.

    Args:
        mlp: The block.
    """

    def __init__(self, mlp: nn.Module) -> None:
        self.layers: list[StackedLinear] = [getattr(mlp, name) for name in NAMES]

    @staticmethod
    def suits(module: nn.Module) -> bool:
        """Whether a module has the parts of such a block; what it computes of them has to be looked at besides."""
        layers = [getattr(module, name, None) for name in NAMES]
        return all(isinstance(layer, StackedLinear) and layer.base.bias is None for layer in layers)

    def applies(self, x: Tensor) -> bool:
        """Whether the block has adapters now."""
        return all(layer.lora is not None for layer in self.layers)

    def __call__(self, x: Tensor) -> Tensor:
        """See `_StackedMLP`; x is `[N, T, d]`."""
        lora = []
        for layer in self.layers:
            assert layer.lora is not None
            lora_a, lora_b = (weight.to(x.dtype) for weight in layer.lora)
            lora += [lora_a, lora_b.mT.contiguous()]
        weights = [layer.base.weight for layer in self.layers]
        y: Tensor = _StackedMLP.apply(x, *weights, self.layers[0].scaling, *lora)  # type: ignore[no-untyped-call]
        return y
