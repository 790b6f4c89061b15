"""Directions in which general text hardly reaches a layer: adapters that read nothing else change nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from prag_lightning.lora.stack import LoraStack, LoraWeights
from prag_lightning.lora.weights_file import read_tensors, write_tensors

_KEPT, _REMOVED = ".kept", ".removed"
_BESIDE = ","
"""Between the names of layers that share their input, and by that their basis."""


@dataclass(frozen=True)
class NullSpace:
    """An orthogonal projection a layer, on the directions that hold the least energy of general text.

    AlphaEdit (arXiv 2410.02355) edits in the null space of what is to be preserved; ROME and MEMIT (2202.05262,
    2210.07229) whiten their keys with the same second moments.

    Args:
        bases: By layer an orthonormal basis `[d_in, m]`, of what is kept or of what is removed, whichever is smaller,
            and whether it is of what is kept.
        hash: Hex SHA-256 of the file: adapters of two projections are never taken for each other.
    """

    bases: Mapping[str, tuple[Tensor, bool]]
    hash: str = ""

    def project(self, name: str, lora_a: Tensor) -> Tensor:
        """Rows of A `[..., r, d_in]` without what they read in the directions that are removed."""
        basis, kept = self.bases[name]
        with torch.autocast(lora_a.device.type, enabled=False):
            inside = (lora_a @ basis) @ basis.mT
        return inside if kept else lora_a - inside

    def projected(self, weights: LoraWeights) -> LoraWeights:
        """An adapter, or a stack, with each A projected."""
        return {name: (self.project(name, lora_a), lora_b) for name, (lora_a, lora_b) in weights.items()}

    def to(self, device: torch.device) -> NullSpace:
        """The same on a device."""
        return NullSpace({name: (basis.to(device), kept) for name, (basis, kept) in self.bases.items()}, self.hash)

    @classmethod
    def load(cls, path: Path, stack: LoraStack) -> NullSpace:
        """Read a file that `save` has written.

        Raises:
            OSError: if there is none.
            ValueError: if it is broken, or of another model.
        """
        sizes = {name: a_shape[1] for name, (a_shape, _) in stack.shapes(1).items()}
        bases: dict[str, tuple[Tensor, bool]] = {}
        for key, basis in read_tensors(path, 4 * sum(size**2 for size in sizes.values())).items():
            names, kept = key.removesuffix(_KEPT).removesuffix(_REMOVED), key.endswith(_KEPT)
            bases |= dict.fromkeys(names.split(_BESIDE), (basis, kept))
        if {name: len(basis) for name, (basis, _) in bases.items()} != sizes:
            raise ValueError("it is of another model")
        return cls(bases, hashlib.sha256(path.read_bytes()).hexdigest())

    @staticmethod
    def save(path: Path, bases: Mapping[str, tuple[Tensor, bool]]) -> None:
        """Write bases into a file, a tensor once."""
        names: dict[tuple[int, bool], list[str]] = {}
        for name, (basis, kept) in bases.items():
            names.setdefault((id(basis), kept), []).append(name)
        write_tensors(
            path,
            {
                _BESIDE.join(each) + (_KEPT if kept else _REMOVED): bases[each[0]][0].contiguous().cpu()
                for (_, kept), each in names.items()
            },
        )


class SecondMoments:
    """Sums `C = w x x^T / |x|^2` over the inputs x of each layer that can carry an adapter.

    Each input has length one, since those of a text's first token are longer than all others together.

    Args:
        stack: The model's places for adapters.
    """

    def __init__(self, stack: LoraStack) -> None:
        self._layers: Mapping[str, nn.Module] = stack.layers
        self.sums: dict[str, Tensor] = {}
        self.shared_with: dict[str, str] = {}
        """Layers that read the very input of another, as the two that go up in a feed-forward block do."""

    @contextmanager
    def watching(self, weights: Tensor) -> Iterator[None]:
        """While the model reads a batch: add its tokens, each with its weight w of `weights` `[N, T]`."""
        counted = weights.flatten() > 0
        lengths = weights.flatten()[counted].sqrt()[:, None]
        last: list[tuple[Tensor, str]] = []

        def watch(name: str) -> None:
            def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                (x,) = inputs
                if last and last[-1][0] is x:
                    self.shared_with[name] = last[-1][1]
                    return
                last[:] = [(x, name)]
                rows = x.reshape(-1, x.shape[-1])[counted].float()
                rows = nn.functional.normalize(rows, dim=-1) * lengths
                if name not in self.sums:
                    self.sums[name] = rows.new_zeros(rows.shape[-1], rows.shape[-1])
                with torch.autocast(rows.device.type, enabled=False):
                    self.sums[name].addmm_(rows.mT, rows)

            hooks.append(self._layers[name].register_forward_pre_hook(hook))

        hooks: list[torch.utils.hooks.RemovableHandle] = []
        try:
            for name in self._layers:
                watch(name)
            yield
        finally:
            for handle in hooks:
                handle.remove()

    def bases(self, share: float) -> Iterator[dict[str, tuple[Tensor, bool]]]:
        """Layer by layer, what `NullSpace` has: the weakest directions kept, as many as hold `share` of the energy."""
        for name, moments in self.sums.items():
            energies, directions = torch.linalg.eigh(moments)
            energies = energies.clamp(min=0).double()
            kept = int((energies.cumsum(0) <= share * energies.sum()).sum())
            half = len(energies) // 2
            basis = directions[:, :kept] if kept <= half else directions[:, kept:]
            beside = [other for other, first in self.shared_with.items() if first == name]
            yield dict.fromkeys([name, *beside], (basis.contiguous(), kept <= half))
