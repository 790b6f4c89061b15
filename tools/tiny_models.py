"""Tiny models with random weights, one of each type: for what must hold of a type whatever its weights."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

TOKENIZER = Path(__file__).parent.parent / "checkpoints/prag-tiny"
_GATED = ("down_proj", "gate_proj", "up_proj")
_PLAIN = ("down_proj", "up_proj")
_FUSED = ("down_proj", "gate_up_proj")
_FC = ("fc1", "fc2")
_NEOX = ("dense_4h_to_h", "dense_h_to_4h")
_ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
TARGETS = {
    **dict.fromkeys(("arcee", "apertus", "nemotron", "mpt"), _PLAIN),
    **dict.fromkeys(("glm", "glm4", "phi3"), _FUSED),
    **dict.fromkeys(("biogpt", "nanochat", "opt", "phi", "xglm"), _FC),
    **dict.fromkeys(("bloom", "falcon", "gpt_neox", "persimmon"), _NEOX),
    **dict.fromkeys(("codegen", "gptj"), ("fc_in", "fc_out")),
    **dict.fromkeys(("gpt2", "gpt_bigcode", "gpt_neo", "starcoder2"), ("c_fc", "c_proj")),
    **dict.fromkeys(("gpt_oss", "granitemoe", "minimax", "minimax_m2", "mixtral", "olmoe", "qwen3_moe"), _ATTENTION),
    **dict.fromkeys(("falcon_mamba", "mamba", "mamba2"), ("in_proj",)),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3"), ("o_proj", "q_b_proj")),
    **dict.fromkeys(("dots1", "glm4_moe"), _ATTENTION),
    "bert": ("dense",),
    "granitemoehybrid": ("input_linear", "output_linear"),
    "jetmoe": ("kv_proj",),
    "lfm2": ("w1", "w2", "w3"),
    "nemotron_h": _PLAIN,
    "phimoe": _ATTENTION,
    "qwen3_next": ("o_proj", "out_proj"),
    "rwkv": ("key", "value"),
    "zamba2": ("gate_up_proj", "down_proj"),
}
"""The linear layers that carry adapters, where they are not down_proj, gate_proj and up_proj."""

_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "lru_width"), 32),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "shared_intermediate_size", "block_ff_dim"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "context_length"), 256),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "mamba_d_head"), 16),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "attention_window_size", "sliding_window", "chunk_size"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "state_size", "mamba_d_state"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim", "head_dim"), 8),
    **dict.fromkeys(("num_experts_per_tok", "num_key_value_heads", "linear_num_key_heads", "mamba_expand"), 2),
    **dict.fromkeys(("linear_num_value_heads", "linear_num_heads", "mamba_n_heads", "rotary_dim"), 4),
    **dict.fromkeys(("n_group", "topk_group", "mamba_n_groups", "first_k_dense_replace", "n_shared_experts"), 1),
    "initializer_range": 0.2,
}
_HYBRID = ["linear_attention", "full_attention"] * 2
_LATENT = {"head_dim": 8, "num_key_value_heads": 4}
_OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "falcon_h1": {"mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 8},
    "granitemoehybrid": {"layer_types": _HYBRID},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "mamba2": {"num_heads": 8, "n_groups": 1},
    "minimax": {"layer_types": _HYBRID},
    "kimi_linear": {"layer_types": _HYBRID, **_LATENT},
    "youtu": _LATENT,
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "n_mamba_heads": 4, "mamba_ngroups": 1},
}
TYPES = tuple(
    """llama mistral qwen2 qwen3 smollm3 gemma gemma2 gemma3_text phi phi3 olmo olmo2 olmo3 granite stablelm starcoder2
    cohere cohere2 glm glm4 nemotron helium exaone4 ernie4_5 hunyuan_v1_dense seed_oss arcee apertus ministral
    ministral3 diffllama bitnet nanochat vaultgemma doge youtu gpt2 gpt_neo gpt_neox gptj gpt_bigcode opt bloom falcon
    mpt codegen persimmon biogpt xglm mixtral qwen2_moe qwen3_moe olmoe phimoe granitemoe deepseek_v2 deepseek_v3
    gpt_oss glm4_moe dots1 llama4_text jetmoe minimax minimax_m2 mamba mamba2 falcon_mamba recurrent_gemma bamba jamba
    zamba2 falcon_h1 granitemoehybrid nemotron_h qwen3_next qwen3_5_text olmo_hybrid lfm2 kimi_linear rwkv
    bert""".split()
)


def make_tiny(model_type: str, **settings: Any) -> PreTrainedModel:
    """A model of a type, with four layers and weights large enough for its texts to differ."""
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    config_class = CONFIG_MAPPING[model_type]
    known = set(inspect.signature(config_class.__init__).parameters)
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    sizes = {name: value for name, value in _SIZES.items() if name in known}
    config = config_class(vocab_size=len(tokenizer), **ids, **{**sizes, **_OWN.get(model_type, {}), **settings})
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def save_tiny(model_type: str, folder: Path, **settings: Any) -> Path:
    """A model of a type in a folder, with a tokenizer."""
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder)
    make_tiny(model_type, **settings).save_pretrained(folder)
    return folder


def targets(model_type: str) -> tuple[str, ...]:
    """Where a type's adapters are tried out."""
    return TARGETS.get(model_type, _GATED)
