"""Parts of a frozen decoder with a forward and backward of our own, which write and keep less than autograd's do.

A part is computed so where it has the pieces that are needed and gives the same on trial; all others stay as they are,
so any decoder can be trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from prag_lightning.fused.attention import FusedAttention
from prag_lightning.fused.mlp import FusedMLP
from prag_lightning.fused.norm import FusedRMSNorm
from prag_lightning.llm.loading import LLM
from prag_lightning.lora.stack import LoraWeights

_KINDS = (FusedMLP, FusedRMSNorm, FusedAttention)
_TRIAL_TOKENS = 24
_MAGNITUDES = (1.0, 30.0)
"""What a part's input is multiplied by on trial: large ones show what caps or clips."""


class _Part(Protocol):
    def applies(self, *inputs: Any, **options: Any) -> bool:
        """Whether it can stand in for its module on this input."""

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """What its module gives."""


class FusedParts:
    """Those parts of an LLM on a CPU that are computed in one piece.

    Args:
        llm: Carries no adapters now.
        start: An adapter, for the trial.
        scaling: Of its update.
    """

    def __init__(self, llm: LLM, start: LoraWeights, scaling: float) -> None:
        self.parts: dict[str, tuple[nn.Module, _Part]] = {}
        if llm.device.type != "cpu":
            return
        for name, module in llm.model.named_modules():
            for kind in _KINDS:
                if kind.suits(module) and "forward" not in vars(module):
                    self.parts[name] = module, kind(module)
        good = self._good_on_trial(llm, start, scaling)
        self.parts = {name: part for name, part in self.parts.items() if name in good}

    def _good_on_trial(self, llm: LLM, start: LoraWeights, scaling: float) -> set[str]:
        """The names of parts that give what their modules do when the model reads some tokens."""
        generator = torch.Generator().manual_seed(0)
        noise = {
            name: (a[None], 0.1 * torch.randn(b.shape, generator=generator)[None]) for name, (a, b) in start.items()
        }
        ids = torch.randint(llm.model.config.get_text_config().vocab_size, (1, _TRIAL_TOKENS), generator=generator)
        good: set[str] = set()

        def look(name: str, part: _Part, module: nn.Module, inputs: Any, options: Any, output: Any) -> None:
            if all(_same(module, part, *_times(magnitude, inputs, options)) for magnitude in _MAGNITUDES):
                good.add(name)

        llm.stack.set(noise, scaling)
        with torch.no_grad(), ExitStack() as hooks:
            hooks.callback(llm.stack.clear)
            for name, (module, part) in self.parts.items():
                handle = module.register_forward_hook(partial(look, name, part), with_kwargs=True)
                hooks.callback(handle.remove)
            llm.model(input_ids=ids, use_cache=False)
        return good

    @contextmanager
    def used(self) -> Iterator[None]:
        """The model computes with these parts."""
        for module, part in self.parts.values():
            module.forward = partial(_either, module.forward, part)
        try:
            yield
        finally:
            for module, _ in self.parts.values():
                del module.forward


def _either(plain: Any, part: _Part, *inputs: Any, **options: Any) -> Any:
    if torch.is_autocast_enabled("cpu") or not part.applies(*inputs, **options):
        return plain(*inputs, **options)
    return part(*inputs, **options)


def _times(magnitude: float, inputs: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The arguments of a call, the hidden states multiplied."""
    if inputs:
        return (inputs[0] * magnitude, *inputs[1:]), options
    return inputs, {**options, "hidden_states": options["hidden_states"] * magnitude}


def _same(module: nn.Module, part: _Part, inputs: Any, options: dict[str, Any]) -> bool:
    if not part.applies(*inputs, **options):
        return False
    wanted, got = (_first(call(*inputs, **options)).float() for call in (module.forward, part))
    tolerance = 1e-3 if _first(inputs or (options["hidden_states"],)).dtype == torch.float32 else 3e-2
    return bool((got - wanted).norm() <= tolerance * wanted.norm())


def _first(output: Any) -> Tensor:
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first
