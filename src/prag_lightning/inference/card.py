"""What an exported adapter says of itself: a model card whose snippet runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prag_lightning.data.prompts import PromptTemplates, end_with_question_mark
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
    """

    llm: LLM
    base: str
    prompts: PromptTemplates
    max_new_tokens: int
    with_cot: bool = False
    dataset: str = ""

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
                *self._front_matter,
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
                f"Answers are decoded greedily, at most {self.max_new_tokens} tokens, with {self._settings};",
                "they end with their first sentence.",
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
    def _front_matter(self) -> list[str]:
        is_here = Path(self.base).exists()
        base = [] if is_here else [f"base_model: {self.base}"]
        return ["---", *base, "library_name: peft", "tags:", "- lora", "- parametric-rag", "---"]

    @property
    def _settings(self) -> str:
        asked = settings_in_force(self.llm.model.generation_config)
        told = ", ".join(f"{name} {value}" for name, value in asked.items())
        return told or "no other setting"

    def _snippet(self, question: str) -> str:
        leading, text, ending = self._parts
        base = Path(self.base)
        where, more = repr(self.base), ""
        imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
        if base.suffix.lower() == GGUF:
            where, more = repr(str(base.parent)), f", gguf_file={base.name!r}"
            imports += ", GgufConfig"
        unpacked = ", quantization_config=GgufConfig(dequantize=True)" if more else ""
        settings = "".join(
            f", {name}={value!r}" for name, value in settings_in_force(self.llm.model.generation_config).items()
        )
        lines = [
            "```python",
            "import torch",
            "from peft import PeftModel",
            imports,
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({where}{more})",
            f"base = AutoModelForCausalLM.from_pretrained({where}, dtype=torch.float32{more}{unpacked})",
            'model = PeftModel.from_pretrained(base, ".")  # this folder',
            "",
            f"question = {end_with_question_mark(question)!r}",
            f"text = {json.dumps(text, ensure_ascii=False)}.replace('{{question}}', question)",
            f"ids = {leading} + tokenizer(text, add_special_tokens=False)['input_ids'] + {ending}",
            "inputs = torch.tensor([ids])",
            "output = model.generate(",
            f"    input_ids=inputs, attention_mask=torch.ones_like(inputs), max_new_tokens={self.max_new_tokens}, "
            f"do_sample=False{settings}",
            ")",
            "print(tokenizer.decode(output[0, len(ids):], skip_special_tokens=True).strip())",
            "```",
        ]
        return "\n".join(lines)


def _told(passage: AugmentedPassage) -> str:
    """A passage and where it comes from, as an item of a list."""
    origin = passage.origin
    source = "" if origin is None or origin.source is None else f" ({origin.source})"
    known = "" if origin is None else f"`{origin.id}`{source}: "
    return f"- {known}{' '.join(passage.passage.split())}"
