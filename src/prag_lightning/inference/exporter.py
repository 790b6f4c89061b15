"""Adapters of questions and passages, written for other software."""

from __future__ import annotations

import filecmp
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peft import LoraConfig
from torch.nn.functional import pad

from prag_lightning.errors import InputError, output_errors
from prag_lightning.files import safe_name, temp_path, write_text
from prag_lightning.inference.answerer import Adapters
from prag_lightning.inference.card import FILE as CARD_FILE
from prag_lightning.inference.card import Card
from prag_lightning.llm.names import GGUF
from prag_lightning.lora.adapters import CONFIG_FILE, WEIGHTS_FILE, named_tensors, write_adapter, write_files
from prag_lightning.lora.gguf_file import write_gguf_adapter
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.lora.weights_file import Origin
from prag_lightning.records import AugmentedPassage, AugmentedQuestion

HINT = "Name another folder with --out"
Scores = Callable[[AugmentedQuestion], Sequence[float]]
Layout = Literal["published", "vllm"]
Format = Literal["peft", "gguf"]
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM has room for (its setting `max_lora_rank`), but for 1."""
GGUF_FILE, MODEL_FILE = "adapter.gguf", "Modelfile"


@dataclass(frozen=True)
class Exporter:
    """Writes adapters as directories below a folder: as PEFT loads them, or llama.cpp.

    Args:
        adapters: Has those of passages, and merges them.
        out: The folder; what else is there is left alone.
        card: Writes what each says of itself.
        rank: Fill adapters up to this rank with zeros, which change nothing: serving engines take certain ranks only.
        layout: `vllm` puts all directories side by side, under the names that clients ask for, and fills adapters up to
            the next rank that vLLM takes.
        format: `gguf` writes a file for llama.cpp in place of PEFT's.

    Raises:
        InputError: for a rank that the layout has no room for.
    """

    adapters: Adapters
    out: Path
    card: Card
    rank: int | None = None
    layout: Layout = "published"
    format: Format = "peft"

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise InputError(f"rank is {self.rank}", where="--rank", hint="Give 1 or more")
        if self.layout == "vllm" and self.rank is not None and self.rank not in VLLM_RANKS:
            raise InputError(
                f"vLLM has no room for rank {self.rank}",
                where="--rank",
                hint=f"Give one of {', '.join(map(str, VLLM_RANKS))}, or none",
            )
        if self.layout == "vllm" and self.format == "gguf":
            raise InputError("vLLM loads no GGUF adapters", where="--format gguf", hint="Leave out one of the two")
        if self.format == "gguf" and self.rank is not None:
            raise InputError("llama.cpp takes any rank", where="--rank", hint="Leave it out")

    def of_questions(
        self,
        records: Mapping[str, Sequence[AugmentedQuestion]],
        test_ids: Collection[int] | None = None,
        *,
        merged: bool = True,
        scores: Scores = lambda _: (),
    ) -> Iterator[Path]:
        """Write the adapters of questions, `{split}/{test_id}`, or of each of their passages,
        `{split}/data_{test_id}/passage_{pid}`.

        Args:
            records: Questions with their passages, by split.
            test_ids: The questions that are wanted; unset means all.
            merged: Whether a question's adapters become one.
            scores: Gives those of a question's passages, if the merge takes them.

        Raises:
            InputError: if a question is in no split, an adapter is missing or of a greater rank, or another one stands
                in its place.
        """
        known = {record.question.test_id for split in records.values() for record in split}
        if unknown := set(test_ids or ()) - known:
            raise InputError(f"there is no question {min(unknown)}", where="--test_ids", hint="Give ids of the split")
        wanted = known if test_ids is None else set(test_ids)
        for split, questions in records.items():
            for record in questions:
                test_id, passages = record.question.test_id, record.passages
                if test_id in wanted and merged:
                    weights = self.adapters.load(passages, test_id, scores(record))
                    yield self._write(f"{split}/{test_id}", weights, passages, record.question.question)
                elif test_id in wanted:
                    for passage in passages:
                        place = f"{split}/data_{test_id}/passage_{passage.pid}"
                        weights = self.adapters.load([passage], test_id)
                        yield self._write(place, weights, [passage], record.question.question)

    def of_passages(self, passages: Mapping[str, AugmentedPassage], *, merged: bool = True) -> Iterator[Path]:
        """Write the adapter of a set of passages, `merged`, or each passage's own, `passage_{id}`.

        Args:
            passages: By their ids.
            merged: Whether their adapters become one.

        Raises:
            InputError: as `of_questions`, or if an id cannot be a part of a path.
        """
        if merged:
            several = list(passages.values())
            yield self._write("merged", self.adapters.load(several), several)
            return
        for key, passage in passages.items():
            place = f"passage_{safe_name(key, 'the id of a passage')}"
            yield self._write(place, self.adapters.load([passage]), [passage])

    def _write(
        self, place: str, weights: LoraWeights, passages: Sequence[AugmentedPassage], question: str = ""
    ) -> Path:
        """Write an adapter to a place below the folder, with its card, whose snippet asks a question: unset means the
        first that was written about its passages."""
        directory = self.out / (place.replace("/", "-") if self.layout == "vllm" else place)
        own_rank = next(iter(weights.values()))[0].shape[0]
        rank = self._rank(own_rank, directory)
        asked = question or next((pair.question for passage in passages for pair in passage.qa), "What is it about?")
        with output_errors("an adapter", directory, HINT):
            if self.format == "gguf":
                self._write_gguf(directory, weights, passages, asked)
            else:
                self._write_peft(directory, weights, rank, passages, asked)
        return directory

    def _rank(self, own: int, directory: Path) -> int:
        if self.rank is not None and self.rank < own:
            raise InputError(
                f"the adapter for {directory} has rank {own}", where=f"--rank {self.rank}", hint=f"Give {own} or more"
            )
        if self.rank is not None or self.layout != "vllm":
            return self.rank or own
        if own > VLLM_RANKS[-1]:
            raise InputError(
                f"the adapter for {directory} has rank {own}, and vLLM has room for {VLLM_RANKS[-1]}",
                where="--layout vllm",
                hint="Merge fewer passages (data.topk)",
            )
        return next(rank for rank in VLLM_RANKS if rank >= own)

    def _write_peft(
        self, directory: Path, weights: LoraWeights, rank: int, passages: Sequence[AugmentedPassage], question: str
    ) -> None:
        config = self.adapters.library.adapter_config(rank)
        config.base_model_name_or_path = self.card.base
        factor = self.adapters.library.scaling * rank / config.lora_alpha
        weights, origin = filled(weights, rank, factor), Origin(base_weight=self.adapters.library.store.base_hash)
        text = self.card.text(passages, question)
        if not directory.exists():
            write_adapter(directory, weights, config, origin, {CARD_FILE: text})
        elif not _same(directory, weights, config, origin):
            raise InputError("something else stands in an adapter's place", where=str(directory), hint=HINT)
        else:
            _keep_card(directory / CARD_FILE, text)

    def _write_gguf(
        self, directory: Path, weights: LoraWeights, passages: Sequence[AugmentedPassage], question: str
    ) -> None:
        llm = self.adapters.library.llm
        config = llm.model.config.get_text_config()
        fresh = temp_path(directory)
        fresh.mkdir(parents=True)
        try:
            scaling, layers = self.adapters.library.scaling, config.num_hidden_layers
            write_gguf_adapter(fresh / GGUF_FILE, weights, scaling, llm.model.config.model_type, layers)
            base = self.card.base if self.card.base.lower().endswith(GGUF) else "base.gguf"
            (fresh / MODEL_FILE).write_text(f"FROM {base}\nADAPTER ./{GGUF_FILE}\n", encoding="utf-8")
            running = self.card.for_llama_cpp(base, question)
            (fresh / CARD_FILE).write_text(self.card.text(passages, question, running), encoding="utf-8")
            if not directory.exists():
                fresh.rename(directory)
            elif not filecmp.cmp(fresh / GGUF_FILE, directory / GGUF_FILE, shallow=False):
                raise InputError("something else stands in an adapter's place", where=str(directory), hint=HINT)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def filled(weights: LoraWeights, rank: int, factor: float) -> LoraWeights:
    """An adapter filled up to a rank.

    PEFT scales by alpha / rank and serving engines want a whole alpha: `factor` makes up for what that is off.
    """
    filled = {}
    for name, (lora_a, lora_b) in weights.items():
        missing = rank - lora_a.shape[0]
        exact = lora_b if factor == 1 else lora_b.float() * factor
        filled[name] = (pad(lora_a, (0, 0, 0, missing)), pad(exact, (0, missing)))
    return filled


def _keep_card(path: Path, text: str) -> None:
    """Write the card of an adapter that was there if it is missing; say so if it is another."""
    if not path.exists():
        write_text(path, text)
    elif path.read_bytes() != text.encode():
        print(f"left as it is, though its card would be another now; delete it to have that: {path}", file=sys.stderr)


def _same(directory: Path, weights: LoraWeights, config: LoraConfig, origin: Origin) -> bool:
    """Whether a directory holds this adapter, to the last bit."""
    fresh = temp_path(directory)
    try:
        write_files(fresh, named_tensors(weights), config, origin=origin)
        _, different, absent = filecmp.cmpfiles(fresh, directory, (CONFIG_FILE, WEIGHTS_FILE), shallow=False)
        return not different and not absent
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
