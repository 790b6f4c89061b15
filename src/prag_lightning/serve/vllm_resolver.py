"""A plugin of vLLM that merges adapters of a store when somebody asks for them.

vLLM calls `register` when the package is installed beside it and `VLLM_PLUGINS` names it (`prag_lora_resolver`). With
the store's folder in `PRAG_STORE`, a client asks for `prag:ID` or `prag:ID+ID+…` as its model: ids of passages or
documents, percent-encoded where they have a `+`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from prag_lightning.memory.contents import Contents

_PREFIX = "prag:"
_SHOWN = 300
"""Characters of a client's words, and of what is said of them, in a line of the log."""
_STORE, _CACHE = "PRAG_STORE", "PRAG_ADAPTERS"


def register() -> None:
    """Let vLLM know the resolver, if a store is named."""
    folder = os.environ.get(_STORE)
    if not folder:
        return
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry  # type: ignore[import-not-found]

    cache = Path(os.environ.get(_CACHE) or Path.home() / ".cache/prag-lightning/adapters")
    resolver = type("PragResolver", (MergingResolver, LoRAResolver), {})(Path(folder), cache)
    LoRAResolverRegistry.register_resolver("prag-lightning", resolver)


class MergingResolver:
    """Finds adapters of a store by names made of passages.

    Args:
        store: Its folder.
        cache: Where merged adapters are kept, by what is in them.
    """

    def __init__(self, store: Path, cache: Path) -> None:
        self.store, self.cache = store, cache

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
        """The request for an adapter, as vLLM has it.

        Args:
            base_model_name: That vLLM serves.
            lora_name: That a client asks for.

        Returns:
            `None` for a name that is not of this kind, ids that the store lacks, or another model.
        """
        if not lora_name.startswith(_PREFIX):
            return None
        directory = await asyncio.to_thread(self._merged, base_model_name, lora_name)
        if directory is None:
            return None
        from vllm.lora.request import LoRARequest  # type: ignore[import-not-found]

        number = int(directory.name[:7], 16) + 1  # positive, and the same in every process
        return LoRARequest(lora_name=lora_name, lora_int_id=number, lora_path=str(directory))

    def _merged(self, base_model_name: str, lora_name: str) -> Path | None:
        """The directory of a merged adapter, which is made if it is missing."""
        from prag_lightning.errors import PragError
        from prag_lightning.memory.contents import Contents

        try:
            places = _adapters(Contents.read(self.store), lora_name.removeprefix(_PREFIX).split("+"))
            return self._written([self.store / place for place in places], base_model_name)
        except (PragError, OSError) as error:
            print(f"prag: {lora_name[:_SHOWN]!r}: {str(error)[:_SHOWN]}", file=sys.stderr)
            return None

    def _written(self, sources: list[Path], base_model_name: str) -> Path:
        from prag_lightning.inference.exporter import VLLM_RANKS, filled
        from prag_lightning.lora.adapters import is_adapter, lora_config, read_plain, write_adapter
        from prag_lightning.lora.merge import merge
        from prag_lightning.memory.settings import merge_settings

        settings = merge_settings(self.store, base_model_name)
        digest = hashlib.sha256()
        for source in sources:
            digest.update(hashlib.sha256((source / "adapter_model.safetensors").read_bytes()).digest())
        digest.update(json.dumps([settings.merge, settings.lora_a, base_model_name]).encode())
        directory = self.cache / digest.hexdigest()[:32]
        if not is_adapter(directory):
            weights = merge([read_plain(source) for source in sources], settings.merge, lora_a=settings.lora_a)
            own = next(iter(weights.values()))[0].shape[0]
            rank = next((rank for rank in VLLM_RANKS if rank >= own), own)
            alpha = max(1, round(settings.scaling * rank))
            targets = tuple(sorted({name.rpartition(".")[2] for name in weights}))
            config = lora_config(base_model_name, rank, alpha, targets)
            write_adapter(directory, filled(weights, rank, settings.scaling * rank / alpha), config)
        return directory


def _adapters(contents: Contents, ids: list[str]) -> list[str]:
    """Where the adapters of passages are, or of all passages of documents.

    Raises:
        InputError: if the store has none of an id.
    """
    from prag_lightning.errors import InputError

    places: dict[str, None] = {}
    for key in map(unquote, ids):
        found = [each for each in contents.passages if key in (each.passage.id, each.document) and each.adapter]
        if not found:
            raise InputError(f"the store has no adapter of {key!r}")
        places |= dict.fromkeys(each.adapter for each in found)
    return list(places)
