"""What made an augmented file, kept beside it: the writer, its prompts and settings, and the corpus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from prag_lightning import __version__
from prag_lightning.augment.chat import ChatSettings
from prag_lightning.augment.settings import AugmentSettings
from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.errors import InputError
from prag_lightning.files import read_json, write_json
from prag_lightning.llm.names import short_name, weights_fingerprint
from prag_lightning.records import Json

_FOLDER = "made_by"
"""Beside the augmented files: `{split}.json` in it belongs to `{split}.json` beside it."""
_HASH_DIGITS = 16
_DEFAULTS = {field.name: field.default for field in fields(AugmentSettings)}

Recipe = dict[str, Json]
"""What decides augmented data: `writer`, `prompts`, `settings`, `retriever`. Fields that are `None` are not known."""
UNKNOWN: Recipe = {"writer": {"model": "unknown"}}
"""Of the passages of a file that other software made."""


def augment_recipe(writer: Json, prompts: PromptTemplates, settings: AugmentSettings, retriever: Json = None) -> Recipe:
    """What decides today's augmentation.

    Args:
        writer: See `llm_writer` and `chat_writer`.
        prompts: The templates.
        settings: Attempts and sampling.
        retriever: Its settings, where it tells them.
    """
    templates = json.dumps(settings.templates(prompts)).encode("utf-8", "surrogatepass")
    return {
        "writer": writer,
        "prompts": hashlib.sha256(templates).hexdigest()[:_HASH_DIGITS],
        "settings": settings.decisive(),
        "retriever": retriever,
        "prag_lightning": __version__,
    }


def llm_writer(model_name: str) -> Json:
    """A local LLM, by its weights and tokenizer; these are not known where it is not on this machine."""
    weights = weights_fingerprint(model_name)
    return {"model": short_name(model_name), "weights": weights and weights[:_HASH_DIGITS]}


def chat_writer(chat: ChatSettings, model: str) -> Json:
    """A server's model, by its name there."""
    return {"model": model, "server": chat.base_url, "extra_body": chat.extra_body}


def differences(then: Recipe, now: Recipe) -> Iterator[str]:
    """In which ways one recipe is not another, each as words after "made with"."""
    for field in ("model", "weights", "extra_body"):
        before, after = (recipe["writer"].get(field) for recipe in (then, now))
        if before != after and (field == "model" or None not in (before, after)):
            named = {"model": f"the writer {before}, not {after}", "weights": "other weights of the writer"}
            yield named.get(field, f"extra_body {before}, not {after}")
            break
    if "prompts" in then and then["prompts"] != now["prompts"]:
        yield "other prompts"
    if "settings" in then:
        for name in sorted({*then["settings"], *now["settings"]}):
            before, after = (recipe["settings"].get(name, _DEFAULTS.get(name)) for recipe in (then, now))
            if before != after:
                yield f"{name} {before}, not {after}"
    before, after = then.get("retriever"), now.get("retriever")
    if before != after and None not in (before, after):
        yield "another retriever or other settings of it"


@dataclass(frozen=True)
class Provenance:
    """What made one augmented file.

    Args:
        made_by: Its recipes; several where what one left was completed by another.
        corpus: The version of the corpus that all its passages were retrieved from, if known.
    """

    made_by: tuple[Recipe, ...]
    corpus: str | None = None

    @classmethod
    def read(cls, folder: Path, split: str) -> Provenance | None:
        """That of `{split}.json`; `None` for a file of other software.

        Raises:
            InputError: if it is damaged.
        """
        path = folder / _FOLDER / f"{split}.json"
        if not path.exists():
            return None
        hint = "Delete it: the augmented file then counts as one of other software"
        data = read_json(path, hint)
        made_by = data.get("made_by") if isinstance(data, dict) else None
        if not isinstance(made_by, list) or not made_by or not all(_is_recipe(recipe) for recipe in made_by):
            raise InputError("it does not say what made the augmented file", where=str(path), hint=hint)
        return cls(tuple(made_by), data.get("corpus"))

    def write(self, folder: Path, split: str) -> None:
        """Keep it beside `{split}.json`."""
        write_json(folder / _FOLDER / f"{split}.json", {"made_by": list(self.made_by), "corpus": self.corpus})

    def mismatch(self, recipe: Recipe) -> str:
        """How a recipe differs from the last of those that made the file; empty if it is one of them."""
        if any(not list(differences(each, recipe)) for each in self.made_by):
            return ""
        return ", ".join(differences(self.made_by[-1], recipe))


def _is_recipe(value: Json) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("writer"), dict)
        and isinstance(value.get("settings", {}), dict)
    )
