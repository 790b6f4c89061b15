"""What a store was made with: a configuration like any other, which every command finds in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from prag_lightning.data.prompts import read_prompt_file
from prag_lightning.errors import InputError
from prag_lightning.files import read_yaml, write_text
from prag_lightning.llm.names import base_name
from prag_lightning.lora.names import LoraA, Merge
from prag_lightning.memory.contents import CORPUS_FILE
from prag_lightning.pipeline.settings import DataSettings, ModelSettings, as_dict
from prag_lightning.records import Json
from prag_lightning.resources import locate, shipped

CONFIG_FILE, PROMPTS_FILE = "config.yaml", "prompts.yaml"
LOCK = ".lock"
_OF_MERGING = ("merge", "lora_a", "lora_alpha", "lora_rank")
ADAPTERS, AUGMENTED = "adapters", "augmented"
"""Folders within a store."""
_HEAD = "# What this store was made with; prag sync --store FOLDER keeps to it.\n"
_MAY_CHANGE = frozenset(
    "inference_method max_new_tokens answer_extraction abstain_below merge adapters_from topk "
    "per_device_eval_batch_size chat".split()
)
"""Settings that may be others each time: how questions are answered, and where the server stands that writes."""
_OF_THE_PLACE = frozenset(
    "offline_root warmup_root output_root augment_root corpus retriever retrieve_at_test data_path data_type sample "
    "require_answers trust_remote_code".split()
)
"""Settings that the store gives, or that have no part in it."""


def arguments(folder: Path) -> list[str]:
    """What a command line has beside `--config` for everything to be in the store."""
    return [
        f"--model.offline_root={folder / ADAPTERS}",
        f"--data.augment_root={folder / AUGMENTED}",
        f"--data.corpus={folder / CORPUS_FILE}",
        "--data.retrieve_at_test=true",
    ]


def config_of(folder: Path) -> Path:
    """The configuration of a store.

    Raises:
        InputError: if there is no store.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        raise InputError(
            "there is no store",
            where=str(folder),
            hint="Make one with prag sync --documents FOLDER, or name another with --store",
        )
    return path


def check_place(folder: Path) -> None:
    """See that a store can stand in a folder.

    Raises:
        InputError: if something else is there.
    """
    if (folder / CONFIG_FILE).exists():
        return
    begun = {PROMPTS_FILE} if (folder / LOCK).exists() else set()
    if folder.exists() and (
        not folder.is_dir()
        or any(not path.name.startswith(".") and path.name not in begun for path in folder.iterdir())
    ):
        raise InputError("something that is no store stands there", where=str(folder), hint="Name another with --store")


def make_store(folder: Path, model: ModelSettings, data: DataSettings, trainer: Mapping[str, Json]) -> None:
    """Write what a store is made with, where nothing is yet.

    Args:
        folder: The store.
        model: Settings of the LLM and of training.
        data: Settings of prompts, augmentation and cutting.
        trainer: Those of the trainer that decide results.

    Raises:
        InputError: if the settings name a retriever.
    """
    if data.retriever is not None:
        raise InputError(
            "a store searches its own passages, by BM25 in memory", where="data.retriever", hint="Leave it unset"
        )
    write_text(folder / PROMPTS_FILE, _yaml(read_prompt_file(locate(data.prompts))))
    settings = {"model": decisive(model), "data": decisive(data), "trainer": dict(trainer)}
    write_text(folder / CONFIG_FILE, _HEAD + _yaml({name: values for name, values in settings.items() if values}))


def check_settings(folder: Path, model: ModelSettings, data: DataSettings, trainer: Mapping[str, Json]) -> None:
    """See that settings are those that a store was made with, but for how it is asked.

    Args:
        folder: The store.
        model: Settings of the LLM and of training.
        data: Settings of prompts, augmentation and cutting.
        trainer: Those of the trainer that decide results, if adapters may be made.

    Raises:
        InputError: naming the first that is another.
    """
    made_with = read_yaml(config_of(folder), "store's configuration", "Restore it")
    for group, settings in (("model", decisive(model)), ("data", decisive(data)), ("trainer", trainer)):
        held = made_with.get(group) or {}
        for name, value in settings.items():
            if name not in _MAY_CHANGE and value != held.get(name):
                raise InputError(
                    f"{name} is {value!r}, and the store was made with {held.get(name)!r}",
                    where=f"{group}.{name}, {folder}",
                    hint="Leave it as it is, or make another store",
                )


@dataclass(frozen=True)
class MergeSettings:
    """What whoever merges a store's adapters without its model has to know.

    Args:
        merge: The way.
        lora_a: See `LoraA`.
        scaling: Of each adapter's update.
    """

    merge: Merge
    lora_a: LoraA
    scaling: float


def merge_settings(folder: Path, base: str) -> MergeSettings:
    """How a store's adapters are merged.

    Args:
        folder: The store.
        base: The model that they are to be used with, by the name that it is loaded by.

    Raises:
        InputError: if there is no store, or it is of another model or in int4.
    """
    model = read_yaml(config_of(folder), "store's configuration", "Restore it").get("model") or {}
    own = base_name(str(model.get("model_name")))
    if own != base and locate(own).resolve() != Path(base).resolve():
        raise InputError(f"the store is of the model {own}, and this is {base}", where=str(folder))
    settings = ModelSettings(**{name: value for name, value in model.items() if name in _OF_MERGING}, model_name=own)
    if model.get("adapter_format") == "int4":
        raise InputError(
            "adapters in int4 are not merged without their model",
            where=str(folder),
            hint="Write them with prag export --layout vllm",
        )
    return MergeSettings(settings.merge, settings.lora_a, settings.lora_alpha / settings.lora_rank)


def decisive(settings: ModelSettings | DataSettings) -> dict[str, Json]:
    """What is kept of settings: all but places; paths so that they hold in any directory."""
    values = {name: value for name, value in as_dict(settings).items() if name not in _OF_THE_PLACE}
    for name in ("model_name", "augment_model", "base_weight", "general_text"):
        if values.get(name) is not None:
            values[name] = _anywhere(values[name])
    if values.get("base_weight") == "warmup" and isinstance(settings, ModelSettings):
        raise InputError(
            "a store names its base_weight", where="model.base_weight", hint="Give the folder that the warm-up wrote"
        )
    if "target_modules" in values:
        values["target_modules"] = list(values["target_modules"])
    values.pop("prompts", None)
    if isinstance(settings, DataSettings):
        values.pop("model_name", None)
    return values


def _anywhere(name: str) -> str:
    """A path as it holds in any directory: of what ships as it is named, else whole; a name that is no path as it
    is."""
    path = locate(name)
    if not path.exists():
        return name
    path = path.resolve()
    return path.relative_to(shipped().resolve()).as_posix() if path.is_relative_to(shipped().resolve()) else str(path)


def _yaml(values: dict[str, Json]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)
