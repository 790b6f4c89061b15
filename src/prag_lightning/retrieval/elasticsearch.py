"""BM25 from an Elasticsearch or OpenSearch server, with the query of the paper's experiments."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from prag_lightning.data.corpus import file_stamp
from prag_lightning.errors import InputError, check_least
from prag_lightning.records import Json, Passage, Source, nfc
from prag_lightning.retrieval.base import Hit, IndexedRetriever, VersionedRetriever, check_corpus, search_distinct
from prag_lightning.retrieval.search_server import Kind, Refusal, SearchServer, whole
from prag_lightning.retrieval.server_index import MADE_BY, ServerIndex

_SETTINGS = "data.retriever.init_args"
_QUERY_WORDS = 256
_SEARCHES_AT_ONCE = 100
_DEEPEST = 10_000
"""Passages that a server gives at once; beyond that it gives pages."""
_BAD_NAME = re.compile(r'^[-_+.]|[\\/*?"<>| ,#:]|[A-Z]')
_LONGEST_NAME = 240
"""Bytes; what is added to it for the indices behind it has room in 255."""
_SEARCH_TYPE = "dfs_query_then_fetch"
"""With several shards each counts words in all of them; with one this is the same as the default."""
_ANSWERED = ",".join(
    f"responses.{name}" for name in ("error", "status", "hits.hits._id", "hits.hits._score", "hits.hits._source")
)


class ElasticsearchRetriever(IndexedRetriever, VersionedRetriever):
    """Searches title and text as published: `multi_match` of type `best_fields`, with a tie breaker of 0.5.

    Needs the extra `elasticsearch` or `opensearch`. `prag index` fills one of two indices, `{index}-a-…` and
    `{index}-b-…`, and then points the alias `index` at it, so that a search never sees a half-filled one. An index that
    other software made serves too, if its fields are `title` and `txt`.

    Credentials come from the environment: ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD.

    Args:
        index: The name that is searched: of one index or alias.
        corpus: The corpus file that `prag index` fills it with.
        url: The server's, or those of several nodes of one cluster, of which another is asked where one is gone; unset
            means ELASTICSEARCH_URL, with commas between several, or else http://localhost:9200. It can hold name and
            password, but then these stand in every dump of the configuration.
        server: Which client to talk with: Elasticsearch's refuses an OpenSearch server.
        ca_certs: Certificates to trust instead of the system's.
        verify_certs: Whether to check the server's certificate.
        timeout: Seconds to wait for an answer.
        patience: Seconds to go on asking a server that is away, starting or full.
        shards: Parts that `prag index` splits the index into, for several nodes.
        replicas: Copies of each part on other nodes, so that one can go.
        threads: Requests that `prag index` sends at once.

    Raises:
        InputError: for a name that no index can have.
    """

    def __init__(
        self,
        index: str,
        corpus: str | Path | None = None,
        url: str | list[str] | None = None,
        server: Kind = "elasticsearch",
        ca_certs: str | None = None,
        verify_certs: bool = True,
        timeout: float = 60.0,
        patience: float = 600.0,
        shards: int = 1,
        replicas: int = 0,
        threads: int = 4,
    ) -> None:
        _check_name(index)
        self.index, self.corpus = index, None if corpus is None else Path(corpus)
        given = url or os.environ.get("ELASTICSEARCH_URL") or "http://localhost:9200"
        urls = [each.strip() for each in (given.split(",") if isinstance(given, str) else given) if each.strip()]
        self._server = SearchServer(server, urls, ca_certs, verify_certs, timeout, patience)
        self._filled = ServerIndex(self._server, index, shards, replicas, threads)
        check_least(self._filled, _SETTINGS, 1, "shards", "threads")
        check_least(self._filled, _SETTINGS, 0, "replicas")
        check_least(self._server, _SETTINGS, 0, "timeout", "patience")
        self._stamp: tuple[int, int] | None = None
        self._checked = False

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`; of each query the first 256 words count.

        Raises:
            InputError: if there is no such index, or it was made of another corpus.
            PragError: if the server does not answer as it should.
        """
        stamp = None if self.corpus is None else file_stamp(self.corpus)
        if not self._checked or stamp != self._stamp:
            self._check()
            self._checked, self._stamp = True, stamp
        return search_distinct(self._best, queries, k)

    def _best(self, queries: list[str], depth: int) -> list[list[Hit]]:
        read, step = (self._pages, 1) if depth > _DEEPEST else (self._first, _SEARCHES_AT_ONCE)
        found: list[list[Hit]] = []
        for start in range(0, len(queries), step):
            found += self._server.ask(partial(read, queries[start : start + step], depth), self.index)
        return found

    def _first(self, queries: list[str], depth: int, client: Any) -> list[list[Hit]]:
        # Some hits of some shards would be a wrong answer without a sign of it.
        header = {"index": self.index, "search_type": _SEARCH_TYPE, "allow_partial_search_results": False}
        lines: list[Json] = []
        for query in queries:
            lines += [header, {**published_query(query), "size": depth, "track_total_hits": False}]
        found = []
        for response in client.msearch(body=lines, filter_path=_ANSWERED)["responses"]:
            if "error" in response:
                raise Refusal.of(response)
            found.append([_hit(each) for each in response.get("hits", {}).get("hits", ())])
        return found

    def _pages(self, queries: list[str], depth: int, client: Any) -> list[list[Hit]]:
        scan = self._server.library.helpers.scan
        how = {"index": self.index, "search_type": _SEARCH_TYPE, "size": _DEEPEST, "preserve_order": True}
        return [[_hit(each) for each in islice(scan(client, published_query(q), **how), depth)] for q in queries]

    def settings(self) -> dict[str, Json]:
        """See `VersionedRetriever`."""
        return {"retriever": "elasticsearch", "index": self.index}

    def corpus_version(self) -> str | None:
        """The hash of the corpus that `prag index` filled the index with; of an index of other software, its name
        behind the alias and how many passages it holds.

        Raises:
            InputError: if there is no such index.
            PragError: if the server does not answer as it should.
        """
        mappings = self._mappings()
        known = [str(about["corpus_sha256"]) for about in mappings.values() if "corpus_sha256" in about]
        if len(known) == len(mappings):
            return " ".join(sorted(known))
        count = self._server.ask(lambda client: whole(client.count(index=self.index))["count"], self.index)
        return " ".join((*sorted(mappings), str(count)))

    def build(self) -> None:
        """Fill the index that is not in use, going on from what an interrupted build left, and then search that one.

        Raises:
            InputError: if the corpus is unset or unreadable, or the name belongs to an index of other software.
            PragError: if the server does not take the passages.
        """
        if self.corpus is None:
            raise InputError(
                "there is nothing to index", where=f"{_SETTINGS}.corpus", hint="Set it to the corpus's file"
            )
        passages = self._filled.build(self.corpus)
        print(f"{passages} passages in {self._server.place(self.index)}", file=sys.stderr)

    def _check(self) -> None:
        if self.corpus is None or not self.corpus.exists():
            return
        for about in self._mappings().values():
            if about.get("made_by") == MADE_BY:
                check_corpus(about, self.corpus, self._server.place(self.index))

    def _mappings(self) -> dict[str, dict[str, Any]]:
        """What each index behind the name says of itself."""
        found = self._server.ask(lambda client: dict(client.indices.get_mapping(index=self.index)), self.index)
        return {name: each["mappings"].get("_meta", {}) for name, each in found.items()}


def _check_name(index: str) -> None:
    if not index or _BAD_NAME.search(index) or len(index.encode()) > _LONGEST_NAME:
        raise InputError(
            f"no index can be called {index!r}",
            where=f"{_SETTINGS}.index",
            hint='Index names are lower case, begin with a letter or digit, and have none of \\/*?"<>|,#: and blanks',
        )


def published_query(question: str) -> dict[str, Json]:
    """The search of the paper's experiments for a question, but for how many passages are asked for."""
    return {
        "_source": ["title", "txt", "source"],
        "query": {
            "multi_match": {
                "query": " ".join(nfc(question).split()[:_QUERY_WORDS]),
                "type": "best_fields",
                "fields": ["title", "txt"],
                "tie_breaker": 0.5,
            }
        },
    }


def _hit(found: dict[str, Json]) -> Hit:
    held = found["_source"]
    kept = held.get("source")
    kept = kept if isinstance(kept, dict) else {}  # other software may have something else there
    title = held.get("title") or kept.get("title") or ""
    return Hit(Passage(held["txt"], found["_id"], title, _source(kept)), float(found["_score"]))


def _source(kept: dict[str, Json]) -> Source | None:
    try:
        return Source.from_json(kept)
    except ValueError:
        return None
