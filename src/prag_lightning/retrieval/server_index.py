"""Filling an index on a server with a corpus: whole or not at all, and going on from what the server holds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from prag_lightning.data.corpus import CorpusReader, corpus_facts
from prag_lightning.errors import InputError, PragError
from prag_lightning.progress import Progress
from prag_lightning.records import Json, Passage
from prag_lightning.retrieval.base import check_corpus
from prag_lightning.retrieval.claim import Claim
from prag_lightning.retrieval.search_server import Patience, Refusal, SearchServer, whole

MADE_BY = "prag-lightning"
LONGEST_ID = 512
"""Bytes, of both servers."""
_BODY = 2**20
"""Bytes of a request: no proxy refuses it, and larger ones are no quicker."""
_LEAST_BODY = 2**10
_ROUND = 100_000
"""Passages after which requests that were made smaller grow again."""
_SAME = ("made_by", "shards", "corpus_sha256")
"""What a build has to have in common with the one that it goes on from."""
_PROPERTIES = {
    "title": {"type": "text", "analyzer": "english"},
    "txt": {"type": "text", "analyzer": "english"},
    "source": {"type": "object", "enabled": False},
}


@dataclass(frozen=True)
class ServerIndex:
    """An index on a server under an alias, `name`: one of `{name}-a-{hash}` and `{name}-b-{hash}` is searched, while
    the other is filled.

    The hash is of corpus and analysis, so that a build of another corpus that wakes up after its claim has lapsed
    writes where nobody reads.

    Args:
        server: Where it is.
        name: Of the alias.
        shards: Parts that it is split into.
        replicas: Copies of each part, on other nodes.
        threads: Requests that are sent at once.
    """

    server: SearchServer
    name: str
    shards: int = 1
    replicas: int = 0
    threads: int = 4

    def build(self, corpus: Path) -> int:
        """Fill the index that is not in use, and then search that one; gives how many passages it holds.

        What a build that was interrupted has left is kept, if it was of the same corpus.

        Raises:
            InputError: if the corpus is unreadable, another build is at work, or the name belongs to an index of other
                software.
            PragError: if the server does not take the passages.
        """
        about = {"made_by": MADE_BY, "shards": self.shards, **corpus_facts(corpus)}
        with Claim(self.server, self.name) as claim:
            fresh, used = self._slots(about)
            self._prepare(fresh, used, about)
            try:
                passages = self._fill(fresh, CorpusReader(corpus, LONGEST_ID), claim)
                check_corpus(about, corpus, self.server.place(self.name))
                self._settle(fresh, passages, about)
                claim.check()
                self._use(fresh, used)
            except InputError:  # there is nothing to go on from
                with suppress(PragError):
                    self._ask(lambda client: client.indices.delete(index=fresh), patience=0)
                raise
        return passages

    def _slots(self, about: dict[str, Json]) -> tuple[str, str | None]:
        """The index to fill, and the one in use."""
        aliased = self._ask(lambda client: dict(client.indices.get_alias(name=self.name)), but=[404])
        used = None if aliased is None else next(iter(aliased))
        if aliased is None:
            foreign = self._ask(lambda client: client.indices.exists(index=self.name))
        else:
            foreign = len(aliased) != 1 or not self._is_ours(used)
        if foreign:
            raise InputError(
                "the name is that of an index that prag did not make",
                where=self.server.place(self.name),
                hint="Choose another name",
            )
        made_of = json.dumps([_PROPERTIES, {key: about[key] for key in _SAME}], sort_keys=True)
        slot = "b" if used is not None and used.startswith(f"{self.name}-a") else "a"
        return f"{self.name}-{slot}-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}", used

    def _is_ours(self, index: str | None) -> bool:
        """Whether an index is one of those behind the name."""
        return index is not None and bool(re.fullmatch(re.escape(self.name) + "-[ab](-[0-9a-f]{8})?", index))

    def _prepare(self, index: str, used: str | None, about: dict[str, Json]) -> None:
        """Make the index, unless there is one of the same corpus and analysis; remove what other builds left."""
        found = self._ask(lambda client: list(client.indices.get_settings(index=f"{self.name}-*")), but=[404]) or []
        kept = [used, index] if self._holds(index, about) else [used]
        if left := [each for each in found if self._is_ours(each) and each not in kept]:
            self._ask(lambda client: client.indices.delete(index=",".join(left)), but=[404])
        if index in kept:
            return
        settings = {"number_of_shards": self.shards, "number_of_replicas": self.replicas, "refresh_interval": "-1"}
        body = {"settings": settings, "mappings": {"properties": _PROPERTIES, "_meta": about}}
        # A node that goes before the copies are there would take the only one of its passages with it.
        self._ask(
            lambda client: client.indices.create(index=index, body=body, wait_for_active_shards="all"),
            but=["resource_already_exists_exception"],
        )

    def _holds(self, index: str, about: dict[str, Json]) -> bool:
        """Whether an index is there, of such a corpus and analysis."""
        held = self._ask(lambda client: dict(client.indices.get_mapping(index=index)), but=[404])
        if held is None:
            return False
        mappings = held[index]["mappings"]
        meta = mappings.get("_meta", {})
        return mappings.get("properties") == _PROPERTIES and all(meta.get(key) == about[key] for key in _SAME)

    def _fill(self, index: str, reader: CorpusReader, claim: Claim) -> int:
        """Send every passage until the server has it; gives how many there are."""
        passages, body, most = 0, _BODY, _BODY
        refused: list[Passage] = []
        waiting = Patience(self.server.patience, self.server.place(self.name))
        with Progress("index", reader.megabytes, "MB") as progress:
            unsent = reader.with_progress(progress)
            while True:
                tried = len(refused)
                new, refused, refusal = self._send(index, refused, islice(unsent, _ROUND - tried), body, claim)
                passages += new
                if not new + tried:
                    break
                if refusal is None:
                    waiting.reset()
                    body = min(2 * body, most)
                    continue
                if len(refused) < new + tried:
                    waiting.reset()
                body //= 2
                if refusal.status != 413:
                    waiting.wait(refusal)
                elif body < _LEAST_BODY:
                    raise refusal.named(waiting.place)
                else:
                    most = body
        reader.report_bad_rows()
        return passages

    def _send(
        self, index: str, refused: Sequence[Passage], unsent: Iterator[Passage], body: int, claim: Claim
    ) -> tuple[int, list[Passage], Refusal | None]:
        """Send passages in requests of so many bytes: those that were refused, and others.

        Passages are created: one that the server has already, since an answer was lost or by an earlier build, is left
        as it is. A thread of the client's reads the others while more threads send; it stops at the first refusal.

        Returns:
            How many others there were; the passages that the server does not have after that, and why.
        """
        new, left = count(), {each.id: each for each in refused}
        refusals: list[Refusal] = []

        def others() -> Iterator[Passage]:
            for each in unsent:
                next(new)
                left[each.id] = each
                yield each

        def actions() -> Iterator[dict[str, Json]]:
            for each in chain(refused, others()):
                claim.check()
                if refusals:
                    return
                yield {"_op_type": "create", "_index": index, "_id": each.id, **_document(each)}

        try:
            for taken, answer in self.server.library.helpers.parallel_bulk(
                self.server.client,
                actions(),
                thread_count=self.threads,
                chunk_size=_ROUND,
                max_chunk_bytes=body,
                raise_on_error=False,
                raise_on_exception=False,
                filter_path="errors,items.*._id,items.*.status,items.*.error",
            ):
                if taken or answer["create"]["status"] == 409:
                    del left[answer["create"]["_id"]]
                else:
                    refusals.append(self._refusal(answer["create"]))
        except self.server.errors as error:
            refusals.append(self.server.refusal(error))
        refusals.sort(key=lambda each: (each.passing, each.status != 413))
        return next(new), list(left.values()), refusals[0] if refusals else None

    def _refusal(self, answer: dict[str, Any]) -> Refusal:
        """Of a passage, or of the request that it was in."""
        return self.server.refusal(answer["exception"]) if "exception" in answer else Refusal.of(answer)

    def _settle(self, index: str, passages: int, about: dict[str, Json]) -> None:
        """Make all findable, and see that all is there."""
        settings = {"index": {"refresh_interval": "1s", "number_of_replicas": self.replicas}}
        self._ask(lambda client: client.indices.put_settings(index=index, body=settings))
        self._ask(lambda client: whole(client.indices.refresh(index=index)))
        held = self._ask(lambda client: whole(client.count(index=index))["count"])
        if held != passages or not self._holds(index, about):
            self._ask(lambda client: client.indices.delete(index=index), but=[404])
            raise PragError(
                f"the server holds {held} passages of {passages} in an index that others changed, which was removed",
                where=self.server.place(self.name),
                hint="Run the same command again",
            )

    def _use(self, fresh: str, used: str | None) -> None:
        """Point the alias at an index, and remove the other."""
        actions: list[Json] = [{"add": {"index": fresh, "alias": self.name}}]
        if used is not None:
            actions.insert(0, {"remove": {"index": used, "alias": self.name, "must_exist": False}})
        self._ask(lambda client: client.indices.update_aliases(body={"actions": actions}))
        if used is not None:
            self._ask(lambda client: client.indices.delete(index=used), but=[404])

    def _ask(self, request: Any, **how: Any) -> Any:
        return self.server.ask(request, self.name, **how)


def _document(passage: Passage) -> dict[str, Json]:
    """What a server keeps of a passage: `title` and `txt` are searched, and a title that the text begins with only
    there; what is under `source` is only given back."""
    kept = passage.source.to_json() if passage.source else {}
    if passage.holds_title:
        return {"title": "", "txt": passage.text, "source": {"title": passage.title, **kept}}
    return {"title": passage.title, "txt": passage.text} | ({"source": kept} if kept else {})
