"""The method as plain PEFT does it: what the engine must equal, and what its speed is measured against.

Written from the method's description: one passage at a time, one question at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

TARGETS = ["down_proj", "gate_proj", "up_proj"]


def make_base_weight(model: PreTrainedModel, directory: Path, rank: int, alpha: int, seed: int = 0) -> None:
    """Write the random adapter that every passage starts from."""
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, task_type="CAUSAL_LM")
    get_peft_model(copy.deepcopy(model), config).save_pretrained(str(directory))


def train(
    model: PreTrainedModel,
    base_weight: Path,
    examples: Sequence[tuple[Sequence[int], int]],
    *,
    batch_size: int = 1,
    epochs: int = 1,
    learning_rate: float = 3e-4,
    pad_to: int = 0,
    teachers: Sequence[Sequence[int]] = (),
) -> dict[str, torch.Tensor]:
    """Train one passage's adapter: wrap the model, train, unwrap it again.

    Args:
        model: Is given back as it was.
        base_weight: Where the adapter starts from, a PEFT directory.
        examples: Token ids, and the first position of the loss.
        batch_size: Examples a step.
        epochs: How often each example is seen.
        learning_rate: Of AdamW.
        pad_to: Tokens that every example is padded to; the published scripts pad to 3000.
        teachers: For distillation, the ids that the model without an adapter sees for each example, ending in the same
            tokens; empty for an example that has no teacher.

    Returns:
        The adapter's tensors by PEFT's names.
    """
    peft_model = PeftModel.from_pretrained(model, str(base_weight), is_trainable=True)
    optimizer = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=learning_rate)
    for _ in range(epochs):
        for start in range(0, len(examples), batch_size):
            batch = examples[start : start + batch_size]
            longest = max(pad_to, *(len(ids) for ids, _ in batch))
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            mask = torch.zeros_like(ids)
            labels = torch.full_like(ids, -100)
            for row, (tokens, first_target) in enumerate(batch):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                mask[row, : len(tokens)] = 1
                labels[row, first_target : len(tokens)] = torch.tensor(tokens[first_target:])
            device = peft_model.device
            optimizer.zero_grad()
            output = peft_model(input_ids=ids.to(device), attention_mask=mask.to(device), labels=labels.to(device))
            loss = output.loss
            if any(seen := teachers[start : start + batch_size]):
                num_target_tokens = sum(len(tokens) - first_target for tokens, first_target in batch)
                loss = sum(map(partial(_row_loss, peft_model), output.logits, batch, seen)) / num_target_tokens
            loss.backward()
            optimizer.step()
    tensors = {
        name.replace(".default", ""): parameter.detach().clone()
        for name, parameter in peft_model.named_parameters()
        if "lora_" in name
    }
    peft_model.unload()
    return tensors


def _row_loss(
    peft_model: PeftModel, logits: torch.Tensor, example: tuple[Sequence[int], int], teacher_ids: Sequence[int]
) -> torch.Tensor:
    """The sum over an example's tokens of KL(teacher || student), which both predict from what comes before, or
    without a teacher of their cross-entropy."""
    tokens, first_target = example
    got = logits[first_target - 1 : len(tokens) - 1].log_softmax(-1)
    if not teacher_ids:
        return torch.nn.functional.nll_loss(got, torch.tensor(tokens[first_target:]), reduction="sum")
    with torch.no_grad(), peft_model.disable_adapter():
        wanted = peft_model(input_ids=torch.tensor([list(teacher_ids)])).logits[0, -len(got) - 1 : -1]
    return torch.nn.functional.kl_div(got, wanted.log_softmax(-1), log_target=True, reduction="sum")


def answer(model: PreTrainedModel, prompt: Sequence[int], adapters: Sequence[Path], max_new_tokens: int) -> list[int]:
    """Answer one question: load its passages' adapters, merge them, generate, take them out.

    Args:
        model: Is given back as it was.
        prompt: Token ids.
        adapters: PEFT directories of the question's passages; none leaves the model as it is.
        max_new_tokens: Longest answer.

    Returns:
        The answer's token ids.
    """
    asked: torch.nn.Module = model
    peft_model = None
    if adapters:
        peft_model = PeftModel.from_pretrained(model, str(adapters[0]), adapter_name="0")
        for number, directory in enumerate(adapters[1:], 1):
            peft_model.load_adapter(str(directory), adapter_name=str(number))
        names = [str(number) for number in range(len(adapters))]
        peft_model.add_weighted_adapter(names, [1.0] * len(names), "merged", combination_type="cat")
        peft_model.set_adapter("merged")
        asked = peft_model
    ids = torch.tensor([list(prompt)], device=model.device)
    with torch.inference_mode():
        output = asked.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False
        )
    if peft_model is not None:
        peft_model.unload()
    new_ids: list[int] = output[0, len(prompt) :].tolist()
    return new_ids
