"""Next-token loss over a frozen output layer, without ever holding all logits at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from prag_lightning.llm.loading import LLM

LOGITS_AT_ONCE = 2**24
"""How many logits one piece may hold: 64 MiB in float32, 131 tokens of a 128k vocabulary."""


class _FrozenHeadCrossEntropy(torch.autograd.Function):
    """Loss and its gradient in one pass: the head is frozen, so each piece's logits are needed once only."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor | None,
        bias: Tensor | None,
        labels: Tensor,
        weights: Tensor,
        teacher: Tensor | None,
    ) -> Any:
        losses = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden)
        for piece in _pieces(hidden, head):
            log_probabilities = _log_probabilities(hidden[piece], head, bias)
            if teacher is None:
                losses[piece] = -log_probabilities.gather(1, labels[piece, None]).squeeze(1)
                probabilities = log_probabilities.exp_()
                probabilities[torch.arange(len(probabilities), device=hidden.device), labels[piece]] -= 1.0
            else:
                wanted = _log_probabilities(teacher[piece], head, bias)
                losses[piece] = (wanted.exp() * (wanted - log_probabilities)).sum(-1)
                probabilities = log_probabilities.exp_().sub_(wanted.exp_())
            probabilities.mul_(weights[piece, None])
            gradient[piece] = probabilities if head is None else probabilities.to(head.dtype) @ head
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(losses)
        return (losses * weights).sum(), losses

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None, None, None


def _log_probabilities(hidden: Tensor, head: Tensor | None, bias: Tensor | None) -> Tensor:
    logits = hidden if head is None else torch.nn.functional.linear(hidden, head, bias)
    return logits.float().log_softmax(dim=-1)


def _pieces(hidden: Tensor, head: Tensor | None) -> Iterator[slice]:
    """Of the states, so many at once that their logits are no more than `LOGITS_AT_ONCE`."""
    step = max(1, LOGITS_AT_ONCE // (hidden.shape[1] if head is None else head.shape[0]))
    return (slice(start, start + step) for start in range(0, len(hidden), step))


@torch.no_grad()
def token_log_probabilities(hidden: Tensor, head: Tensor | None, bias: Tensor | None, labels: Tensor) -> Tensor:
    """The log-probability of each label at its state, in nats, `[M]` in float32; for the arguments see
    `frozen_head_cross_entropy`."""
    pieces = [_log_probabilities(hidden[p], head, bias).gather(1, labels[p, None]) for p in _pieces(hidden, head)]
    return torch.cat(pieces).squeeze(1)


def frozen_head_cross_entropy(
    hidden: Tensor,
    head: Tensor | None,
    bias: Tensor | None,
    labels: Tensor,
    weights: Tensor,
    teacher: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of token losses, differentiable in `hidden` alone.

    With a teacher a token's loss is KL(teacher || student) over the whole vocabulary; without one it is -log of the
    probability of its label.

    Args:
        hidden: Last hidden states, `[M, d]`.
        head: Output layer's weight, `[V, d]`, in the precision of `hidden`; without one `hidden` holds logits (d = V).
        bias: Output layer's bias, `[V]`, if it has one.
        labels: The token to predict at each state, `[M]`.
        weights: Weight of each token's loss, `[M]`.
        teacher: The teacher's last hidden states (or logits) where it predicts the same tokens, `[M, d]`.

    Returns:
        The sum (a scalar), and each token's loss in nats, `[M]`, which carries no gradient.
    """
    total, losses = _FrozenHeadCrossEntropy.apply(hidden, head, bias, labels, weights, teacher)  # type: ignore[no-untyped-call]
    return total, losses


HiddenAndHead = Callable[[Tensor], tuple[Tensor, Tensor | None, Tensor | None]]
"""Of ids `[N, T]` the last hidden states, and the weight and bias of the layer that makes logits of them."""


def hidden_and_head(llm: LLM) -> HiddenAndHead:
    """How to get the last hidden states `[N, T, d]` and the weight and bias of the layer that makes logits of them.

    A model that scales or caps its logits, or the states before its head, has no such layer: it gives the logits
    themselves, `[N, T, V]`, and no weight. Which it is is tried out.
    """
    model = llm.model
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    decoder = getattr(model, model.base_model_prefix, None)
    if isinstance(head, torch.nn.Linear) and isinstance(decoder, torch.nn.Module):
        plain = _is_plain(model, head, decoder, torch.tensor([[llm.pad_id, 0, 1]], device=llm.device))
        if plain:

            def from_hidden(ids: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
                states = decoder(input_ids=ids, use_cache=False).last_hidden_state
                return states.to(head.weight.dtype), head.weight, head.bias

            return from_hidden

    def from_logits(ids: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return model(input_ids=ids, use_cache=False).logits, None, None

    return from_logits


@torch.no_grad()
def _is_plain(model: torch.nn.Module, head: torch.nn.Linear, decoder: torch.nn.Module, ids: Tensor) -> bool:
    """Whether a model's logits are exactly what its head makes of the decoder's last hidden states."""
    calls: list[tuple[Tensor, Tensor]] = []
    handle = head.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0].clone(), output.clone())))
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    if len(calls) != 1 or not torch.equal(calls[0][1].float(), logits.float()):
        return False
    hidden = decoder(input_ids=ids, use_cache=False).last_hidden_state
    return torch.allclose(hidden.float(), calls[0][0].float(), rtol=1e-3, atol=1e-5)
