"""Adapters as llama.cpp and Ollama read them: one GGUF file each."""

from __future__ import annotations

from pathlib import Path

from prag_lightning.errors import InputError
from prag_lightning.lora.stack import LoraWeights

ARCHITECTURES = {
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "llama": "llama",
    "mistral": "llama",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "smollm3": "smollm3",
}
"""llama.cpp's names of the model types that adapters are written for."""
_REORDERED = ("attn_q", "attn_k")
"""Matrices whose rows llama.cpp has in another order than transformers."""


def write_gguf_adapter(path: Path, weights: LoraWeights, scaling: float, model_type: str, layers: int) -> None:
    """Write an adapter, in float32.

    Args:
        path: Of the file, in a folder that exists.
        weights: A `[r, d_in]` and B `[d_out, r]` a module.
        scaling: Of its update: llama.cpp scales by the file's alpha over the rank of the tensors.
        model_type: Of the model, as transformers calls it.
        layers: Of the model.

    Raises:
        InputError: if llama.cpp has no such model, or has a module in another shape.
    """
    names = gguf_names(weights, model_type, layers)
    from gguf import GGUFWriter

    writer = GGUFWriter(path, ARCHITECTURES[model_type])
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    rank = next(iter(weights.values()))[0].shape[0]
    writer.add_float32("adapter.lora.alpha", scaling * rank)
    for module, (lora_a, lora_b) in weights.items():
        writer.add_tensor(f"{names[module]}.weight.lora_a", lora_a.float().contiguous().numpy())
        writer.add_tensor(f"{names[module]}.weight.lora_b", lora_b.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_names(weights: LoraWeights, model_type: str, layers: int) -> dict[str, str]:
    """llama.cpp's name of each module.

    Raises:
        InputError: as `write_gguf_adapter`.
    """
    try:
        from gguf import MODEL_ARCH_NAMES, get_tensor_name_map
    except ImportError as error:
        raise InputError(
            "gguf is not installed", where="--format gguf", hint="pip install 'prag-lightning[gguf]'"
        ) from error
    if model_type not in ARCHITECTURES:
        raise InputError(
            f"adapters of a {model_type} are not written for llama.cpp",
            where="--format gguf",
            hint=f"That is done for {', '.join(ARCHITECTURES)}; export for PEFT",
        )
    (architecture,) = [key for key, name in MODEL_ARCH_NAMES.items() if name == ARCHITECTURES[model_type]]
    known = get_tensor_name_map(architecture, layers)
    names = {}
    for module in weights:
        name = known.get_name(module)
        if name is None or (name.endswith(_REORDERED) and ARCHITECTURES[model_type] == "llama"):
            raise InputError(
                f"llama.cpp has {module} in another shape",
                where="--format gguf",
                hint="Adapt the feed-forward block alone (model.target_modules), or export for PEFT",
            )
        names[module] = name
    return names
