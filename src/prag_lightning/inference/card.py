"""What an exported adapter says of itself: a model card whose snippet runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from prag_lightning.data.prompts import PromptTemplates, end_with_question_mark
from prag_lightning.llm.compute import MIXED
from prag_lightning.llm.greedy import settings_in_force
from prag_lightning.llm.loading import LLM
from prag_lightning.llm.names import GGUF
from prag_lightning.records import AugmentedPassage

FILE = "README.md"


@dataclass(frozen=True)
class Card:
    """Writes the cards of adapters of one experiment.

    Args:
        llm: That the adapters are of.
        base: The name that others find it by; see `base_name`.
        prompts: The templates.
        max_new_tokens: Longest answer.
        with_cot: Whether answers are chains of thought.
        dataset: Whose worked examples are shown.
        precision: The trainer's, by name.
    """

    llm: LLM
    base: str
    prompts: PromptTemplates
    max_new_tokens: int
    with_cot: bool = False
    dataset: str = ""
    precision: str = "32-true"

    def text(self, passages: Sequence[AugmentedPassage], question: str, running: str = "") -> str:
        """The card of an adapter.

        Args:
            passages: That it holds.
            question: That the snippet asks.
            running: How another engine runs it, in place of the snippet for PEFT.
        """
        _, text, ending = self._parts
        shown = self.llm.tokenizer.decode(ending)
        holds = f"{len(passages)} passage{'s' * (len(passages) != 1)}"
        return "\n".join(
            [
                *front_matter(self.base),
                "",
                f"# {holds} as an adapter",
                "",
                f"A LoRA of `{self.base}` that holds {holds} (Parametric RAG, arXiv 2501.15915): questions about",
                "them are answered without them in the prompt.",
                "",
                "## Asking",
                "",
                running or self._snippet(question),
                "",
                "The prompt, with the question in place of `{question}`; written as text, it ends where this ends:",
                "",
                "```text",
                f"{text}{shown}",
                "```",
                "",
                f"Its last ids are {ending} ({shown!r}), where training had the answer's first token follow.",
                f"Answers are decoded greedily, at most {self.max_new_tokens} tokens, in precision {self.precision},",
                f"with {self._settings}; they end with their first sentence.",
                "",
                "## What it holds",
                "",
                *(_told(passage) for passage in passages),
                "",
            ]
        )

    def for_llama_cpp(self, base: str, question: str) -> str:
        """How llama.cpp and Ollama answer with an adapter's file.

        Args:
            base: The model's GGUF file.
            question: That is asked.
        """
        leading, text, ending = self._parts
        asked = text.replace("{question}", end_with_question_mark(question))
        ids = [*leading, *self.llm.tokenizer(asked, add_special_tokens=False)["input_ids"], *ending]
        made = (
            [] if base == self.base else [f"`base.gguf` is `{self.base}`, by llama.cpp's `convert_hf_to_gguf.py`.", ""]
        )
        request = json.dumps({"prompt": ids, "n_predict": self.max_new_tokens, "temperature": 0})
        lines = [
            *made,
            "With llama.cpp; several adapters are given by several `--lora`, which adds them up:",
            "",
            "```sh",
            f"llama-server -m {base} --lora adapter.gguf --port 8080 &",
            f"curl http://localhost:8080/completion -d '{request}'",
            "```",
            "",
            f"These ids ask {question!r}. With Ollama, `ollama create NAME -f Modelfile`, and the prompt below as raw",
            "text.",
        ]
        return "\n".join(lines)

    @property
    def _parts(self) -> tuple[list[int], str, list[int]]:
        return self.prompts.question_parts(self.llm.tokenizer, with_cot=self.with_cot, dataset=self.dataset)

    @property
    def _settings(self) -> str:
        asked = settings_in_force(self.llm.model.generation_config)
        told = ", ".join(f"{name} {value}" for name, value in asked.items())
        return told or "no other setting"

    def _snippet(self, question: str) -> str:
        leading, text, ending = self._parts
        base = Path(self.base)
        if base.exists():
            base = base.resolve()  # the snippet runs in the adapter's folder
        where, more = repr(str(base) if base.is_absolute() else self.base), ""
        imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
        if base.suffix.lower() == GGUF:
            where, more = repr(str(base.parent)), f", gguf_file={base.name!r}"
            imports += ", GgufConfig"
        unpacked = ", quantization_config=GgufConfig(dequantize=True)" if more else ""
        dtype = self.llm.model.dtype
        as_it_is = "" if dtype == torch.float32 else ", autocast_adapter_dtype=False"
        asked = settings_in_force(self.llm.model.generation_config)
        settings = "".join(f", {name}={value!r}" for name, value in asked.items())
        settings += ", tokenizer=tokenizer" if "stop_strings" in asked else ""
        generate = [
            "output = model.generate(",
            f"    input_ids=inputs, attention_mask=torch.ones_like(inputs), max_new_tokens={self.max_new_tokens},",
            f"    do_sample=False, num_beams=1{settings}",
            ")",
        ]
        if self.precision in MIXED:
            cast = f"with torch.autocast(model.device.type, dtype={MIXED[self.precision]}):"
            generate = [cast, *(f"    {line}" for line in generate)]
        left = self.prompts.left_to_write(self.llm.tokenizer, with_cot=self.with_cot)
        answer = f".removeprefix({left!r}).lstrip()" if left else ""
        lines = [
            "```python",
            "import torch",
            "from peft import PeftModel",
            imports,
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({where}{more})",
            f"base = AutoModelForCausalLM.from_pretrained({where}, dtype={dtype}{more}{unpacked})",
            f'model = PeftModel.from_pretrained(base, "."{as_it_is})  # this folder',
            "",
            f"question = {end_with_question_mark(question)!r}",
            f"text = {json.dumps(text, ensure_ascii=False)}.replace('{{question}}', question)",
            f"ids = {leading} + tokenizer(text, add_special_tokens=False)['input_ids'] + {ending}",
            "inputs = torch.tensor([ids])",
            *generate,
            f"print(tokenizer.decode(output[0, len(ids):], skip_special_tokens=True).strip(){answer})",
            "```",
        ]
        return "\n".join(lines)


def front_matter(base: str) -> list[str]:
    """What the hub reads of a card: the model, unless it is a folder or file here, and what loads the adapter."""
    model = [] if Path(base).exists() else [f"base_model: {base}"]
    return ["---", *model, "library_name: peft", "tags:", "- lora", "- parametric-rag", "---"]


def hub_card(base: str, repo_id: str) -> str:
    """The card of a repository that has adapters in its folders.

    Args:
        base: The model; see `Card`.
        repo_id: The repository.
    """
    lines = [
        *front_matter(base),
        "",
        "# Passages as adapters",
        "",
        "Each folder that has a `README.md` has an adapter that holds passages (Parametric RAG, arXiv 2501.15915).",
        "The `README.md` says which, and how they are asked about, in that folder of what this writes:",
        "",
        "```sh",
        f"hf download {repo_id} --local-dir adapters",
        "```",
        "",
    ]
    return "\n".join(lines)


def _told(passage: AugmentedPassage) -> str:
    """A passage and where it comes from, as an item of a list."""
    origin = passage.origin
    source = "" if origin is None or origin.source is None else f" ({origin.source})"
    known = "" if origin is None else f"`{origin.id}`{source}: "
    return f"- {known}{' '.join(passage.passage.split())}"
