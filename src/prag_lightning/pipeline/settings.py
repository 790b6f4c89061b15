"""The settings of an experiment, as configurations and command lines name them. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from math import inf
from typing import Any, Literal, get_args

from prag_lightning.augment import AugmentSettings, ChatSettings
from prag_lightning.data.boundary import AnswerBoundary
from prag_lightning.data.chat_text import TEMPLATE_DATE
from prag_lightning.errors import InputError, check_least
from prag_lightning.files import safe_name
from prag_lightning.inference.methods import INFERENCE_METHODS, InferenceMethod, uses_adapters
from prag_lightning.llm.names import short_name
from prag_lightning.lora.names import ADAPTER_FORMATS, DEFAULT_TARGETS, LORA_AS, MERGES, AdapterFormat, LoraA, Merge
from prag_lightning.metrics import Extraction
from prag_lightning.records import Json
from prag_lightning.retrieval import Retriever
from prag_lightning.training.examples import INCLUDE_TEXTS, OBJECTIVES, IncludeText, Objective
from prag_lightning.training.recipe import TrainingRecipe


@dataclass(frozen=True)
class ModelSettings:
    """The LLM, how passages become adapters, and how questions are answered with them.

    Args:
        model_name: The LLM: a published short name, a folder, or a hub id.
        inference_method: vanilla (the question alone), icl (passages in the prompt), prag (their adapters), combine
            (both).
        lora_rank: Rank of an adapter.
        lora_alpha: An adapter's update is scaled by lora_alpha / lora_rank.
        learning_rate: Of AdamW.
        num_train_epochs: How often each example of a passage is seen.
        per_device_train_batch_size: Examples of one passage in a step.
        block_size: Examples are cut at this many tokens.
        lora_a: trained (LoRA's), or shared: one A for all passages, which is not trained, so that adapters add up by
            their B.
        null_space: Adapters read no more than this share of the energy of general text, such as 0.3: they then leave
            alone what they are not about, and bear being merged. Unset means all.
        general_text: What general text is, as JSON lines with question, passage or both; unset means the model's own,
            general_text.jsonl in its folder, or the one that ships.
        objective: published (the method's), answer (loss on the answer alone), closed_book (questions without the
            passage), distill (likewise, but matching what the model predicts with the passage in its prompt).
        include_text: Train also on the text of the passage or its rewrite (none, passage, rewrite), for facts that no
            QA pair asks for.
        locality: Train also on so many questions a QA pair about other things, to be answered as without an adapter:
            adapters then bear being merged, and the model keeps what it knew.
        distill_samples: Of distill: how many continuations of each question the model writes when it sees the passage,
            to be matched like the answer.
        group_tokens: Tokens in a step of passages trained together: more is faster until memory or the device is full;
            auto measures that once, and keeps it beside the adapters.
        max_new_tokens: Longest answer; unset means 20, or 128 with a chain of thought.
        answer_extraction: paper (cut at the first full stop, line break or comma) or full (keeps "Washington, D.C.");
            unset means paper for the benchmarks, as published, and full for questions of your own.
        abstain_below: Say "I don't know" where a token of the answer has a mean log-probability below this, in nats,
            such as -0.7; unset means to answer always.
        merge: How the adapters of a question's passages become one: sum (the method's), mean, score (weighted by
            retrieval), ties, orthogonal.
        adapters_from: own, or other: a control that merges the adapters of another question's passages.
        adapter_format: How adapters are stored: float32 (published), bfloat16 (half), or int4 (an eighth: the
            difference from base_weight at four bits a value; PEFT loads it after prag export).
        target_modules: Linear layers that carry adapters.
        base_weight: The adapter that every passage starts from: unset means a random one, always the same; warmup is
            what a warm-up has trained, under warmup_root; anything else is a PEFT directory.
        offline_root: Root of the adapters.
        warmup_root: Root of warm-ups.
        output_root: Root of the results.
        trust_remote_code: Run code that comes with the model.

    Raises:
        InputError: naming the setting that cannot be.
    """

    model_name: str
    inference_method: InferenceMethod = "prag"
    lora_rank: int = 2
    lora_alpha: int = 32
    learning_rate: float = 3e-4
    num_train_epochs: int = 1
    per_device_train_batch_size: int = 1
    block_size: int = 3000
    lora_a: LoraA = "trained"
    null_space: float | None = None
    general_text: str | None = None
    objective: Objective = "published"
    include_text: IncludeText = "none"
    locality: int = 0
    distill_samples: int = 0
    group_tokens: int | Literal["auto"] = 8192
    max_new_tokens: int | None = None
    answer_extraction: Extraction | None = None
    abstain_below: float | None = None
    merge: Merge = "sum"
    adapters_from: Literal["own", "other"] = "own"
    adapter_format: AdapterFormat = "float32"
    target_modules: Sequence[str] = DEFAULT_TARGETS
    base_weight: str | None = None
    offline_root: str = "checkpoints/offline"
    warmup_root: str = "checkpoints/warmup"
    output_root: str = "logs/output"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        at_least_one = ("lora_rank", "lora_alpha", "num_train_epochs", "per_device_train_batch_size", "block_size")
        for name in (*at_least_one, "group_tokens", "max_new_tokens"):
            _at_least(1, f"model.{name}", getattr(self, name))
        for name in ("locality", "distill_samples"):
            _at_least(0, f"model.{name}", getattr(self, name))
        if not 0 < self.learning_rate < inf:
            raise InputError(
                f"learning_rate is {self.learning_rate}", where="model.learning_rate", hint="Give a number above 0"
            )
        if self.null_space is not None and not 0 < self.null_space < 1:
            raise InputError(
                f"null_space is {self.null_space}",
                where="model.null_space",
                hint="Give a share above 0 and below 1, or null for all directions",
            )
        if self.abstain_below is not None and not -inf < self.abstain_below <= 0:
            raise InputError(
                f"abstain_below is {self.abstain_below}",
                where="model.abstain_below",
                hint="Give a mean log-probability, at most 0, or null to answer always",
            )
        for name, allowed in (
            ("inference_method", INFERENCE_METHODS),
            ("lora_a", LORA_AS),
            ("adapter_format", ADAPTER_FORMATS),
            ("merge", MERGES),
            ("objective", OBJECTIVES),
            ("include_text", INCLUDE_TEXTS),
            ("answer_extraction", (None, *get_args(Extraction))),
            ("adapters_from", ("own", "other")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}",
                    where=f"model.{name}",
                    hint=f"Give one of {', '.join(filter(None, allowed))}",
                )

    @property
    def recipe(self) -> TrainingRecipe:
        """How adapters are trained."""
        return TrainingRecipe(
            self.lora_rank,
            self.lora_alpha,
            self.learning_rate,
            self.num_train_epochs,
            self.per_device_train_batch_size,
            self.lora_a,
            self.null_space,
        )

    @property
    def uses_adapters(self) -> bool:
        """Whether questions are answered with adapters."""
        return uses_adapters(self.inference_method)

    @property
    def method(self) -> str:
        """The inference method's name in paths, with its merge and control."""
        merge = self.merge if self.merge != "sum" and self.uses_adapters else None
        other = "other" if self.adapters_from == "other" else None
        return "-".join(filter(None, (self.inference_method, merge, other)))


@dataclass(frozen=True)
class SplitterSettings:
    """How the documents of a store are cut into passages.

    Args:
        words: Of a passage, about, in whole sentences.
        overlap: Sentences that a passage has in common with the one before.
        language: Of the documents, as an ISO 639-1 code: it decides where sentences end.
    """

    words: int = 100
    overlap: int = 1
    language: str = "en"

    def __post_init__(self) -> None:
        check_least(self, "data.splitter", 1, "words")
        check_least(self, "data.splitter", 0, "overlap")


@dataclass(frozen=True)
class DataSettings:
    """The questions of a dataset, where their passages come from, and who augments them.

    Args:
        dataset: hotpotqa, 2wikimultihopqa, popqa, complexwebquestions, or a name of your own for plain JSON questions.
        data_path: The dataset's file or folder; for a benchmark unset means data/{dataset}.
        data_type: The split to work on; unset means each split.
        with_cot: Answer with a chain of thought, shown in the prompt file's worked examples.
        sample: How many questions of each split, from the first on; -1 means all.
        topk: Passages a question.
        augment_model: Who wrote the rewrites and QA pairs, as a short name, path or hub id; unset means the model
            itself.
        model_name: The model itself; configurations have it from model.model_name.
        prompts: The prompt file.
        answer_boundary: Where prompts end: token (where the answer's first token begins, so that a prompt always is the
            beginning of what was trained) or published (in the blank before the answer, as the paper's code does).
        template_date: What chat templates that write today's date take for it, as YYYY-MM-DD.
        corpus: Passages to retrieve from, .tsv (id, text, title) or .jsonl, also .gz.
        retriever: Finds passages; unset means BM25 in memory over the corpus.
        retrieve_at_test: Take each question's passages from the retriever at test time instead of from its augmented
            record; what is missing of their adapters is made then.
        augment_root: Where augmented data is kept, as {dataset}/{augment_model}/{split}.json.
        require_answers: Whether a question without a gold answer is a mistake; `prag predict` needs none.
        per_device_eval_batch_size: Questions answered at once.
        augment: How `prag augment` asks for rewrites and QA pairs.
        chat: A server that speaks the OpenAI chat API and augments in place of a local LLM; its model is
            `augment_model`.
        splitter: How the documents of a store are cut into passages.

    Raises:
        InputError: naming the setting that cannot be.
    """

    dataset: str
    data_path: str | None = None
    data_type: str | None = None
    with_cot: bool = False
    sample: int = -1
    topk: int = 3
    augment_model: str | None = None
    model_name: str | None = None
    prompts: str = "configs/prompts/default.yaml"
    answer_boundary: AnswerBoundary = "token"
    template_date: str = TEMPLATE_DATE
    corpus: str | None = None
    retriever: Retriever | None = None
    retrieve_at_test: bool = False
    augment_root: str = "data/aug"
    require_answers: bool = True
    per_device_eval_batch_size: int = 16
    augment: AugmentSettings = AugmentSettings()  # noqa: RUF009  frozen, so sharing it is safe
    chat: ChatSettings | None = None
    splitter: SplitterSettings = SplitterSettings()

    def __post_init__(self) -> None:
        safe_name(self.dataset, "data.dataset")
        if self.sample != -1 and self.sample < 1:
            raise InputError(
                f"sample is {self.sample}", where="data.sample", hint="Give 1 or more, or -1 for all questions"
            )
        for name in ("topk", "per_device_eval_batch_size"):
            _at_least(1, f"data.{name}", getattr(self, name))
        if self.chat is not None and self.augment_model is None:
            raise InputError(
                "no model is named for the server", where="data.augment_model", hint="Set it to the model's name there"
            )

    @property
    def writer(self) -> str:
        """The model that augments, as it is configured.

        Raises:
            InputError: if none is named.
        """
        name = self.augment_model or self.model_name
        if name is None:
            raise InputError("no model is named", where="data.augment_model", hint="Set it, or data.model_name")
        return name

    @property
    def writer_name(self) -> str:
        """That model's short name, as it stands in paths and in the keys of augmented files."""
        return safe_name(short_name(self.writer), "data.augment_model")


_SAID_IF_SET = frozenset({"abstain_below"})


def as_dict(settings: ModelSettings | DataSettings) -> dict[str, Json]:
    """Settings by name, for files and loggers; a retriever is none that could be written, and some are said only where
    they are set, which leaves files as they were before there were these."""
    values: Mapping[str, Any] = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {
        name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        for name, value in values.items()
        if name != "retriever" and not (name in _SAID_IF_SET and value is None)
    }


def _at_least(least: int, where: str, value: object) -> None:
    if isinstance(value, int) and value < least:
        raise InputError(f"{where.partition('.')[2]} is {value}", where=where, hint=f"Give {least} or more")
