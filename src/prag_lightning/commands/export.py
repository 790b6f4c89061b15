"""`prag export`: adapters of questions and passages, written for other software."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from prag_lightning.commands.hub import check_hub, push
from prag_lightning.data.corpus import CorpusReader
from prag_lightning.errors import InputError
from prag_lightning.inference.exporter import Exporter, Scores
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
        push_to_hub: A repository of the Hugging Face hub to put them into as well, such as me/my-adapters.
        hub_private_repo: Whether that is private, if it has to be made.

    Returns:
        The directories.

    Raises:
        InputError: for a question, a passage or a rank that cannot be.
    """
    if push_to_hub is not None:
        check_hub(push_to_hub)
    if rank is not None and rank < 1:
        raise InputError(f"rank is {rank}", where="--rank", hint="Give 1 or more")
    data, exporter = pipeline.data, Exporter(pipeline.adapters(create=passages is not None), Path(out), rank)
    if passages is None:
        written = exporter.of_questions(data.records(), test_ids, merged=merged, scores=_scores(pipeline))
    else:
        named = named_passages(data.settings.corpus, [str(key) for key in passages])
        with pipeline.compute.autocast():
            ready = pipeline.on_demand(adapters=True).provide([passage.text for passage in named])
        written = exporter.of_passages({p.id: a for p, a in zip(named, ready, strict=True)}, merged=merged)
    paths = []
    for path in written:
        print(path)
        paths.append(path)
    if push_to_hub is not None:
        print(push(push_to_hub, Path(out), paths, private=hub_private_repo))
    return paths


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
