"""A frozen causal language model, its tokenizer, and the places for LoRAs in it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    modeling_gguf_pytorch_utils,
)
from transformers.utils import logging, quantization_config

from prag_lightning.errors import InputError, PragError
from prag_lightning.llm.gate import (
    TESTED_TYPES,
    check_reach,
    check_tokenizer,
    check_weights,
    count_embeddings,
    try_padding,
)
from prag_lightning.llm.greedy import end_tokens, greedy_config, settings_in_force
from prag_lightning.llm.names import SETTING, ModelSource, find_model, model_hint, short_name
from prag_lightning.lora.names import DEFAULT_TARGETS
from prag_lightning.lora.stack import LoraStack, LoraWeights
from prag_lightning.progress import has_bars

if TYPE_CHECKING:
    from lightning import Trainer

_CONTEXT_NAMES = ("max_position_embeddings", "max_seq_len")
DTYPES = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}
"""The LLM's precision by the trainer's; float32 for any other."""


@dataclass
class LLM:
    """A model that is never trained, only carries adapters.

    Args:
        name: Short name, as it stands in paths.
        model: Frozen, in evaluation mode.
        tokenizer: The model's.
        stack: The places for adapters in `model`.
        fingerprint: Hex SHA-256 of configuration and a sample of each parameter: adapters are of one model only.
        pads: Whether rows of different lengths can share a batch.
        busy: Held while the model computes with adapters of one text, since one text at a time can have them.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stack: LoraStack
    fingerprint: str
    pads: bool = True
    busy: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def answer_fingerprint(self) -> str:
        """Hex SHA-256 of what decides an answer: the model, and what its settings ask of decoding."""
        config = self.model.generation_config
        asked = [self.fingerprint, settings_in_force(config), sorted(end_tokens(config))]
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()

    def check_free(self) -> None:
        """See that the model is not in use.

        Raises:
            PragError: if it is still writing a text.
        """
        if self.busy.locked():
            raise _in_use()

    @contextmanager
    def carrying(self, adapters: LoraWeights | None, scaling: float) -> Iterator[None]:
        """Have a stack of adapters in the model, or none, and nothing else compute with it meanwhile.

        Raises:
            PragError: if it is still writing a text.
        """
        if not self.busy.acquire(blocking=False):
            raise _in_use()
        try:
            if adapters is not None:
                self.stack.set(adapters, scaling)
            yield
        finally:
            self.stack.clear()
            self.busy.release()

    def twin(self) -> LLM:
        """The same model with places of its own for adapters: both can be at work at once, and share all parameters.

        Raises:
            PragError: if the model is writing a text.
        """
        with self.carrying(None, 1.0):
            shared = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
            model = deepcopy(self.model, shared)
        return replace(self, model=model, stack=self.stack.of_copy(model), busy=Lock())

    @property
    def pad_id(self) -> int:
        """The token that fills rows."""
        return padding_token(self.model, self.tokenizer)

    @property
    def vocabulary(self) -> int:
        """Tokens that the model has an embedding for."""
        return count_embeddings(self.model)

    @property
    def context(self) -> int:
        """Most tokens that the model was made to read at once."""
        config = self.model.config.get_text_config()
        longest = next(filter(None, (getattr(config, name, None) for name in _CONTEXT_NAMES)), sys.maxsize)
        return int(longest)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return self.model.device


def load_llm(
    model_name: str,
    *,
    target_modules: Sequence[str] = DEFAULT_TARGETS,
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
    setting: str = SETTING,
) -> LLM:
    """Load a frozen model with places for LoRAs.

    Args:
        model_name: A short name, a folder, a GGUF file, or a hub id.
        target_modules: Which linear layers carry adapters.
        dtype: Precision of the parameters; `None` leaves the checkpoint's own.
        device: Where to put it.
        trust_remote_code: Run code that comes with the model.
        setting: The one that has the name, for messages.

    Raises:
        InputError: if there is no such model, or it cannot be loaded.
    """
    source = find_model(model_name, setting)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    weights: dict[str, Any] = {"use_safetensors": True, "dtype": "auto"}
    if source.gguf_file is not None:
        options["gguf_file"] = source.gguf_file
        weights = {"dtype": torch.float32, **_unpacked()}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.location, **options)
        with _bars_as_ours():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source.location, output_loading_info=True, ignore_mismatched_sizes=True, **weights, **options
            )
    except Exception as error:  # whatever a folder of rubbish makes of transformers, tokenizers and safetensors
        raise _unloadable(model_name, source, setting, error) from error
    model, loading = loaded
    check_weights(model, loading, model_name, setting)
    check_tokenizer(tokenizer, model, model_name, setting)
    model.generation_config = greedy_config(model.generation_config)
    fingerprint = _fingerprint(model)
    model.to(device=device, dtype=dtype)
    model.eval()
    stack = LoraStack(model, target_modules)
    name = short_name(model_name)
    check_reach(stack, name)
    pad_id = padding_token(model, tokenizer)
    pads = model.config.model_type in TESTED_TYPES or try_padding(model, stack, pad_id, name, setting)
    return LLM(name, model, tokenizer, stack, fingerprint, pads)


def padding_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills rows: the tokenizer's, where the model has an embedding for it, or the one that ends texts.
    Nothing reads it, and texts are cut before it."""
    embeddings = count_embeddings(model)
    ends = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((token for token in ends if token is not None and token < embeddings), 0)


def load_llm_for(
    trainer: Trainer,
    model_name: str,
    target_modules: Sequence[str] = DEFAULT_TARGETS,
    *,
    trust_remote_code: bool,
    setting: str = SETTING,
) -> LLM:
    """Load a model to a trainer's device and in its precision; see `load_llm`."""
    return load_llm(
        model_name,
        target_modules=target_modules,
        dtype=DTYPES.get(str(trainer.precision), torch.float32),
        device=trainer.strategy.root_device,
        trust_remote_code=trust_remote_code,
        setting=setting,
    )


def parameter_bytes(model_name: str, dtype: torch.dtype, *, trust_remote_code: bool = False) -> int:
    """What a model's parameters take in a precision, from its configuration alone.

    Raises:
        InputError: if there is no such model.
    """
    source = find_model(model_name)
    options = {"trust_remote_code": trust_remote_code}
    gguf = {} if source.gguf_file is None else {"gguf_file": source.gguf_file}
    try:
        config = AutoConfig.from_pretrained(source.location, **options, **gguf)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **options)  # type: ignore[no-untyped-call]
    except Exception as error:  # see `load_llm`
        raise _unloadable(model_name, source, SETTING, error) from error
    return sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize


def _in_use() -> PragError:
    hint = "Take the pieces of that one to the end, or close its iterator"
    return PragError("the model is still writing another answer", hint=hint)


@contextmanager
def _bars_as_ours() -> Iterator[None]:
    """Let transformers show its bars where ours are shown; that of GGUF files is none that its own switch reaches."""
    gguf: Any = modeling_gguf_pytorch_utils
    bar, has_switch = gguf.tqdm, logging.is_progress_bar_enabled()
    if not has_bars():
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        gguf.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        gguf.tqdm = bar
        if has_switch:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _unpacked() -> dict[str, Any]:
    """What makes transformers give a GGUF file's weights as plain matrices: newer versions else keep them quantized
    where they have a kernel for it, and adapters need linear layers."""
    config = getattr(quantization_config, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _unloadable(model_name: str, source: ModelSource, setting: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if "trust_remote_code" in str(error):
        return InputError(
            f"the model {model_name!r} comes with code of its own, which is not run unless you say so",
            where=setting,
            hint="If you have read it and trust it, set model.trust_remote_code to true",
        )
    hint = model_hint() if source.gguf_file is None else "Take a GGUF file of an architecture that transformers reads"
    return InputError(f"the model {model_name!r} cannot be loaded: {reason}", where=setting, hint=hint)


def _fingerprint(model: PreTrainedModel) -> str:
    config = {key: value for key, value in model.config.to_dict().items() if not key.startswith(("_", "transformers"))}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, parameter in model.named_parameters():
        values = parameter.detach().flatten()
        sample = values[:: max(1, values.numel() // 64)].float().cpu()
        digest.update(name.encode() + sample.numpy().tobytes())
    return digest.hexdigest()
