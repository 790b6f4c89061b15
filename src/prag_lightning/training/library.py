"""The adapters of an experiment: which passage has which, which are missing, and how those are made."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import isfinite
from pathlib import Path

import torch
from peft import LoraConfig

from prag_lightning.errors import InputError, PragError
from prag_lightning.files import read_json, write_json
from prag_lightning.llm.devices import device_name
from prag_lightning.llm.loading import LLM
from prag_lightning.lora.adapters import all_finite, lora_config
from prag_lightning.lora.names import AdapterFormat
from prag_lightning.lora.null_space import NullSpace
from prag_lightning.lora.store import AdapterStore, base_weight
from prag_lightning.progress import Progress
from prag_lightning.records import AugmentedPassage
from prag_lightning.training.encoder import EncodedPassage, Encoder, PassageExamples
from prag_lightning.training.examples import ExampleBuilder
from prag_lightning.training.groups import fitting_group_tokens, group_passages
from prag_lightning.training.layout import Layout
from prag_lightning.training.recipe import RECIPE_VERSION, TrainingRecipe
from prag_lightning.training.self_distillation import with_placeholders, with_self_distillation

_TOKENISING_IS_QUICK = 200
"""So many passages are tokenised before anybody would look for a progress bar."""


@dataclass(frozen=True)
class PendingPassage:
    """A passage without an adapter, and what forming groups needs to know of its examples.

    Args:
        key: The key that its adapter will have.
        passage: With its rewrite and QA pairs; its examples are made when its turn comes.
        longest: Tokens of its longest example.
        count: How many examples it has.
        tokens: Of all its examples.
    """

    key: str
    passage: AugmentedPassage
    longest: int
    count: int
    tokens: int


class AdapterLibrary:
    """The adapters of one experiment over one LLM.

    Args:
        llm: Carries adapters.
        builder: Makes a passage's training examples.
        recipe: How adapters are trained.
        layout: Where they stand.
        adapter_format: How they are stored.
        create: Make what is missing of `base_weight`, and put things in order that a killed run left behind.

    Raises:
        InputError: if `base_weight` is missing and not to be made, or of another rank, alpha or model.
    """

    def __init__(
        self,
        llm: LLM,
        builder: ExampleBuilder,
        recipe: TrainingRecipe,
        layout: Layout,
        adapter_format: AdapterFormat = "float32",
        null_space: NullSpace | None = None,
        *,
        create: bool,
    ) -> None:
        self.llm, self.builder, self.recipe, self.null_space = llm, builder, recipe, null_space
        config = self.adapter_config(recipe.lora_rank)
        made_here = create and layout.trained_base is None
        self.base_weight, base_hash = base_weight(layout.base_weight, llm.stack, config, create=made_here)
        decisive = [RECIPE_VERSION, llm.fingerprint, base_hash, builder.fingerprint, asdict(recipe)]
        if null_space is not None:
            self.base_weight = null_space.projected(self.base_weight)
            decisive.append(null_space.hash)
        recipe_hash = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
        self.store = AdapterStore(
            layout.adapters, llm.stack, config, self.base_weight, base_hash, recipe_hash, adapter_format
        )
        if create:
            self.store.recover()
            self._leave_older_alone()
        self.failed: dict[str, str] = {}
        self._encoder: Encoder | None = None

    @property
    def scaling(self) -> float:
        """The factor of an adapter's update."""
        return self.recipe.scaling

    def key(self, passage: AugmentedPassage) -> str:
        """The key of a passage's adapter."""
        return self.store.key(passage.content_hash)

    def adapter_config(self, rank: int) -> LoraConfig:
        """PEFT's configuration of an adapter, merged or not: whatever its rank, it is scaled as the recipe says."""
        alpha = self.recipe.lora_alpha * rank // self.recipe.lora_rank
        return lora_config(self.llm.name, rank, alpha, self.llm.stack.targets)

    @cached_property
    def unencodable(self) -> dict[str, str]:
        """By key, why the last `prag fit` could not encode a passage."""
        found = read_json(self._failures, "Delete it") if self._failures.exists() else {}
        if not isinstance(found, dict):
            raise InputError(
                "the file does not say what could not be encoded", where=str(self._failures), hint="Delete it"
            )
        return {key: str(reason) for key, reason in found.items()}

    def keep_unencodable(self, reasons: Mapping[str, str]) -> None:
        """Let `prag test` know, by key, why passages have no adapter."""
        if reasons or self._failures.exists():
            write_json(self._failures, dict(reasons))

    @property
    def _failures(self) -> Path:
        return self.store.root / "unencodable.json"

    def _leave_older_alone(self) -> None:
        """Say that adapters of another version of recipes stand here, once."""
        path = self.store.root / "recipe_version.json"
        known = read_json(path, "Delete it") if path.exists() else None
        if known == RECIPE_VERSION:
            return
        if next(self.store.directories(), None) is not None:
            print(
                f"adapters of another version of this program are not used, and made anew: {self.store.root}",
                file=sys.stderr,
            )
        write_json(path, RECIPE_VERSION)

    # Making adapters

    def missing(self, passages: Iterable[AugmentedPassage]) -> list[PendingPassage]:
        """The passages that have no adapter, each once. One that cannot be encoded is left out, and stands in
        `failed`; an adapter that is cut short is missing, and is said to be."""
        by_key = {self.key(passage): passage for passage in passages}
        keys = [key for key in by_key if key not in self.store]
        for directory in (directory for directory in map(self.store.directory, keys) if directory.exists()):
            print(f"damaged, and made anew: {directory}", file=sys.stderr)
        progress = Progress("tokenise", len(keys), "passages") if len(keys) > _TOKENISING_IS_QUICK else None
        found = []
        with progress or nullcontext():
            for key in keys:
                if (pending := self._unencoded(key, by_key[key])) is not None:
                    found.append(pending)
                if progress is not None:
                    progress.advance(1)
        return found

    def _unencoded(self, key: str, passage: AugmentedPassage) -> PendingPassage | None:
        try:
            lengths = [
                len(example.input_ids) for example in self.builder.build(with_placeholders(passage, self.builder))
            ]
        except InputError as error:
            self._fail(passage, str(error))
            return None
        if not lengths:
            self._fail(passage, "it has no QA pairs")
            return None
        return PendingPassage(key, passage, max(lengths), len(lengths), sum(lengths))

    def groups(self, passages: Sequence[PendingPassage], group_tokens: int) -> list[list[PendingPassage]]:
        """Groups of passages to be trained together; see `group_passages`. They do not depend on which groups have been
        trained before."""
        return group_passages(passages, self.recipe, group_tokens)

    def encode(self, group: Sequence[PendingPassage]) -> list[EncodedPassage]:
        """Train and store the adapters of a group; where memory does not suffice, of one half after the other.

        Returns:
            What was stored: a passage whose adapter is not finite is left out, and stands in `failed`.

        Raises:
            PragError: if memory does not suffice for one passage.
        """
        try:
            passages = with_self_distillation(self.llm, self.builder, [pending.passage for pending in group])
            encoded = self.encoder.encode(
                [self._examples(replace(u, passage=passage)) for u, passage in zip(group, passages, strict=True)]
            )
        except torch.OutOfMemoryError as error:
            if len(group) == 1:
                raise PragError(
                    f"memory does not suffice to encode one passage of {group[0].longest} tokens an example",
                    where=repr(group[0].passage.passage[:60]),
                    hint="Lower model.per_device_train_batch_size or model.block_size, or take another device",
                ) from error
            encoded = []
        if encoded:
            return self._store(group, encoded)
        torch.cuda.empty_cache()
        half = len(group) // 2
        return self.encode(group[:half]) + self.encode(group[half:])

    def _store(self, group: Sequence[PendingPassage], encoded: Sequence[EncodedPassage]) -> list[EncodedPassage]:
        sound = []
        for pending, passage in zip(group, encoded, strict=True):
            if not all(map(isfinite, passage.losses)):
                step = next(step for step, loss in enumerate(passage.losses) if not isfinite(loss))
                self._fail(pending.passage, f"its loss at step {step} is not finite")
            elif not all_finite(passage.weights):
                self._fail(pending.passage, "its training diverged: the adapter holds values that are not finite")
            else:
                sound.append(passage)
        self.store.save_all({passage.key: passage.weights for passage in sound})
        return sound

    def _examples(self, pending: PendingPassage) -> PassageExamples:
        return PassageExamples(pending.key, tuple(self.builder.build(pending.passage)))

    def _fail(self, passage: AugmentedPassage, reason: str) -> None:
        self.failed[passage.passage] = reason

    @property
    def encoder(self) -> Encoder:
        """Trains adapters; made when the LLM is on its device."""
        if self._encoder is None:
            self._encoder = Encoder(self.llm, self.base_weight, self.recipe, self.null_space)
        return self._encoder

    def measured_group_tokens(self, passages: Sequence[PendingPassage]) -> int:
        """The size of groups that suits device and recipe, which is measured once and kept beside the adapters.

        Args:
            passages: Some that are to be encoded, at least one.
        """
        path, device = self.store.root / "group_tokens.json", device_name(self.llm.device)
        known = read_json(path, "Delete it") if path.exists() else {}
        if device not in known:
            longest = max(passages, key=lambda pending: pending.longest)
            tokens = fitting_group_tokens(self.encoder, self._examples(longest))
            print(f"groups of {tokens} tokens suit {device}", file=sys.stderr)
            known = {**known, device: tokens}
            write_json(path, known)
        return int(known[device])
