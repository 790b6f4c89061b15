"""The method as plain PEFT does it: one passage at a time, one example after the other. What the engine must equal."""

import copy
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

Tensors = dict[str, torch.Tensor]


def make_base_weight(model: PreTrainedModel, directory: Path, rank: int, alpha: int, seed: int = 0) -> None:
    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=["down_proj", "gate_proj", "up_proj"], task_type="CAUSAL_LM"
    )
    get_peft_model(copy.deepcopy(model), config).save_pretrained(str(directory))


def train(
    model: PreTrainedModel,
    base_weight: Path,
    examples: list[tuple[tuple[int, ...], int]],
    *,
    batch_size: int,
    epochs: int,
    learning_rate: float,
) -> Tensors:
    """Train one passage's adapter; `examples` are token ids and the first position of the loss."""
    peft_model = PeftModel.from_pretrained(copy.deepcopy(model), str(base_weight), is_trainable=True)
    optimizer = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=learning_rate)
    for _ in range(epochs):
        for start in range(0, len(examples), batch_size):
            batch = examples[start : start + batch_size]
            longest = max(len(ids) for ids, _ in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            mask = torch.zeros_like(ids)
            labels = torch.full_like(ids, -100)
            for row, (tokens, loss_from) in enumerate(batch):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                mask[row, : len(tokens)] = 1
                labels[row, loss_from : len(tokens)] = torch.tensor(tokens[loss_from:])
            optimizer.zero_grad()
            peft_model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            optimizer.step()
    return {
        name.replace(".default", ""): parameter.detach().clone()
        for name, parameter in peft_model.named_parameters()
        if "lora_" in name
    }
