"""RMSNorm whose weight is frozen, forward and backward in one piece each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prag_lightning.fused.pieces import pieces


class _FrozenRMSNorm(torch.autograd.Function):
    """`weight * x / sqrt(mean(x^2) + eps)` in float32 (arXiv 1910.07467, eq. 4); only x has a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        y = torch.empty_like(rows)
        scales = torch.empty(len(rows), 1, dtype=torch.float32, device=x.device)
        for piece in pieces(len(rows), 1):
            wide = rows[piece].float()
            norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
            scales[piece] = norm.square_().div_(wide.shape[-1]).add_(eps).rsqrt_()
            y[piece] = torch.mul(wide, scales[piece]).to(x.dtype).mul_(weight)
        ctx.save_for_backward(rows, scales, weight)
        return y.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, scales, weight = ctx.saved_tensors
        dy = gradients[0].reshape(rows.shape)
        dx = torch.empty_like(rows)
        for piece in pieces(len(rows), 1):
            wide, scale = rows[piece].float(), scales[piece]
            weighted = dy[piece].float() * weight
            along = (weighted * wide).mean(-1, keepdim=True).mul_(scale.pow(3))
            dx[piece] = weighted.mul_(scale).addcmul_(wide, along, value=-1)
        return dx.view_as(gradients[0]), None, None


class FusedRMSNorm:
    """The forward of an RMSNorm.

    Args:
        norm: With `weight` and `variance_epsilon`.
    """

    def __init__(self, norm: nn.Module) -> None:
        self.norm = norm

    @staticmethod
    def suits(module: nn.Module) -> bool:
        """Whether a module has the parts of an RMSNorm; what it computes of them has to be looked at besides."""
        parts = (getattr(module, "weight", None), getattr(module, "variance_epsilon", None))
        return isinstance(parts[0], Tensor) and isinstance(parts[1], float)

    def applies(self, x: Tensor) -> bool:
        """Always."""
        return True

    def __call__(self, x: Tensor) -> Tensor:
        """See `_FrozenRMSNorm`; x is `[..., d]`."""
        y: Tensor = _FrozenRMSNorm.apply(x, self.norm.weight, self.norm.variance_epsilon)  # type: ignore[no-untyped-call]
        return y
