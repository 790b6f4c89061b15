"""Adapter directories as PEFT writes and reads them."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file

from prag_lightning.errors import InputError
from prag_lightning.files import path_in_errors, remove_stale_temp, temp_path
from prag_lightning.lora.stack import LoraStack, LoraWeights
from prag_lightning.lora.weights_file import UNKNOWN, Origin, is_complete, read_tensors, write_tensors

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
HINT = "Delete this directory and run 'prag fit' again"
_PREFIX = "base_model.model."
_A = ".lora_A.weight"
_INDIFFERENT = frozenset(
    {
        *("r", "lora_alpha", "target_modules", "base_model_name_or_path", "revision", "peft_version", "task_type"),
        *("inference_mode", "auto_mapping", "lora_dropout", "fan_in_fan_out", "eva_config", "megatron_config"),
    }
)
"""Fields of PEFT's configuration that change no update, or are looked at on their own."""
_PLAIN_INITIALISATIONS = ("gaussian", "eva", "orthogonal")
"""Of A and B, beside PEFT's own; others change the model's weights too."""
_LARGEST_CONFIG = 2**20


def random_adapter(stack: LoraStack, rank: int, seed: int) -> LoraWeights:
    """A new adapter as PEFT initialises it: A uniform within `sqrt(1 / d_in)` (Kaiming, a = sqrt 5), B zero; its
    update is nothing."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, (a_shape, b_shape) in stack.shapes(rank).items():
        lora_a = torch.empty(a_shape, dtype=torch.float32)
        torch.nn.init.kaiming_uniform_(lora_a, a=math.sqrt(5), generator=generator)
        weights[name] = (lora_a, torch.zeros(b_shape, dtype=torch.float32))
    return weights


def lora_config(model_name: str, rank: int, alpha: int, targets: tuple[str, ...]) -> LoraConfig:
    """The PEFT configuration that an adapter is saved with."""
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=sorted(targets),
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path=model_name,
    )


def write_adapter(
    directory: Path,
    weights: LoraWeights,
    config: LoraConfig,
    origin: Origin = UNKNOWN,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write an adapter directory that `PeftModel.from_pretrained` loads; it appears whole or not at all.

    One that is already there is left as it is: whoever wrote it wrote the same.

    Args:
        directory: Its place.
        weights: A `[r, d_in]` and B `[d_out, r]` a module.
        config: PEFT's configuration of it.
        origin: What it came from.
        notes: Texts of further files, by name.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temp(directory.parent, directory.name)
    beside = temp_path(directory)
    try:
        with path_in_errors(directory):
            write_files(beside, named_tensors(weights), config, origin=origin)
            for name, text in notes.items():
                (beside / name).write_text(text, encoding="utf-8")
        try:
            beside.rename(directory)
        except OSError:
            if not is_adapter(directory):
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_files(
    directory: Path,
    tensors: dict[str, torch.Tensor],
    config: LoraConfig,
    weights_file: str = WEIGHTS_FILE,
    origin: Origin = UNKNOWN,
) -> None:
    """Write tensors and configuration of an adapter into a new directory; the same always give the same bytes, which
    PEFT's own writing of a configuration does not."""
    directory.mkdir(parents=True)
    values: dict[str, object] = config.to_dict()  # type: ignore[no-untyped-call]
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in values.items()}
    (directory / CONFIG_FILE).write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")
    write_tensors(directory / weights_file, tensors, origin)


def named_tensors(weights: LoraWeights) -> dict[str, torch.Tensor]:
    """An adapter's tensors by PEFT's names."""
    tensors = {}
    for name, (lora_a, lora_b) in weights.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = lora_a.contiguous()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = lora_b.contiguous()
    return tensors


def is_adapter(directory: Path, weights_file: str = WEIGHTS_FILE) -> bool:
    """Whether both files of an adapter stand in `directory`."""
    return (directory / weights_file).is_file() and (directory / CONFIG_FILE).is_file()


def is_whole(directory: Path, weights_file: str = WEIGHTS_FILE) -> bool:
    """Whether both files of an adapter stand in `directory` and are as long as they should be, so that one which was
    cut short is found without reading its values."""
    try:
        json.loads(_config_bytes(directory / CONFIG_FILE))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return False
    return is_complete(directory / weights_file)


def read_given(directory: Path, stack: LoraStack, rank: int, alpha: int) -> LoraWeights:
    """Read an adapter that somebody else may have made, such as a `base_weight`; see `read_adapter`.

    Raises:
        InputError: likewise, and naming what makes its update another than `alpha / rank` times B A: rsLoRA, DoRA,
            patterns of ranks and the like.
    """
    try:
        config = json.loads(_config_bytes(directory / CONFIG_FILE))
    except (OSError, ValueError, RecursionError):
        config = {}  # reading it below says so
    strange = _not_plain(config) if isinstance(config, dict) else ""
    if strange:
        raise InputError(
            f"the adapter is no plain LoRA: {strange}",
            where=str(directory / CONFIG_FILE),
            hint="Give one whose update is alpha / rank times B A, or merge it into the model and name that as "
            "model.model_name",
        )
    return read_adapter(directory, stack, rank, alpha, hint="Give a whole adapter of this model and these modules")


def _not_plain(config: Mapping[str, object]) -> str:
    """The first field of PEFT's configuration that changes what an adapter does; empty if none does."""
    plain: dict[str, object] = LoraConfig().to_dict()  # type: ignore[no-untyped-call]
    for name, value in config.items():
        known = name in _INDIFFERENT or (name == "init_lora_weights" and value in _PLAIN_INITIALISATIONS)
        if value and not known and value != plain.get(name):
            return f"{name} is {value!r}"
    return ""


def read_adapter(
    directory: Path, stack: LoraStack, rank: int, alpha: int, origin: Origin = UNKNOWN, hint: str = HINT
) -> LoraWeights:
    """Read an adapter directory, of ours or of PEFT's: in float32 and on the CPU, however it was stored.

    Args:
        directory: Its place.
        stack: The model's places for adapters.
        rank: That it should have.
        alpha: That it should have.
        origin: What it should have come from.
        hint: What to do about one that cannot be used.

    Raises:
        InputError: if a file is missing or broken, or rank, alpha, modules, shapes or origin are not the ones asked
            for, or a value is not finite.
    """
    shapes = stack.shapes(rank)
    parameters = sum(rows * columns for pair in shapes.values() for rows, columns in pair)
    tensors = read_directory(directory, rank, alpha, parameters, origin=origin, hint=hint)
    try:
        weights = {
            name: (_take(tensors, name, "A", shape_a), _take(tensors, name, "B", shape_b))
            for name, (shape_a, shape_b) in shapes.items()
        }
        if tensors:
            raise ValueError(f"unknown tensor {next(iter(tensors))}")
    except ValueError as error:
        raise InputError(
            f"{error}: the adapter is of another model", where=str(directory / WEIGHTS_FILE), hint=hint
        ) from error
    if not all_finite(weights):
        raise InputError("the adapter holds values that are not finite", where=str(directory), hint=hint)
    return weights


def read_plain(directory: Path) -> LoraWeights:
    """Read an adapter of our own without its model: in float32 and on the CPU.

    Raises:
        InputError: if it is missing or damaged, or its format is none of PEFT's.
    """
    try:
        tensors = load_file(directory / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise InputError(f"the adapter cannot be read: {error}", where=str(directory), hint=HINT) from error
    names = [name[len(_PREFIX) : -len(_A)] for name in tensors if name.endswith(_A)]
    return {
        name: (tensors[f"{_PREFIX}{name}{_A}"].float(), tensors[f"{_PREFIX}{name}.lora_B.weight"].float())
        for name in names
    }


def _take(tensors: dict[str, torch.Tensor], module: str, letter: str, shape: tuple[int, int]) -> torch.Tensor:
    """Take a module's A or B out of a file's tensors, in float32.

    Raises:
        ValueError: if it is missing, of another shape, or no floating-point numbers.
    """
    name = f"{_PREFIX}{module}.lora_{letter}.weight"
    tensor = tensors.pop(name, None)
    if tensor is None or tensor.shape != shape:
        was = "missing" if tensor is None else f"of shape {list(tensor.shape)}, not {list(shape)}"
        raise ValueError(f"{name} is {was}")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} holds {tensor.dtype}")
    return tensor.float()


def read_directory(
    directory: Path,
    rank: int,
    alpha: int,
    parameters: int,
    weights_file: str = WEIGHTS_FILE,
    origin: Origin = UNKNOWN,
    hint: str = HINT,
) -> dict[str, torch.Tensor]:
    """The tensors of an adapter directory, on the CPU.

    Args:
        directory: Of the adapter.
        rank: That it should have.
        alpha: That it should have.
        parameters: How many it should have: a file that is far too large for them is not read.
        weights_file: The tensors' file.
        origin: What it should have come from. A file that does not say, as PEFT writes them, is taken.
        hint: What to do about one that cannot be used.

    Raises:
        InputError: if a file is missing or broken, or of another origin, rank or alpha than is asked for.
    """
    config_path, weights_path = directory / CONFIG_FILE, directory / weights_file
    try:
        found = _rank_and_alpha(_config_bytes(config_path))
        tensors = read_tensors(weights_path, 8 * parameters, origin)
    except FileNotFoundError as error:
        raise InputError(
            "the adapter is missing", where=str(error.filename or weights_path), hint="Run 'prag fit'"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"the adapter cannot be read: {error}", where=str(directory), hint=hint) from error
    if found != (rank, alpha):
        raise InputError(
            f"the adapter has rank {found[0]} and alpha {found[1]}, not {rank} and {alpha}",
            where=str(config_path),
            hint="Set model.lora_rank and model.lora_alpha to its own",
        )
    return tensors


def _config_bytes(path: Path) -> bytes:
    """A configuration file's content; a far larger file is none."""
    with path.open("rb") as file:
        return file.read(_LARGEST_CONFIG)


@lru_cache(maxsize=8)
def _rank_and_alpha(config: bytes) -> tuple[object, object]:
    """What a configuration says; the same for all adapters of a recipe."""
    settings = json.loads(config)
    return (settings.get("r"), settings.get("lora_alpha")) if isinstance(settings, dict) else (None, None)


def all_finite(weights: LoraWeights) -> bool:
    """Whether no value is infinite or no number: looked up in all tensors at once, since there are many small ones."""
    values = torch.cat([tensor.flatten() for pair in weights.values() for tensor in pair])
    return all(math.isfinite(float(end)) for end in torch.aminmax(values))


def replace_link(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, in one step even where one stands already.

    Raises:
        InputError: if a real directory stands in its place.
    """
    text = os.path.relpath(target, link.parent)
    if link.is_symlink():
        if os.readlink(link) == text:
            return
    elif link.exists():
        raise InputError("an adapter that this run did not write is in the way", where=str(link), hint="Move it away")
    link.parent.mkdir(parents=True, exist_ok=True)
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(text, target_is_directory=True)
    beside.replace(link)
