"""The gate that a model passes at loading: what it must be for answers and adapters to be right is looked at, or tried
out on a few tokens, and a model that is not so is refused by name or treated otherwise, in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from prag_lightning.errors import InputError
from prag_lightning.llm.greedy import end_tokens
from prag_lightning.lora.stack import LoraStack, LoraWeights

TESTED_TYPES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3")
"""Model types that tests try out, so that loading need not."""

_SHORT, _LONG, _STEPS = 5, 9, 4
"""Tokens of the two prompts that are tried out, and of their continuations."""
_LEAST_KNOWN = 0.5
"""A tokenizer with fewer of the model's tokens is another model's; embeddings are padded by some percent at most."""
_NAMED = 3
"""So many names stand in a message."""


def note(text: str) -> None:
    """Say something about the model in one line."""
    print(text, file=sys.stderr)


def count_embeddings(model: PreTrainedModel) -> int:
    """How many tokens the model knows."""
    return len(cast(Tensor, model.get_input_embeddings().weight))


def check_weights(model: PreTrainedModel, loading: Mapping[str, Any], model_name: str, setting: str) -> None:
    """Whether each tensor of the model came from the checkpoint, and each of the checkpoint's is in the model.

    Args:
        model: As it was loaded.
        loading: transformers' `output_loading_info`.
        model_name: For messages.
        setting: The one that has the name, for messages.

    Raises:
        InputError: if one is missing or of another shape, for transformers then draws it at random; or if the model has
            the place but no use for one, such as a bias.
    """
    missing, unexpected = sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"])
    wrong = [f"{name} is {list(there)}, not {list(wanted)}" for name, there, wanted in loading["mismatched_keys"]]
    modules = {name for name, _ in model.named_modules()}
    unused = [name for name in unexpected if name.rpartition(".")[0] in modules]
    for what, names in (
        ("lacks", missing),
        ("has tensors of another shape:", sorted(wrong)),
        ("has tensors that its configuration has no use for:", unused),
    ):
        if names:
            others = f"; its own {_some(unexpected)} is not used" if what == "lacks" and unexpected else ""
            raise InputError(
                f"the checkpoint of {model_name!r} {what} {_some(names)}{others}",
                where=setting,
                hint="Get the whole checkpoint, and the config.json that belongs to it",
            )
    if unexpected:
        note(f"{model_name}: not used of the checkpoint: {_some(unexpected)}")


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, model_name: str, setting: str) -> None:
    """Whether the model has an embedding for each token that a prompt may have.

    Raises:
        InputError: if it has not, or the tokenizer knows few of its tokens.
    """
    embeddings = count_embeddings(model)
    added = tokenizer.added_tokens_decoder
    vocabulary = tokenizer.get_vocab()
    needed = set(_template_ids(tokenizer))
    beyond = sorted(token for token, i in vocabulary.items() if i >= embeddings and (i in needed or i not in added))
    if beyond:
        raise InputError(
            f"the tokenizer is not the model's: {_some(beyond)} {'is' if len(beyond) == 1 else 'are'} beyond its "
            f"{embeddings} embeddings",
            where=setting,
            hint=f"Put the tokenizer's files of {model_name!r} into its folder",
        )
    if len(vocabulary) < _LEAST_KNOWN * embeddings:
        raise InputError(
            f"the tokenizer is not the model's: it knows {len(vocabulary)} of its {embeddings} tokens",
            where=setting,
            hint=f"Put the tokenizer's files of {model_name!r} into its folder",
        )
    special = {*added, *tokenizer.all_special_ids}
    for end in end_tokens(model.generation_config):
        if end not in special:
            token = tokenizer.convert_ids_to_tokens(end) if end < len(tokenizer) else None
            note(
                f"{model_name}: its texts end at token {end}, which is "
                + ("none of its tokenizer" if token is None else f"{token!r}, an ordinary one, in its tokenizer")
            )


def _template_ids(tokenizer: PreTrainedTokenizerBase) -> Sequence[int]:
    """The tokens of a chat about nothing; none without a template."""
    if not tokenizer.chat_template:
        return ()
    try:
        rendered = tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    except Exception:  # whatever code a template has: the first prompt will tell
        return ()
    ids: list[int] = tokenizer(str(rendered), add_special_tokens=False).input_ids
    return ids


def check_reach(stack: LoraStack, model_name: str) -> None:
    """Say how many layers adapters reach, if not all, and which experts they do not.

    Raises:
        InputError: if PEFT would put the adapters elsewhere: by the names of linear layers it means the experts'
            matrices in some models, also where other layers have these names.
    """
    layers = {layer for name, _ in stack.model.named_modules() if (layer := _layer(name))}
    reached = {_layer(name) for name in stack.layers}
    experts = _experts(stack.model)
    if stack.layers and experts and (taken := _names_of_experts(stack)):
        raise InputError(
            f"PEFT means the experts by {', '.join(sorted(taken))}, and would not read the adapters of {model_name!r}",
            where="model.target_modules",
            hint="Name linear layers of the attention",
        )
    if stack.layers and (len(reached & layers) < len(layers) or experts):
        beside = f", and none of the experts in {', '.join(experts)}" if experts else ""
        note(f"{model_name}: adapters reach {len(reached & layers)} of {len(layers)} layers{beside}")


def _names_of_experts(stack: LoraStack) -> set[str]:
    """The targets by whose names PEFT means parameters of experts."""
    try:
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    except ImportError:  # of a version that does no such thing
        return set()
    config = LoraConfig(target_modules=list(stack.targets))
    try:
        convert_peft_config_for_transformers(config, model=stack.model, conversions=None)
    except ValueError:  # some of several matrices that are one there
        return set(stack.targets)
    return set(stack.targets) - set(config.target_modules or ())


def _experts(model: nn.Module) -> list[str]:
    """The modules that hold the matrices of several experts as one tensor, with a star for the layer's number."""
    found = set()
    for name, module in model.named_modules():
        stacked = any(parameter.dim() == 3 for parameter in module.parameters(recurse=False))
        if stacked and "expert" in f"{name} {type(module).__name__}".lower():
            found.add(re.sub(r"\.\d+(?=\.|$)", ".*", name))
    return sorted(found)


def _layer(name: str) -> str:
    """The layer of the language model that a module is in, or is; empty if none."""
    match = re.match(r"(?!.*(?:vision|visual|audio)).*?\.(?:layers|h|blocks|block|layer)\.\d+(?=\.|$)", name)
    return match[0] if match else ""


@torch.inference_mode()
def try_padding(model: PreTrainedModel, stack: LoraStack, pad_id: int, model_name: str, setting: str) -> bool:
    """Whether the model continues rows of different lengths in one batch, padded on the left, as it does each alone;
    it is tried out, with random adapters, one a row.

    Args:
        model: In evaluation mode.
        stack: Its places for adapters.
        pad_id: The token that fills rows.
        model_name: For messages.
        setting: The one that has the name, for messages.

    Raises:
        InputError: if rows reach each other also where they are of one length, if a token is read by those before it,
            or if the model cannot continue a prompt at all.
    """
    trial = _Trial(model, stack, pad_id)

    def refuse(what: str) -> InputError:
        return InputError(
            f"{model_name!r} ({model.config.model_type}) {what}",
            where=setting,
            hint="Take another model: docs/models.md has the types that were tried out",
        )

    try:
        if not trial.is_causal():
            raise refuse("is not causal: its tokens read those that follow them")
        if trial.same(_SHORT, _LONG):
            return True
        if not trial.same(_LONG, _LONG):
            raise refuse("mixes the rows of a batch, so that each would be answered with others' adapters")
    except InputError:
        raise
    except Exception as error:  # whatever a model's code makes of a prompt
        raise refuse(f"cannot continue a prompt: {' '.join(str(error).split())[:200]}") from error
    note(f"{model_name} ({model.config.model_type}): padding reaches its texts, so prompts of one length share a batch")
    return False


class _Trial:
    """Compares what a model makes of rows in a batch and alone.

    Args:
        model: In evaluation mode.
        stack: Its places for adapters.
        pad_id: The token that fills rows.
    """

    def __init__(self, model: PreTrainedModel, stack: LoraStack, pad_id: int) -> None:
        self.model, self.stack, self.pad_id = model, stack, pad_id
        self.generator = torch.Generator().manual_seed(0)
        self.vocabulary = count_embeddings(model)
        self.tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2

    def is_causal(self) -> bool:
        """Whether a token's scores stay when those after it are others."""
        ids = self._tokens(2, _LONG)
        ids[1, :_SHORT] = ids[0, :_SHORT]
        first, second = self.model(input_ids=ids.to(self.model.device), use_cache=False).logits[:, :_SHORT].float()
        return bool((self._error(first, second) <= self.tolerance).sum() * 2 > _SHORT)

    def same(self, *lengths: int) -> bool:
        """Whether rows of these lengths have the same scores in a batch as alone, at most of the steps: where experts
        are chosen, rounding alone may change a choice now and then."""
        rows = [self._tokens(1, length) for length in lengths]
        forced = self._tokens(len(rows), _STEPS)
        adapters = {name: self._adapter(*shapes, len(rows)) for name, shapes in self.stack.shapes(4).items()}
        together = self._scores(rows, forced, adapters)
        for i, row in enumerate(rows):
            own = {name: (lora_a[i : i + 1], lora_b[i : i + 1]) for name, (lora_a, lora_b) in adapters.items()}
            (alone,) = self._scores([row], forced[i : i + 1], own)
            if (self._error(together[i], alone) <= self.tolerance).sum() * 2 <= _STEPS:
                return False
        return True

    def _scores(self, rows: Sequence[Tensor], forced: Tensor, adapters: LoraWeights) -> Tensor:
        """Scores `[N, _STEPS, V]` of continuations whose tokens are given."""
        longest = max(row.shape[1] for row in rows)
        pad = torch.nn.functional.pad
        ids = torch.cat([pad(row, (longest - row.shape[1], 0), value=self.pad_id) for row in rows])
        mask = torch.cat([pad(torch.ones_like(row), (longest - row.shape[1], 0)) for row in rows])
        if adapters:
            self.stack.set(adapters, 1.0)
        try:
            output = self.model.generate(  # type: ignore[operator]
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                max_new_tokens=_STEPS,
                do_sample=False,
                num_beams=1,
                eos_token_id=None,
                pad_token_id=self.pad_id,
                logits_processor=LogitsProcessorList([_Forced(forced.to(self.model.device), longest)]),
                output_logits=True,
                return_dict_in_generate=True,
            )
        finally:
            self.stack.clear()
        return torch.stack(output.logits, dim=1).float()

    def _tokens(self, rows: int, length: int) -> Tensor:
        return torch.randint(self.vocabulary, (rows, length), generator=self.generator)

    def _adapter(self, a: tuple[int, int], b: tuple[int, int], rows: int) -> tuple[Tensor, Tensor]:
        """Random ones, about as large as what they are added to."""
        lora_a, lora_b = (torch.randn(rows, *shape, generator=self.generator) / shape[1] ** 0.5 for shape in (a, b))
        return lora_a.to(self.model.device, self.model.dtype), lora_b.to(self.model.device, self.model.dtype)

    @staticmethod
    def _error(first: Tensor, second: Tensor) -> Tensor:
        """Of each token's scores, relative."""
        error: Tensor = torch.linalg.vector_norm(first - second, dim=-1) / torch.linalg.vector_norm(second, dim=-1)
        return error


class _Forced(LogitsProcessor):
    """Lets each row go on with given tokens.

    Args:
        tokens: Of each step, `[N, steps]`.
        longest: Tokens of the prompts.
    """

    def __init__(self, tokens: Tensor, longest: int) -> None:
        self.tokens, self.longest = tokens, longest

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[N, V]` of the given tokens alone."""
        chosen = self.tokens[:, input_ids.shape[1] - self.longest, None]
        return torch.full_like(scores, float("-inf")).scatter(1, chosen, 0.0)


def _some(names: Sequence[str]) -> str:
    """The first few of names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
