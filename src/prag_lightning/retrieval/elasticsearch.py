"""BM25 from an Elasticsearch or OpenSearch server, with the query of the paper's experiments."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from prag_lightning.data.corpus import CorpusReader, corpus_facts, file_stamp
from prag_lightning.errors import InputError, PragError
from prag_lightning.progress import Progress
from prag_lightning.records import Json, Passage, nfc
from prag_lightning.retrieval.base import Hit, IndexedRetriever, VersionedRetriever, check_corpus, search_distinct

_QUERY_WORDS = 256
_SEARCHES_AT_ONCE = 100
_PASSAGES_AT_ONCE = 1000
_REASON_LENGTH = 300
_MADE_BY = "prag-lightning"
_MAPPINGS = {
    "properties": {"title": {"type": "text", "analyzer": "english"}, "txt": {"type": "text", "analyzer": "english"}}
}


class ElasticsearchRetriever(IndexedRetriever, VersionedRetriever):
    """Searches title and text as published: `multi_match` of type `best_fields`, with a tie breaker of 0.5.

    Needs the extra `elasticsearch` or `opensearch`. `prag index` fills one of two indices, `{index}-a` and `{index}-b`,
    and then points the alias `index` at it, so that a search never sees a half-filled one. An index that other software
    made serves too, if its fields are `title` and `txt`.

    Credentials come from the environment: ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD.

    Args:
        index: The name that is searched.
        corpus: The corpus file that `prag index` fills it with.
        url: The server's; unset means ELASTICSEARCH_URL, or else http://localhost:9200. It can hold name and password,
            but then these stand in every dump of the configuration.
        server: Which client to talk with: each refuses the other's servers.
        ca_certs: Certificates to trust instead of the system's.
        verify_certs: Whether to check the server's certificate.
        timeout: Seconds to wait for an answer.
    """

    def __init__(
        self,
        index: str,
        corpus: str | Path | None = None,
        url: str | None = None,
        server: Literal["elasticsearch", "opensearch"] = "elasticsearch",
        ca_certs: str | None = None,
        verify_certs: bool = True,
        timeout: float = 60.0,
    ) -> None:
        self.index, self.corpus = index, None if corpus is None else Path(corpus)
        self.url = url or os.environ.get("ELASTICSEARCH_URL") or "http://localhost:9200"
        self.server, self.ca_certs, self.verify_certs, self.timeout = server, ca_certs, verify_certs, timeout
        self._client: Any = None
        self._stamp: tuple[int, int] | None = None

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """See `Retriever`; of each query the first 256 words count.

        Raises:
            InputError: if there is no such index, or it was made of another corpus.
            PragError: if the server does not answer as it should.
        """
        with self._errors_named():
            stamp = None if self.corpus is None else file_stamp(self.corpus)
            if self._client is None or stamp != self._stamp:
                client = self._client or self._connect()
                self._check(client)
                self._client, self._stamp = client, stamp
            return search_distinct(self._best, queries, k)

    def _best(self, queries: list[str], depth: int) -> list[list[Hit]]:
        found = []
        for start in range(0, len(queries), _SEARCHES_AT_ONCE):
            lines: list[Json] = []
            for query in queries[start : start + _SEARCHES_AT_ONCE]:
                lines += [{"index": self.index}, {"query": _published_query(query), "size": depth}]
            for response in self._client.msearch(body=lines)["responses"]:
                if "error" in response:
                    raise PragError(f"the server cannot search: {response['error']}", where=self._place())
                found.append([_hit(each) for each in response["hits"]["hits"]])
        return found

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
        with self._errors_named():
            client = self._connect()
            mappings = client.indices.get_mapping(index=self.index)
            known = [mapping["mappings"].get("_meta", {}).get("corpus_sha256") for mapping in mappings.values()]
            if all(known):
                return " ".join(sorted(known))
            return " ".join((*sorted(mappings), str(client.count(index=self.index)["count"])))

    def build(self) -> None:
        """Fill the index that is not in use, and then search that one.

        Raises:
            InputError: if the corpus is unset or unreadable, or the name belongs to an index of other software.
            PragError: if the server does not take the passages.
        """
        if self.corpus is None:
            raise InputError(
                "there is nothing to index", where="data.retriever.init_args.corpus", hint="Set it to the corpus's file"
            )
        with self._errors_named():
            client = self._connect()
            fresh, old = self._slots(client)
            settings = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}
            about = {"made_by": _MADE_BY, **corpus_facts(self.corpus)}
            client.indices.create(index=fresh, body={"settings": settings, "mappings": {**_MAPPINGS, "_meta": about}})
            try:
                passages = self._fill(client, fresh, CorpusReader(self.corpus))
                check_corpus(about, self.corpus, self._place())
            except BaseException:
                client.indices.delete(index=fresh)
                raise
            actions = [{"remove_index": {"index": old}}] if old else []
            actions.append({"add": {"index": fresh, "alias": self.index}})
            client.indices.update_aliases(body={"actions": actions})
        print(f"{passages} passages in {self._place()}", file=sys.stderr)

    def _fill(self, client: Any, index: str, reader: CorpusReader) -> int:
        helpers = self._library().helpers
        with Progress("index", reader.megabytes, "MB") as progress:
            actions = (
                {"_index": index, "_id": each.id, "title": each.title, "txt": each.text}
                for each in reader.with_progress(progress)
            )
            passages = sum(1 for _ in helpers.streaming_bulk(client, actions, chunk_size=_PASSAGES_AT_ONCE))
        reader.report_bad_rows()
        client.indices.put_settings(index=index, body={"index": {"refresh_interval": "1s"}})
        client.indices.refresh(index=index)
        held = client.count(index=index)["count"]
        if held != passages:
            raise PragError(f"the server holds {held} passages of {passages}", where=self._place())
        return passages

    def _slots(self, client: Any) -> tuple[str, str | None]:
        """The index to fill, emptied, and the one in use."""
        names = [f"{self.index}-a", f"{self.index}-b"]
        if client.indices.exists_alias(name=self.index):
            used = [name for name in names if name in client.indices.get_alias(name=self.index)]
        elif client.indices.exists(index=self.index):
            used = []
        else:
            used = names[1:]
        if not used:
            raise InputError(
                "the name is that of an index that prag did not make", where=self._place(), hint="Choose another name"
            )
        fresh = next(name for name in names if name not in used)
        if client.indices.exists(index=fresh):
            client.indices.delete(index=fresh)
        return fresh, used[0] if client.indices.exists(index=used[0]) else None

    def _check(self, client: Any) -> None:
        for mapping in client.indices.get_mapping(index=self.index).values():
            about = mapping["mappings"].get("_meta", {})
            if about.get("made_by") != _MADE_BY or self.corpus is None or not self.corpus.exists():
                continue
            check_corpus(about, self.corpus, self._place())

    def _library(self) -> Any:
        try:
            if self.server == "opensearch":
                import opensearchpy

                return opensearchpy
            import elasticsearch
            import elasticsearch.helpers
        except ImportError as error:
            raise InputError(
                f"the client of {self.server} is not installed",
                where="data.retriever",
                hint=f"pip install 'prag-lightning[{self.server}]'",
            ) from error
        return elasticsearch

    def _connect(self) -> Any:
        """A client whose server has answered."""
        key, name = os.environ.get("ELASTICSEARCH_API_KEY"), os.environ.get("ELASTICSEARCH_USERNAME")
        login = (name, os.environ.get("ELASTICSEARCH_PASSWORD", "")) if name else None
        options: dict[str, Any] = {"hosts": [self.url], "max_retries": 3, "retry_on_timeout": True}
        if urlsplit(self.url).scheme == "https":
            options |= {"ca_certs": self.ca_certs, "verify_certs": self.verify_certs}
        library = self._library()
        if self.server == "opensearch":
            headers = {"authorization": f"ApiKey {key}"} if key else None
            client = library.OpenSearch(http_auth=login, headers=headers, timeout=self.timeout, **options)
        else:
            client = library.Elasticsearch(api_key=key, basic_auth=login, request_timeout=self.timeout, **options)
        client.info()
        return client

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turn the clients' errors into ours."""
        library = self._library()
        if self.server == "opensearch":
            kinds: tuple[type[Exception], ...] = (
                library.OpenSearchException,
                library.helpers.BulkIndexError,
                ValueError,
            )
        else:
            kinds = (library.ApiError, library.TransportError, library.helpers.BulkIndexError, ValueError)
        try:
            yield
        except kinds as error:
            raise self._named(error) from error

    def _named(self, error: Exception) -> PragError:
        status = getattr(error, "status_code", None)
        found = error.errors if isinstance(error, self._library().helpers.BulkIndexError) else error
        reason = " ".join(str(found).split())[:_REASON_LENGTH]
        if type(error).__name__ == "UnsupportedProductError" or (status in (400, 406) and "media" in reason.lower()):
            return InputError(
                f"the server does not speak with this client: {reason}",
                where=self._place(),
                hint="For OpenSearch set data.retriever.init_args.server to opensearch; for Elasticsearch install the "
                "client of the server's major version",
            )
        if status in (401, 403):
            return InputError(
                f"the server refuses: {reason}",
                where=self._place(),
                hint="Set ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD",
            )
        if status == 404:
            return InputError("there is no index", where=self._place(), hint="Make it with prag index")
        if isinstance(error, ValueError):
            return InputError(f"the server cannot be asked: {reason}", where=self._place(), hint="Check the url")
        return PragError(
            f"the server does not answer as it should: {reason}",
            where=self._place(),
            hint="See that it runs, and set data.retriever.init_args.url or ELASTICSEARCH_URL",
        )

    def _place(self) -> str:
        """Index and server, without name and password."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{self.index}"


def _published_query(question: str) -> dict[str, Json]:
    return {
        "multi_match": {
            "query": " ".join(nfc(question).split()[:_QUERY_WORDS]),
            "type": "best_fields",
            "fields": ["title", "txt"],
            "tie_breaker": 0.5,
        }
    }


def _hit(found: dict[str, Json]) -> Hit:
    source = found["_source"]
    return Hit(Passage(source["txt"], found["_id"], source.get("title") or ""), float(found["_score"]))
