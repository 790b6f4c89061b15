"""The library's front door: documents in, answers out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from prag_lightning.errors import InputError
from prag_lightning.files import remove_stale_temp, temp_path
from prag_lightning.progress import without_progress

if TYPE_CHECKING:
    from prag_lightning.inference.asker import Answer
    from prag_lightning.inference.exporter import Format, Layout
    from prag_lightning.inference.methods import InferenceMethod
    from prag_lightning.memory.incoming import Incoming
    from prag_lightning.memory.memory import Forgotten, Memory, Synced

Documents = str | Path | Mapping[str, str]
"""A file, a folder, a text, or ``{"id", "text", "title"}``, of which the last may be left out."""


class ParametricRAG:
    """Answers questions from documents that it holds as LoRA adapters of an LLM.

    >>> rag = ParametricRAG("smollm2-135m-instruct", store="memory/")  # doctest: +SKIP
    >>> rag.add("handbook/")  # doctest: +SKIP
    >>> rag.ask("How many days may I travel a week?").text  # doctest: +SKIP

    Args:
        model: The LLM: a short name, a folder, a GGUF file or a hub id. Unset means that of the store or of `config`.
        store: The folder of what it holds, which is opened, or made with the first documents; unset means one that is
            gone with this object, unless it is saved.
        config: A configuration file for a store that is to be made; unset means configs/documents.yaml.
        settings: Single settings by their dotted names, such as ``{"model.lora_rank": 8, "data.topk": 1}``.
        progress: Show bars, on the standard error.

    Raises:
        InputError: for a setting that cannot be, or another than the store was made with.
    """

    def __init__(
        self,
        model: str | None = None,
        store: str | Path | None = None,
        *,
        config: str | Path | None = None,
        settings: Mapping[str, object] | None = None,
        progress: bool = True,
    ) -> None:
        self._temporary = None if store is not None else tempfile.TemporaryDirectory(prefix="prag-")
        self.store = Path(self._temporary.name) / "store" if self._temporary is not None else Path(str(store))
        self.progress = progress
        args = [] if config is None else ["--config", str(config)]
        if not isinstance(settings or {}, Mapping):
            raise InputError("settings are no names with values", hint='Give them as in {"data.topk": 1}')
        named = {**({} if model is None else {"model.model_name": model}), **(settings or {})}
        self._args = args + [f"--{name}={_written(value)}" for name, value in named.items()]
        self._memory = self._opened()

    def _opened(self) -> Memory:
        from prag_lightning.cli.settings import open_memory

        return open_memory(self.store, self._args)

    # Documents

    def add(self, documents: Documents | Iterable[Documents]) -> Synced:
        """Hold documents, in the place of those of the same ids.

        Args:
            documents: A file or folder, a text, ``{"id", "text", "title"}``, or several of these. The id of a file is
                its path from the folder that the store stands in; that of a text alone is a hash of it.

        Returns:
            What that changed. Which files were skipped, which could not be read, and which passages could not be
            encoded, each with the reason, stand in its `skipped`, `unreadable` and `failed`.

        Raises:
            InputError: if there is no such file, a file that is named cannot be read, a folder holds no document, or
                another process is changing the store.
            PragError: if the LLM cannot do its part, as where memory does not suffice.
        """
        return self._change(documents, removes=False)

    def sync(self, folder: str | Path | Iterable[str | Path]) -> Synced:
        """Hold the documents of folders as they are now: also those go that are no more.

        Raises:
            InputError: as `add`.
        """
        return self._change(folder, removes=True)

    def _change(self, documents: Documents | Iterable[Documents], *, removes: bool) -> Synced:
        if self._temporary is not None and not self.store.parent.exists():
            raise InputError("the store is gone: it was closed", hint="Make another, with store= for one that stays")
        one = isinstance(documents, str | Path | Mapping) or not isinstance(documents, Iterable)
        several = [cast("Documents", documents)] if one else list(cast("Iterable[Documents]", documents))
        memory = self._memory
        with without_progress(not self.progress), memory.changing() as contents:
            incoming = memory.incoming(contents)
            for each in several:
                _take(incoming, each, removes=removes)
            return memory.apply(memory.changes(incoming), incoming)

    def forget(self, name: str | Path) -> Forgotten:
        """Forget a document, a passage, or a folder of documents: nothing in the store holds any of it afterwards, and
        answers are those of a store that never had it, to the last bit where each passage is trained by itself
        (``model.group_tokens`` 1).

        Args:
            name: Its id, or the path of a file or folder.

        Raises:
            InputError: if the store holds nothing of that name, or another process is changing it.
        """
        return self._memory.forget(str(name))

    @property
    def documents(self) -> dict[str, int]:
        """How many passages each document has, by its id."""
        return {key: len(passages) for key, passages in self._memory.contents.by_document().items()}

    # Answers

    @overload
    def ask(
        self,
        question: str,
        *,
        method: InferenceMethod | None = ...,
        topk: int | None = ...,
        stream: Literal[False] = ...,
    ) -> Answer: ...

    @overload
    def ask(
        self,
        question: list[str] | tuple[str, ...],
        *,
        method: InferenceMethod | None = ...,
        topk: int | None = ...,
        stream: Literal[False] = ...,
    ) -> list[Answer]: ...

    @overload
    def ask(
        self, question: str, *, method: InferenceMethod | None = ..., topk: int | None = ..., stream: Literal[True]
    ) -> Iterator[str]: ...

    def ask(
        self,
        question: str | list[str] | tuple[str, ...],
        *,
        method: InferenceMethod | None = None,
        topk: int | None = None,
        stream: bool = False,
    ) -> Answer | list[Answer] | Iterator[str]:
        """Answer a question, or a batch of them.

        Args:
            question: One, or several.
            method: vanilla (the LLM alone), icl (passages in the prompt), prag (their adapters), combine (both); unset
                means as configured.
            topk: Passages a question; unset means as configured.
            stream: Give the pieces of one answer's text as they are written.

        Returns:
            For each question its `Answer`, with `text`, `passages` (each with source and score) and `seconds`.

        Raises:
            InputError: if a question is empty, or the store holds nothing and the method needs it to.
        """
        with without_progress(not self.progress):
            if not isinstance(question, str | list | tuple):
                raise InputError(f"{question!r} is no question", hint="Give a text, or a list of these")
            asker = self._memory.asker(method, topk)
            if not isinstance(question, str):
                if stream:
                    raise InputError("several answers cannot be streamed", hint="Ask one question")
                return asker.ask_all(list(question))
            return asker.stream(question) if stream else asker.ask(question)

    # The store

    def save(self, folder: str | Path) -> ParametricRAG:
        """Copy the store to a folder where nothing is.

        Returns:
            It, opened.

        Raises:
            InputError: if something stands there, it is within the store, or there is nothing to save.
        """
        target = Path(folder)
        if not self.documents:
            raise InputError("the store holds no document", where=str(self.store), hint="Add some first")
        if target.exists():
            raise InputError("something stands there", where=str(target), hint="Name another folder")
        if target.resolve().is_relative_to(self.store.resolve()):
            raise InputError("it is within the store", where=str(target), hint="Name another folder")
        with self._memory.changing():
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_stale_temp(target.parent, target.name)
            beside = temp_path(target)
            try:
                shutil.copytree(self.store, beside, ignore=shutil.ignore_patterns(".*"))
                beside.rename(target)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
        return ParametricRAG(store=target, progress=self.progress)

    def export(
        self,
        folder: str | Path,
        passages: Sequence[str] | None = None,
        *,
        merged: bool = False,
        rank: int | None = None,
        layout: Layout = "published",
        format: Format = "peft",
    ) -> list[Path]:
        """Write adapters as PEFT loads them: each passage's own, or one merged of all.

        Args:
            folder: Where to; what is there already is left alone.
            passages: Ids of passages or documents; unset means all.
            merged: Make one adapter of them.
            rank: Fill adapters up to this rank with zeros, which change nothing.
            layout: ``vllm`` for one directory a name, as vLLM's filesystem resolver reads them.
            format: ``gguf`` for llama.cpp and Ollama.

        Returns:
            The directories.

        Raises:
            InputError: if the store holds no such passage.
        """
        exporter = self._memory.exporter(Path(folder), rank, layout, format)
        return list(self._memory.exported(exporter, passages, merged=merged))

    def close(self) -> None:
        """Delete a store that was to be gone with this object."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> ParametricRAG:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        model = self._memory.pipeline.settings.model_name
        return f"ParametricRAG({model!r}, store={str(self.store)!r}): {len(self.documents)} documents"


def _take(incoming: Incoming, document: Documents, *, removes: bool) -> None:
    """Take a document of whatever form.

    Raises:
        InputError: if it is none.
    """
    from prag_lightning.memory.incoming import hashed_id, looks_like_path

    if isinstance(document, Mapping):
        if unknown := set(document) - {"id", "text", "title"}:
            raise InputError(f"a document has no {min(unknown)!r}", hint="Give id, text and, if it has one, title")
        key, text, title = document.get("id", ""), document.get("text", ""), document.get("title") or ""
        for name, value in (("id", key), ("text", text), ("title", title)):
            if not isinstance(value, str) and not (name == "id" and isinstance(value, int)):
                raise InputError(f"a document's {name} is {value!r}", hint="Give a text")
        incoming.add_text(str(key), text, title)
    elif not isinstance(document, str | Path) or not str(document).strip():
        raise InputError(f"{document!r} is no document", hint="Give a path, a text, or a mapping with id and text")
    elif isinstance(document, Path) or removes or looks_like_path(document):
        incoming.add_files(Path(document), removes=removes)
        reader = incoming.readers[-1]
        if not reader.path.is_dir() and (reader.failed or reader.skipped):
            reason = next(iter(reader.failed or reader.skipped))
            raise InputError(f"the document is left out: {reason}", where=str(document), hint="Give another")
    else:
        incoming.add_text(hashed_id(document), document)


def _written(value: Any) -> str:
    """A setting's value as a command line has it."""
    import json

    return value if isinstance(value, str) else json.dumps(value)
