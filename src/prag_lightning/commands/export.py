"""`prag export`: adapters of questions and passages, written for other software."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from prag_lightning.commands.hub import check_hub, push
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.errors import InputError
from prag_lightning.inference.exporter import Exporter, Format, Layout, Scores
from prag_lightning.lora.adapters import CONFIG_FILE
from prag_lightning.memory.memory import Memory
from prag_lightning.pipeline.pipeline import Pipeline
from prag_lightning.records import AugmentedQuestion, Passage


def export(
    pipeline: Pipeline,
    out: str | Path,
    *,
    test_ids: Collection[int] | None = None,
    passages: Sequence[int | str] | None = None,
    merged: bool = True,
    rank: int | None = None,
    layout: Layout = "published",
    format: Format = "peft",
    push_to_hub: str | None = None,
    hub_private_repo: bool = True,
) -> list[Path]:
    """Write adapters as PEFT directories: merged for each question, `{out}/{split}/{test_id}`, or for a set of
    passages, `{out}/merged`; or each passage's own.

    Args:
        pipeline: The experiment.
        out: A folder; what is there already is left alone.
        test_ids: Of the questions; unset means all.
        passages: Ids of passages of the corpus, in place of questions; adapters that are missing are made.
        merged: Make one adapter of several; else `{out}/{split}/data_{test_id}/passage_{pid}` or
            `{out}/passage_{id}`.
        rank: Fill adapters up to this rank with zeros, for serving engines that take 8, 16, … only.
        layout: `vllm` for one directory a name, as vLLM's filesystem resolver reads them.
        format: `gguf` for llama.cpp and Ollama.
        push_to_hub: A repository of the Hugging Face hub to put them into as well, such as me/my-adapters.
        hub_private_repo: Whether that is private, if it has to be made.

    Returns:
        The directories.

    Raises:
        InputError: for a question, a passage or a rank that cannot be.
    """
    if push_to_hub is not None:
        check_hub(push_to_hub)
    data = pipeline.data
    adapters = pipeline.adapters(create=passages is not None)
    exporter = Exporter(adapters, Path(out), pipeline.card(), rank, layout, format)
    if passages is None:
        written = exporter.of_questions(data.records(), test_ids, merged=merged, scores=_scores(pipeline))
    else:
        named = named_passages(data.settings.corpus, [str(key) for key in passages])
        with pipeline.compute.autocast():
            ready = pipeline.on_demand(adapters=True).provide([passage.text for passage in named])
        by_id = {p.id: replace(a, origin=p) for p, a in zip(named, ready, strict=True)}
        written = exporter.of_passages(by_id, merged=merged)
    return _told(written, exporter, push_to_hub, private=hub_private_repo)


def export_store(
    memory: Memory,
    out: str | Path,
    *,
    passages: Sequence[int | str] | None = None,
    merged: bool = True,
    rank: int | None = None,
    layout: Layout = "published",
    format: Format = "peft",
    push_to_hub: str | None = None,
    hub_private_repo: bool = True,
) -> list[Path]:
    """Write adapters of a store: of these passages and documents, or of all; see `export`."""
    if push_to_hub is not None:
        check_hub(push_to_hub)
    exporter = memory.exporter(Path(out), rank, layout, format)
    names = None if passages is None else [str(key) for key in passages]
    return _told(memory.exported(exporter, names, merged=merged), exporter, push_to_hub, private=hub_private_repo)


def _told(written: Iterable[Path], exporter: Exporter, push_to_hub: str | None, *, private: bool) -> list[Path]:
    """Say what is written, and push it if that is asked for."""
    paths = []
    for path in written:
        print(path)
        paths.append(path)
    if exporter.layout == "vllm" and paths:
        print(vllm_line(exporter, paths))
    if push_to_hub is not None:
        print(push(push_to_hub, exporter.out, paths, exporter.card.base, private=private))
    return paths


def vllm_line(exporter: Exporter, directories: Sequence[Path]) -> str:
    """What starts vLLM with the adapters of directories, whose names are those that clients ask for as models."""
    rank = max(json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))["r"] for path in directories)
    return (
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=true VLLM_PLUGINS=lora_filesystem_resolver "
        f"VLLM_LORA_RESOLVER_CACHE_DIR={quote(str(exporter.out))} vllm serve {quote(exporter.card.base)} "
        f"--enable-lora --max-lora-rank {rank}"
    )


def _scores(pipeline: Pipeline) -> Scores:
    """What gives the scores of a question's passages in retrieval, if the merge takes them."""

    def scores(record: AugmentedQuestion) -> Sequence[float]:
        (found,) = pipeline.scores([record], [record.passages]) or [[]]
        return found

    return scores


def named_passages(corpus: str | Path | None, ids: Sequence[str]) -> list[Passage]:
    """The passages of a corpus that have these ids, in their order.

    Raises:
        InputError: if there is no corpus, or it lacks one.
    """
    if corpus is None:
        raise InputError("ids are those of a corpus, and none is set", where="data.corpus", hint="Set it to its file")
    wanted, found = set(ids), dict[str, Passage]()
    for passage in CorpusReader(corpus):
        if passage.id in wanted:
            found[passage.id] = passage
            if len(found) == len(wanted):
                return [found[key] for key in dict.fromkeys(ids)]
    missing = min(wanted - found.keys(), default="")
    raise InputError(
        f"the corpus has no passage {missing!r}", where=f"--passages, {corpus}", hint="Give ids of its first column"
    )
