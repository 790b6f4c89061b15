"""What decides a result, and the folder that it has to itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from prag_lightning.errors import InputError
from prag_lightning.files import path_in_errors, read_json, visible, write_json
from prag_lightning.inference.methods import uses_adapters
from prag_lightning.records import Json

IDENTITY, MADE_BY = "identity", "made_by"
"""The keys of `config.json` that have it, and what has no part in it: versions, devices and so on."""
CONFIG_FILE, RESULT_FILE, PREDICTIONS, UNSCORED = "config.json", "result.txt", "predict.json", "answers.json"
"""Of a result: its settings, its scores, its answers, and answers without scores beside others with."""
_IN_PATH = frozenset(
    {
        *("dataset", "augment_model", "with_cot", "inference_method", "merge", "adapters_from"),
        *("lora_rank", "lora_alpha", "learning_rate", "num_train_epochs", "base_weight", "lora_a", "null_space"),
        *("objective", "include_text", "locality", "distill_samples"),
    }
)
"""Settings that folders above a result name."""
_OF_NO_ANSWER = frozenset(
    {
        *("offline_root", "warmup_root", "output_root", "augment_root", "trust_remote_code", "group_tokens"),
        *(
            "data_path",
            "data_type",
            "sample",
            "require_answers",
            "per_device_eval_batch_size",
            "augment",
            "chat",
            "splitter",
        ),
    }
)
"""Settings that say where things are, how fast they are done, which questions are asked, or how passages were
augmented."""
_BY_CONTENT = frozenset({"model_name", "prompts", "template_date", "corpus", "retriever", "general_text"})
"""Settings in whose place the identity has what they name."""
_OF_PASSAGES = frozenset({"topk", "retrieve_at_test"})
_OF_ADAPTERS = frozenset({"per_device_train_batch_size", "block_size", "adapter_format", "target_modules"})
_NOT_ALWAYS = frozenset({"abstain_below", "retriever", "sample"})
"""Are in an identity only where they decide."""
_HASHED = frozenset({"model", "prompts", "retriever"})
_HASH_LENGTH = 8
_LONGEST_SUFFIX = 120
_SUFFIX = re.compile(r"_([a-z]+(?:_[a-z]+)*)=([^_=]*)")


def result_identity(method: str, settings: Mapping[str, Json], content: Mapping[str, Json]) -> dict[str, Json]:
    """All that decides the answers of a result and their scores, beyond what its path says.

    Args:
        method: The inference method.
        settings: Of model and data, by name; `None` only where that is what decides. A setting that is unknown here
            decides.
        content: What stands for the model, the prompts and whatever else no setting's value tells: hashes, mostly.
    """
    indifferent = _IN_PATH | _OF_NO_ANSWER | _BY_CONTENT
    indifferent |= frozenset() if uses_adapters(method) else _OF_ADAPTERS
    indifferent |= _OF_PASSAGES if method == "vanilla" else frozenset()
    chosen = {name: value for name, value in settings.items() if name not in indifferent}
    return dict(sorted({**chosen, **content}.items()))


def content_hash(value: Json) -> str:
    """Hex SHA-256 of a JSON value, for an identity."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class ResultFolder:
    """The folder that results have to themselves.

    Args:
        folder: It.
        config: For `config.json` in it.
        reason: What the published folder holds instead; empty if that is it.
    """

    folder: Path
    config: Mapping[str, Json]
    reason: str


def claim_folder(
    folder: Path, config: Mapping[str, Json], questions: Mapping[str, int], *, scored: bool = True
) -> ResultFolder:
    """The folder of a method's results that none of another identity shares; its splits get their `config.json` now, so
    that nobody else takes it.

    The published folder is for the first identity that asks. Any other has a folder beside it, named by the settings
    that differ from the first's, such as `icl_topk=1`. Whoever has one keeps it. Results of more questions take the
    place of those of fewer, and never the other way round: a smaller `sample` than what is there has a folder beside
    it too.

    Args:
        folder: The published one, `…/{method}`.
        config: For `config.json`, with an identity.
        questions: How many there are, by split.
        scored: Whether their answers are scored.
    """
    with path_in_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".results.lock"):
        chosen = _own_folder(folder, config[IDENTITY])
        if any(_holds_more(chosen / split, config, count, scored) for split, count in questions.items()):
            config = {**config, IDENTITY: {**config[IDENTITY], "sample": config["data"]["sample"]}}
            chosen = _own_folder(folder, config[IDENTITY])
        reason = "" if chosen == folder else _held(folder, config[IDENTITY])
        for split in questions:
            if _config(chosen / split) is None:
                write_json(chosen / split / CONFIG_FILE, config)
    return ResultFolder(chosen, config, reason)


def _own_folder(folder: Path, identity: Mapping[str, Json]) -> Path:
    beside = visible(folder.parent, f"{folder.name}_*")
    for path in (folder, *beside):
        if (held := _identities(path)) and all(other == identity for other in held):
            return path
    first = _identities(folder)
    if not first:
        return folder
    named = folder.with_name(folder.name + _difference(identity, first))
    return named if not _identities(named) else folder.with_name(folder.name + _hashed(identity))


def _identities(folder: Path) -> list[Json]:
    """Those of the results in a method's folder; `None` for one that does not say, which no other equals."""
    configs = [_config(path) for path in visible(folder, "*")]
    return [config.get(IDENTITY) for config in configs if config is not None]


def answers_file(directory: Path, *, scored: bool) -> Path:
    """Where answers go: those without scores beside those that have some."""
    return directory / (UNSCORED if not scored and (directory / RESULT_FILE).exists() else PREDICTIONS)


def _holds_more(directory: Path, config: Mapping[str, Json], count: int, scored: bool) -> bool:
    """Whether answers of more questions than `count` would be replaced by those of another `sample`."""
    path, held = answers_file(directory, scored=scored), _config(directory) or {}
    if path.name == PREDICTIONS and _part(held, "data").get("sample") == config["data"]["sample"]:
        return False
    rows = _json(path)
    return isinstance(rows, list) and len(rows) > count


def _held(folder: Path, identity: Mapping[str, Json]) -> str:
    """What a folder has that is not of this identity, in words."""
    for path in visible(folder, "*"):
        config = _config(path) or {IDENTITY: identity}
        version = _part(_part(config, MADE_BY), "versions").get("prag-lightning")
        named = f"another version, {version}," if version else "an earlier version"
        if not isinstance(config.get(IDENTITY), Mapping):
            return f"results of {named} which do not say what decided them"
        if unknown := sorted((identity.keys() ^ config[IDENTITY].keys()) - _NOT_ALWAYS):
            return f"results of {named} which knows other settings ({', '.join(unknown)})"
    larger = {name: value for name, value in identity.items() if name != "sample"}
    return "results of " + ("more questions" if larger in _identities(folder) else "other settings")


def _part(value: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    part = value.get(key)
    return part if isinstance(part, Mapping) else {}


def _config(directory: Path) -> Mapping[str, Json] | None:
    """The settings of a result; of one that says nothing, which is no result, `None`."""
    config = _json(directory / CONFIG_FILE)
    return config if isinstance(config, Mapping) else None


def _json(path: Path) -> Json:
    """What a file holds; `None` for none and for one that is damaged."""
    try:
        return read_json(path, "") if path.exists() else None
    except InputError:
        return None


def _difference(identity: Mapping[str, Json], others: Sequence[Json]) -> str:
    """The settings in which an identity differs from others, as the end of a folder's name."""
    if not all(isinstance(other, Mapping) for other in others):
        return _hashed(identity)
    names = [name for name, value in identity.items() if any(other.get(name) != value for other in others)]
    readable = [name for name in names if name not in _HASHED] or names
    suffix = "".join(f"_{name}={_value(identity[name])}" for name in readable)
    return suffix if suffix and len(suffix) <= _LONGEST_SUFFIX else _hashed(identity)


def _hashed(identity: Mapping[str, Json]) -> str:
    return f"_settings={content_hash(identity)[:_HASH_LENGTH]}"


def _value(value: Json) -> str:
    """A setting's value as a part of a folder's name."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    text = "+".join(map(str, parts)).replace("_", "-")
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return text[:_HASH_LENGTH]
    return text if re.fullmatch(r"[A-Za-z0-9.+-]+", text) else content_hash(value)[:_HASH_LENGTH]


def method_settings(name: str) -> tuple[str, dict[str, str]]:
    """A method's folder name as the method, with its merge and control, and the settings that tell it from others.

    >>> method_settings("prag-mean_max_new_tokens=64_topk=1")
    ('prag-mean', {'max_new_tokens': '64', 'topk': '1'})
    """
    settings = dict(_SUFFIX.findall(name))
    return (name.partition("_")[0] if settings else name), settings
