"""The adapters of one recipe, stored by what they were trained on."""

from __future__ import annotations

import hashlib
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from peft import LoraConfig

from prag_lightning.errors import InputError
from prag_lightning.files import TEMP_SUFFIX, path_in_errors, remove_stale_temp, temp_path, visible
from prag_lightning.lora.adapters import (
    CONFIG_FILE,
    HINT,
    WEIGHTS_FILE,
    all_finite,
    is_adapter,
    is_whole,
    named_tensors,
    random_adapter,
    read_adapter,
    read_directory,
    read_given,
    replace_link,
    write_adapter,
    write_files,
)
from prag_lightning.lora.int4 import compress, expand
from prag_lightning.lora.names import AdapterFormat
from prag_lightning.lora.stack import LoraStack, LoraWeights
from prag_lightning.lora.weights_file import Origin

COMPACT_FILE = "adapter_int4.safetensors"
CACHE_BYTES = 2**30
"""What a store keeps of adapters in memory, for questions that share passages."""


def base_weight(directory: Path, stack: LoraStack, config: LoraConfig, *, create: bool) -> tuple[LoraWeights, str]:
    """The adapter that every passage starts from, and its hash; see `adapter_hash`.

    Args:
        directory: Where it stands, or shall stand.
        stack: The model's places for adapters.
        config: PEFT's configuration of rank, alpha and modules.
        create: Make it at random, always the same, if it is missing.

    Raises:
        InputError: if it is missing and not to be made, of another rank, alpha or model, or no plain LoRA.
    """
    if not is_adapter(directory):
        if not create:
            raise InputError("base_weight is missing", where=str(directory), hint="Run 'prag fit', which makes it")
        write_adapter(directory, random_adapter(stack, config.r, seed=0), config)
    return read_given(directory, stack, config.r, config.lora_alpha), adapter_hash(directory)


def adapter_hash(directory: Path) -> str:
    """Hex SHA-256 of an adapter's file.

    Raises:
        InputError: if there is none.
    """
    try:
        return hashlib.sha256((directory / WEIGHTS_FILE).read_bytes()).hexdigest()
    except OSError as error:
        hint = "Train it with 'prag fit --config configs/warmup.yaml', or set model.base_weight to a PEFT directory"
        if (directory / "adapter_model.bin").exists():
            hint = "adapter_model.bin is not read: save the adapter again with PEFT's save_pretrained"
        raise InputError(f"no base_weight: {error.strerror}", where=str(directory / WEIGHTS_FILE), hint=hint) from error


def adapter_bytes(weights: LoraWeights, adapter_format: AdapterFormat) -> int:
    """What an adapter of this shape takes on disk, without its small configuration file."""
    return _count(weights) * {"float32": 8, "bfloat16": 4, "int4": 1}[adapter_format] // 2


def _count(weights: LoraWeights) -> int:
    return sum(tensor.numel() for pair in weights.values() for tensor in pair)


class AdapterStore:
    """Adapters of one recipe, each under a key of its content, with links from the published places.

    Args:
        root: The recipe's directory.
        stack: The model's places for adapters.
        config: PEFT's configuration that they are saved with.
        base_weight: The adapter that each started from.
        base_hash: Its hash, which each says that it grew from.
        adapter_format: How they are stored; each format has a folder of its own.
        recipe_hash: Of everything that decides an adapter's weights beside the passage; part of each key, so that
            adapters of two recipes are never taken for each other.
    """

    def __init__(
        self,
        root: Path,
        stack: LoraStack,
        config: LoraConfig,
        base_weight: LoraWeights,
        base_hash: str,
        recipe_hash: str,
        adapter_format: AdapterFormat = "float32",
    ) -> None:
        self.root, self.stack, self.config, self.recipe_hash = root, stack, config, recipe_hash
        self.base_weight, self.base_hash, self.adapter_format = base_weight, base_hash, adapter_format
        self._folder = "adapters" if adapter_format == "float32" else f"adapters-{adapter_format}"
        self._file = COMPACT_FILE if adapter_format == "int4" else WEIGHTS_FILE
        self.cache_bytes: float = CACHE_BYTES
        self._cache: OrderedDict[str, LoraWeights] = OrderedDict()

    def key(self, content_hash: str) -> str:
        """The key of the adapter of an augmented passage with this content hash."""
        return hashlib.sha256(f"{self.recipe_hash} {content_hash}".encode()).hexdigest()

    def directory(self, key: str) -> Path:
        """The directory of an adapter, whether it is there or not; PEFT loads it unless the format is int4."""
        return self.root / self._folder / key[:2] / key[2:18]

    @property
    def bytes_each(self) -> int:
        """What an adapter takes on disk, without its small configuration file."""
        return adapter_bytes(self.base_weight, self.adapter_format)

    @property
    def _parameters(self) -> int:
        return _count(self.base_weight)

    def __contains__(self, key: str) -> bool:
        """Whether an adapter has been stored, and is not cut short."""
        return is_whole(self.directory(key), self._file)

    def save_all(self, adapters: Mapping[str, LoraWeights]) -> None:
        """Store a group's adapters by their keys.

        When a process is killed, all of them are stored or none: so the run that goes on trains the same groups, and by
        that the same weights to the last bit. What is there already is left as it is.
        """
        if not adapters:
            return
        folder = self.root / self._folder
        folder.mkdir(parents=True, exist_ok=True)
        group = temp_path(folder / "group")
        try:
            for key, weights in adapters.items():
                with path_in_errors(self.directory(key)):
                    self._write(group / self.directory(key).relative_to(folder), weights)
            self._place(group.rename(group.with_suffix("")))
        finally:
            shutil.rmtree(group, ignore_errors=True)

    def recover(self) -> None:
        """Put the groups in place that killed processes had finished, and delete what they had not."""
        folder = self.root / self._folder
        remove_stale_temp(folder)
        for group in folder.glob(".group.*"):
            if group.suffix != TEMP_SUFFIX:
                self._place(group)

    def _place(self, group: Path) -> None:
        """Move a finished group's adapters to their places; other processes may be doing the same."""
        folder = self.root / self._folder
        for directory in list(group.glob("*/*")):
            place = folder / directory.relative_to(group)
            place.parent.mkdir(exist_ok=True)
            try:
                directory.rename(place)
            except OSError:
                if not is_whole(place, self._file):
                    shutil.rmtree(place, ignore_errors=True)
                    directory.rename(place)
        shutil.rmtree(group, ignore_errors=True)

    def _write(self, directory: Path, weights: LoraWeights) -> None:
        if self.adapter_format == "int4":
            tensors = compress(weights, self.base_weight)
        else:
            dtype = torch.bfloat16 if self.adapter_format == "bfloat16" else torch.float32
            stored = {name: (lora_a.to(dtype), lora_b.to(dtype)) for name, (lora_a, lora_b) in weights.items()}
            tensors = named_tensors(stored)
        write_files(directory, tensors, self.config, self._file, self._origin(directory))

    def load(self, key: str, passage: str) -> LoraWeights:
        """Read an adapter, or take it from memory.

        Args:
            key: Of the adapter.
            passage: Says whose adapter it is, for the message when it is missing.

        Raises:
            InputError: if it is missing, damaged, or of another rank or model.
        """
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        directory = self.directory(key)
        if not (directory / CONFIG_FILE).exists() and not (directory / self._file).exists():
            raise InputError(
                f"no adapter for {passage}", where=str(self.root), hint="Run 'prag fit' with the same configuration"
            )
        weights = self.read(directory)
        self._cache[key] = weights
        while len(self._cache) > 1 and len(self._cache) * self._parameters * 4 > self.cache_bytes:
            self._cache.popitem(last=False)
        return weights

    def forget_memory(self) -> None:
        """Keep none of the adapters in memory that are no longer on disk."""
        self._cache = OrderedDict((key, weights) for key, weights in self._cache.items() if key in self)

    def directories(self) -> Iterator[Path]:
        """Where adapters stand, whole or damaged."""
        yield from visible(self.root / self._folder, "[0-9a-f][0-9a-f]/*")

    def read(self, directory: Path) -> LoraWeights:
        """Read the adapter of a directory.

        Raises:
            InputError: if it is missing, damaged, or of another rank, model or `base_weight`.
        """
        rank, alpha = self.config.r, self.config.lora_alpha
        origin = self._origin(directory)
        if self.adapter_format != "int4":
            return read_adapter(directory, self.stack, rank, alpha, origin)
        try:
            tensors = read_directory(directory, rank, alpha, self._parameters, COMPACT_FILE, origin)
            weights = expand(tensors, self.base_weight)
        except (KeyError, ValueError) as error:
            raise InputError(f"the adapter is of another model: {error}", where=str(directory), hint=HINT) from error
        if not all_finite(weights):
            raise InputError("the adapter holds values that are not finite", where=str(directory), hint=HINT)
        return weights

    def _origin(self, directory: Path) -> Origin:
        """What the file at a place is to say that it came from. A place has a part of the adapter's key in its name, so
        that one which was copied to the place of another is told."""
        return Origin(directory.parent.name + directory.name, self.base_hash)

    def place(self, split: str, test_id: int, pid: int) -> Path:
        """The published place of a passage's adapter."""
        return self.root / split / f"data_{test_id}" / f"passage_{pid}"

    def link(self, split: str, test_id: int, pid: int, key: str) -> None:
        """Let the published place `{split}/data_{did}/passage_{pid}` point to an adapter."""
        replace_link(self.place(split, test_id, pid), self.directory(key))
