"""A frozen causal language model, its tokenizer, and the places for LoRAs in it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from prag_lightning.errors import InputError
from prag_lightning.llm.cpu import keep_freed_memory, use_cpu_products, use_float32_attention
from prag_lightning.lora.stack import DEFAULT_TARGETS, LoraStack

if TYPE_CHECKING:
    from lightning import Trainer

MODEL_IDS = {
    "llama3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
    "qwen2.5-1.5b-instruct": "Qwen/Qwen2.5-1.5B-Instruct",
    "llama3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
}
"""The published short names of models; any other name is a path or a hub id."""
DTYPES = {"bf16-true": torch.bfloat16, "16-true": torch.float16}
"""The LLM's precision by the trainer's; float32 for any other."""


@dataclass
class LLM:
    """A model that is never trained, only carries adapters.

    Args:
        name: Short name, as it stands in paths.
        model: Frozen, in evaluation mode.
        tokenizer: With a padding token.
        stack: The places for adapters in `model`.
        fingerprint: Hex SHA-256 of configuration and a sample of each parameter: adapters are of one model only.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stack: LoraStack
    fingerprint: str

    @property
    def pad_id(self) -> int:
        """The token that fills rows."""
        return int(self.tokenizer.pad_token_id or 0)

    @property
    def context(self) -> int:
        """Most tokens that the model was made to read at once."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or sys.maxsize)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return self.model.device


def short_name(model_name: str) -> str:
    """A model's name as it stands in paths: a published short name, or the last part of a path or hub id."""
    for name, hub_id in MODEL_IDS.items():
        if model_name == hub_id:
            return name
    return Path(model_name).name


def load_llm(
    model_name: str,
    *,
    target_modules: Sequence[str] = DEFAULT_TARGETS,
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
) -> LLM:
    """Load a frozen model with places for LoRAs.

    Args:
        model_name: A published short name, a path, or a hub id.
        target_modules: Which linear layers carry adapters.
        dtype: Precision of the parameters; `None` leaves the checkpoint's own.
        device: Where to put it.
        trust_remote_code: Run code that comes with the model.

    Raises:
        InputError: if there is no such model, or it cannot be loaded.
    """
    source = MODEL_IDS.get(model_name, model_name)
    if _is_path(source):
        _check_folder(Path(source))
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", use_safetensors=True, **options)
    except Exception as error:  # whatever a folder of rubbish makes of transformers, tokenizers and safetensors
        raise _unloadable(model_name, error) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    fingerprint = _fingerprint(model)
    model.to(device=device, dtype=dtype)  # type: ignore[call-arg]
    model.eval()  # type: ignore[no-untyped-call]
    if torch.device(device).type == "cpu":
        keep_freed_memory()
        use_float32_attention(model)
        use_cpu_products(model)
    return LLM(short_name(model_name), model, tokenizer, LoraStack(model, target_modules), fingerprint)


def load_llm_for(
    trainer: Trainer, model_name: str, target_modules: Sequence[str] = DEFAULT_TARGETS, *, trust_remote_code: bool
) -> LLM:
    """Load a model to a trainer's device and in its precision; see `load_llm`."""
    return load_llm(
        model_name,
        target_modules=target_modules,
        dtype=DTYPES.get(str(trainer.precision), torch.float32),
        device=trainer.strategy.root_device,
        trust_remote_code=trust_remote_code,
    )


def parameter_bytes(model_name: str, dtype: torch.dtype, *, trust_remote_code: bool = False) -> int:
    """What a model's parameters take in a precision, from its configuration alone.

    Raises:
        InputError: if there is no such model.
    """
    source = MODEL_IDS.get(model_name, model_name)
    if _is_path(source):
        _check_folder(Path(source))
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(model_name, error) from error
    return sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize


def _unloadable(model_name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return InputError(
        f"the model {model_name!r} cannot be loaded: {reason}",
        where="model.model_name",
        hint=f"Give a folder, a hub id that you have access to, or one of {', '.join(MODEL_IDS)}",
    )


def _is_path(source: str) -> bool:
    """Whether a name means a folder here rather than a hub id, which has one slash at most and no folder of its
    owner's name."""
    path = Path(source)
    return (
        path.is_absolute()
        or source.startswith(".")
        or len(path.parts) > 2
        or path.exists()
        or (len(path.parts) == 2 and path.parent.is_dir())
    )


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(
            f"no model at {str(folder)!r}: no such folder, or no config.json in it",
            where="model.model_name",
            hint=f"Give a folder, a hub id, or one of {', '.join(MODEL_IDS)}",
        )


def _fingerprint(model: PreTrainedModel) -> str:
    config = {key: value for key, value in model.config.to_dict().items() if not key.startswith(("_", "transformers"))}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        sample = values[:: max(1, values.numel() // 64)].float().cpu()
        digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()
