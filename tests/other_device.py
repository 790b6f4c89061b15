"""A second device without one: tensors that say they are elsewhere, hold their values on the CPU, and refuse to be
mixed with tensors that are not there, as a GPU's do."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("lazy:0")
"""A device type that PyTorch knows and initialises nothing for."""

MOVES = (torch.ops.aten._to_copy, torch.ops.aten.to, torch.ops.aten.copy_)


class Elsewhere(torch.Tensor):
    """A tensor on `DEVICE`."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> Elsewhere:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        tensor.values = values
        return tensor

    def __repr__(self, **_: Any) -> str:
        return f"Elsewhere({self.values})"

    def tolist(self) -> Any:
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class OtherDevice(TorchDispatchMode):
    """Within it tensors can be made on `DEVICE` and moved there."""

    def __enter__(self) -> OtherDevice:
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor` makes its tensor on the CPU, and then moves it
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = tree_flatten((args, kwargs))[0]
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    there = any(isinstance(tensor, Elsewhere) for tensor in tensors)
    if there and func.overloadpacket not in MOVES:
        # Like a GPU's kernels: numbers of no dimension may come from the CPU, and so may an index.
        mixed = [t for t in tensors if not isinstance(t, Elsewhere) and t.dim() and "index" not in func.name()]
        if mixed:
            raise RuntimeError(f"{func}: expected all tensors to be on {DEVICE}, found {mixed[0].shape} on the CPU")
    for target in (leaf for leaf in leaves if isinstance(leaf, torch.device)):
        there = target.type == DEVICE.type
    args, kwargs = tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs))
    if func is torch.ops.aten.copy_.default:
        there = isinstance(args[0], Elsewhere)
    wrappers = {id(tensor.values): tensor for tensor in tensors if isinstance(tensor, Elsewhere)}
    inner_args, inner_kwargs = tree_map_only(Elsewhere, lambda tensor: tensor.values, (args, kwargs))
    result = func(*inner_args, **inner_kwargs)
    if not there:
        return result
    # What is written in place is returned as the tensor that it is.
    return tree_map_only(
        torch.Tensor, lambda tensor: wrappers[id(tensor)] if id(tensor) in wrappers else Elsewhere(tensor), result
    )
