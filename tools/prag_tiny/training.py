"""Training prag-tiny from nothing."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from prag_lightning.data.prompts import PromptTemplates
from prag_lightning.files import read_json, write_json
from prag_lightning.progress import Progress
from tools.prag_tiny.packing import Batch, Tree, pack
from tools.prag_tiny.tasks import Jobs, training_texts
from tools.prag_tiny.tokenizer import train_tokenizer
from tools.prag_tiny.world import Entity, World

_ROPE_THETA = 500_000.0
"""As Llama 3: with slow rotations, names match over any distance."""
_TAUGHT_LAYER = -2
"""The layer whose first head is taught where to look: those below can gather by then what a word is said about."""
_WARM_UP_STEPS = 100
_CHOOSING_FIRST = 0.4
"""The share of training over which choosing among single statements gives way to the other jobs."""
_CHOICE = 1.5
"""How much a batch is chosen from, in batches: the more, the fewer places stay empty."""
_UNSEEN = -1e4
_RECORD_FILE = "training.json"
_STEPS_BETWEEN_LINES, _STEPS_BETWEEN_SAVES = 50, 250


@dataclass(frozen=True)
class TinySettings:
    """Size and training of the model.

    Args:
        steps: Optimiser steps at most.
        minutes: Finish after so long; the learning rate follows whichever limit is nearer.
        seed: Decides world, weights and order.
        width: Of the hidden states.
        layers: Transformer layers.
        heads: Of attention, a layer.
        ffn: Width of the feed-forward layers.
        vocab_size: Tokens.
        context: Longest sequence that the model takes.
        rows: Rows in a step.
        row_length: Tokens in a row.
        learning_rate: At its peak, for Muon (with updates matched to AdamW's) and AdamW alike.
        known_entities: How many entities the model learns by heart.
        compiled: Compile the step, which pays after a minute.
    """

    steps: int = 100_000
    minutes: float = math.inf
    seed: int = 0
    width: int = 256
    layers: int = 4
    heads: int = 8
    ffn: int = 768
    vocab_size: int = 1792
    context: int = 1024
    rows: int = 12
    row_length: int = 512
    learning_rate: float = 2e-3
    known_entities: int = 300
    compiled: bool = True


@dataclass(frozen=True)
class TrainingRecord:
    """What a training took so far.

    Args:
        commands: How it was started, and how it was gone on with after interruptions.
        steps: Optimiser steps.
        tokens: Places in their batches.
        minutes: On the clock.
        loss: Weighted mean over tokens, averaged over the last fifty steps or so.
        device: What it ran on.
    """

    commands: tuple[str, ...]
    steps: int = 0
    tokens: int = 0
    minutes: float = 0.0
    loss: float = math.nan
    device: str = ""


def read_record(folder: Path) -> tuple[TinySettings, TrainingRecord]:
    """Settings and record of the model in `folder`."""
    training = read_json(folder / _RECORD_FILE, "Train a model first")
    return TinySettings(**training["settings"]), TrainingRecord(**training["record"])


def known_entities(settings: TinySettings) -> list[Entity]:
    """The entities that the model learns by heart."""
    world = World(settings.seed + 1, demo=False)
    return [world.entity() for _ in range(settings.known_entities)]


def new_model(settings: TinySettings, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A Llama with random weights."""
    torch.manual_seed(settings.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.ffn,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.context,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def train(settings: TinySettings, prompts: PromptTemplates, out: Path, earlier: TrainingRecord) -> TrainingRecord:
    """Train tokenizer and model, and save them under `out`, now and then and at the end.

    Args:
        settings: Size and training.
        prompts: The pipeline's templates.
        out: A folder; if `earlier` has steps, it holds the model to go on with.
        earlier: What was done before, and the command that is running.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    tokenizer, model = _load(out) if earlier.steps else _create(settings, prompts, out)
    model.to(device)  # type: ignore[arg-type]
    jobs = Jobs(World(settings.seed + 3 + earlier.steps, demo=False), known_entities(settings), prompts, tokenizer)
    batches = _batches(jobs, settings)
    optimizers = _optimizers(model, settings.learning_rate)
    loss_of: Callable[[LlamaForCausalLM, Batch], Tensor] = _loss
    if settings.compiled:
        loss_of = torch.compile(_loss)
    started = time.monotonic()
    record = replace(earlier, device=hardware)
    with Progress("train", settings.steps, "steps") as progress:
        while record.steps < settings.steps and record.minutes < settings.minutes:
            done = max(record.steps / settings.steps, record.minutes / settings.minutes)
            jobs.choosing_share = 0.1 + 0.5 * max(0.0, 1.0 - done / _CHOOSING_FIRST)
            _set_learning_rate(optimizers, settings.learning_rate * _schedule(done, record.steps - earlier.steps))
            loss = loss_of(model, next(batches).to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            record = replace(
                record,
                steps=record.steps + 1,
                tokens=record.tokens + settings.rows * settings.row_length,
                minutes=earlier.minutes + (time.monotonic() - started) / 60,
                loss=loss.item() if math.isnan(record.loss) else 0.98 * record.loss + 0.02 * loss.item(),
            )
            progress.advance(1)
            if record.steps % _STEPS_BETWEEN_LINES == 0:
                print(f"step {record.steps} loss {record.loss:.4f} minutes {record.minutes:.1f}", flush=True)
            if record.steps % _STEPS_BETWEEN_SAVES == 0:
                _save(model, settings, record, out)
    _save(model, settings, record, out)
    return record


def _create(
    settings: TinySettings, prompts: PromptTemplates, out: Path
) -> tuple[PreTrainedTokenizerBase, LlamaForCausalLM]:
    texts = training_texts(World(settings.seed + 2, demo=False), prompts, 4000)
    tokenizer = train_tokenizer(texts, settings.vocab_size, settings.context)
    tokenizer.save_pretrained(out)
    return tokenizer, new_model(settings, tokenizer)


def _load(folder: Path) -> tuple[PreTrainedTokenizerBase, LlamaForCausalLM]:
    return AutoTokenizer.from_pretrained(folder), LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _save(model: LlamaForCausalLM, settings: TinySettings, record: TrainingRecord, out: Path) -> None:
    """Save the weights in bfloat16, each file whole or not at all."""
    with tempfile.TemporaryDirectory(prefix=".saving", dir=out) as folder:
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)  # type: ignore[arg-type]
        for file in Path(folder).iterdir():
            file.chmod(0o644)
            file.replace(out / file.name)
    write_json(out / _RECORD_FILE, {"settings": asdict(settings), "record": asdict(record)})


def _loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Weighted mean of the tokens' losses, and how far the taught head is from looking at what is to be copied.

    From answers alone a model this small hardly learns in an hour to look for a value by the name it belongs to: what
    the lower layers must gather for that pays only once all of it is there. Shown where to look, it does in minutes.
    """
    with torch.autocast(batch.ids.device.type, torch.bfloat16):
        output = model(
            input_ids=batch.ids,
            position_ids=batch.positions,
            attention_mask=batch.mask,
            use_cache=False,
            output_hidden_states=True,
        )
        looking = _looking(model, output.hidden_states[_TAUGHT_LAYER - 1], batch)
    logits = output.logits.float().flatten(0, 1)
    losses = torch.nn.functional.cross_entropy(logits, batch.targets.flatten(), reduction="none")
    return (losses * batch.weights.flatten()).sum() / batch.weights.sum() + looking


def _looking(model: LlamaForCausalLM, hidden: Tensor, batch: Batch) -> Tensor:
    """Mean of -log of the attention that the taught head pays to the places to be copied from, where there are any.

    Args:
        model: The model.
        hidden: What goes into the layer, `[N, T, width]`.
        batch: Says what may be seen, and what should be looked at.
    """
    block = model.model.layers[_TAUGHT_LAYER]
    attention, hidden = block.self_attn, block.input_layernorm(hidden)
    queries, keys = (
        layer(hidden)[..., : attention.head_dim].unsqueeze(1) for layer in (attention.q_proj, attention.k_proj)
    )
    queries, keys = apply_rotary_pos_emb(queries, keys, *model.model.rotary_emb(hidden, batch.positions))
    scores = (queries @ keys.transpose(2, 3) * attention.scaling).float().squeeze(1)
    seen = scores.masked_fill(~batch.mask.squeeze(1), _UNSEEN).logsumexp(-1)
    sought = scores.masked_fill(~batch.copied_from, _UNSEEN).logsumexp(-1)
    asks = batch.copied_from.any(-1)
    distance: Tensor = ((seen - sought) * asks).sum() / asks.sum().clamp_min(1)
    return distance


def _optimizers(model: LlamaForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices within the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def _set_learning_rate(optimizers: list[torch.optim.Optimizer], learning_rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate


def _schedule(done: float, step: int) -> float:
    """Linear warm-up, then cosine decay to a fiftieth."""
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _batches(jobs: Jobs, settings: TinySettings) -> Iterator[Batch]:
    """Full batches of one shape; what finds no room waits for the next."""
    waiting: list[Tree] = []
    while True:
        while sum(len(tree.ids) for tree in waiting) < _CHOICE * settings.rows * settings.row_length:
            examples = [jobs.example(job) for job in jobs.draw()]
            tree = Tree.of(examples)
            fits = len(tree.ids) <= settings.row_length
            waiting += [tree] if fits else [Tree.of([example]) for example in examples]
        batch, waiting = pack(waiting, settings.rows, settings.row_length)
        yield batch
