"""The training of a `base_weight`: one LoRA, ordinary steps, gradients averaged over devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from lightning import LightningModule
from torch import Tensor, nn

from prag_lightning.data.boundary import common_prefix
from prag_lightning.errors import InputError, PragError, check_least
from prag_lightning.llm.loading import LLM, load_llm_for
from prag_lightning.llm.names import short_name
from prag_lightning.lora.adapters import random_adapter
from prag_lightning.lora.names import DEFAULT_TARGETS
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.training.examples import Example
from prag_lightning.training.layout import warmup_directory
from prag_lightning.training.loss import frozen_head_cross_entropy, hidden_and_head

Batch = tuple[Tensor, Tensor]
"""Ids `[N, T]`, and which tokens after the first are learnt, `[N, T - 1]`; see `collate`."""


class LoraParameters(nn.Module):
    """One LoRA that is trained; it stays in float32 whatever the precision of the model around it.

    Args:
        weights: Where it starts: A `[r, d_in]` and B `[d_out, r]` a module.
    """

    def __init__(self, weights: LoraWeights) -> None:
        super().__init__()
        self.names = list(weights)
        self.tensors = nn.ParameterList(tensor.clone() for name in self.names for tensor in weights[name])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), recurse)  # type: ignore[no-untyped-call]
        return self

    def stacked(self) -> LoraWeights:
        """The LoRA as a stack of one, through which gradients flow: `[1, r, d_in]` and `[1, d_out, r]` a module."""
        pairs = zip(self.tensors[::2], self.tensors[1::2], strict=True)
        return {name: (a[None], b[None]) for name, (a, b) in zip(self.names, pairs, strict=True)}

    def weights(self) -> LoraWeights:
        """The LoRA as it is now, on the CPU: A `[r, d_in]` and B `[d_out, r]` a module."""
        return {name: (a[0].detach().cpu(), b[0].detach().cpu()) for name, (a, b) in self.stacked().items()}


class WarmupModule(LightningModule):
    """Trains the LoRA that every passage will start from, on questions and answers without passages.

    Epochs, precision, devices and accumulation of gradients are the trainer's.

    Args:
        model_name: The LLM: a published short name, a folder, or a hub id.
        lora_rank: Rank of the adapter.
        lora_alpha: The adapter's update is scaled by lora_alpha / lora_rank.
        learning_rate: Of AdamW.
        objective: published (the loss is over all tokens), answer (over those of the answer alone).
        block_size: Examples are cut at this many tokens.
        target_modules: Linear layers that carry the adapter.
        warmup_root: Root of warm-ups, under which the adapter is written to lora_base_weight/{model}/{direct,cot}.
        resume_every_n_steps: How often the state is kept that an interrupted training goes on from.
        trust_remote_code: Run code that comes with the model.
    """

    def __init__(
        self,
        model_name: str,
        lora_rank: int = 2,
        lora_alpha: int = 32,
        learning_rate: float = 3e-4,
        objective: Literal["published", "answer"] = "published",
        block_size: int = 3000,
        target_modules: Sequence[str] = DEFAULT_TARGETS,
        warmup_root: str = "checkpoints/warmup",
        resume_every_n_steps: int = 50,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        self.strict_loading = False
        self.model_name, self.lora_rank, self.lora_alpha = model_name, lora_rank, lora_alpha
        self.learning_rate, self.objective, self.block_size = learning_rate, objective, block_size
        self.target_modules, self.trust_remote_code = tuple(target_modules), trust_remote_code
        self.warmup_root, self.resume_every_n_steps = Path(warmup_root), resume_every_n_steps
        check_least(self, "model", 1, "lora_rank", "lora_alpha", "block_size", "resume_every_n_steps")

    def configure_model(self) -> None:
        """Load the LLM, once, to the trainer's device and in its precision, and put the random LoRA into it."""
        if hasattr(self, "llm"):
            return
        self.llm: LLM = load_llm_for(
            self.trainer, self.model_name, self.target_modules, trust_remote_code=self.trust_remote_code
        )
        self.network = self.llm.model
        self.lora = LoraParameters(random_adapter(self.llm.stack, self.lora_rank, seed=0))
        self._hidden_and_head = hidden_and_head(self.llm)

    def directory(self, with_cot: bool) -> Path:
        """Where the trained adapter goes."""
        return warmup_directory(self.warmup_root, short_name(self.model_name), with_cot)

    def example(self, prompt: Sequence[int], closed: Sequence[int]) -> Example:
        """What is learnt of a question.

        Args:
            prompt: Up to where the answer begins.
            closed: With the answer.

        Raises:
            InputError: if cutting at block_size leaves nothing to learn.
        """
        first_target = 1 if self.objective == "published" else max(1, common_prefix(prompt, closed))
        example = Example(tuple(closed[: min(self.block_size, self.llm.context)]), first_target)
        if example.num_target_tokens < 1:
            raise InputError(
                f"a prompt of {len(prompt)} tokens has no token to learn from within block_size {self.block_size}",
                where="model.block_size",
                hint="Raise it",
            )
        return example

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with PyTorch's defaults, as published."""
        return torch.optim.AdamW(self.lora.parameters(), lr=self.learning_rate)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The mean loss of the tokens that are learnt."""
        loss = self._loss(batch)
        if not torch.isfinite(loss):
            raise PragError(
                f"training diverged at step {self.global_step}: the loss is {float(loss)}",
                where="model.learning_rate",
                hint="Lower it",
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The mean loss of rows that are not learnt."""
        self.log("val/loss", self._loss(batch), batch_size=len(batch[0]), sync_dist=True)

    def _loss(self, batch: Batch) -> Tensor:
        ids, is_target = batch
        self.llm.stack.set(self.lora.stacked(), self.lora_alpha / self.lora_rank)
        hidden, head, bias = self._hidden_and_head(ids)
        labels = ids[:, 1:][is_target]
        weights = torch.full(labels.shape, 1 / len(labels), dtype=torch.float32, device=ids.device)
        mean, _ = frozen_head_cross_entropy(hidden[:, :-1][is_target], head, bias, labels, weights)
        return mean

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the frozen LLM out of checkpoints, and say which it is."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: state[name] for name in state if name.startswith("lora.")}
        checkpoint["llm"] = self.llm.fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Look whether it is of the same LLM.

        Raises:
            InputError: if it is not.
        """
        if checkpoint.get("llm") != self.llm.fingerprint:
            raise InputError(
                f"the unfinished warm-up is of another model than {self.model_name!r} is now",
                where=str(self.warmup_root),
                hint="Delete it, or set model.warmup_root to another folder",
            )
