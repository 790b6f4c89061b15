"""Elasticsearch and OpenSearch beside the local retrievers: what each finds, how fast, and whether kills lose passages.

    PRAG_REAL_DATA=... PRAG_SEARCH_SERVERS=... python -m benchmarks.search_servers

Starts real servers, writes `SEARCH_SERVERS.md` and `search_servers.json` beside this file. What stands in one table ran
in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.retrieval import machine, perturbed, read_gold, read_queries, write_corpus

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from prag_lightning.data.corpus import CorpusReader, read_corpus
from prag_lightning.files import write_json, write_text
from prag_lightning.retrieval import BM25sRetriever, ElasticsearchRetriever, RankBM25Retriever, Retriever
from prag_lightning.retrieval.elasticsearch import published_query
from search_servers import KINDS, Node, held, index_command, kill_program_often, kill_server_often

HERE = Path(__file__).parent
DEPTHS = (3, 10, 100)
TIMED = (3, 100)
WIKIPEDIA = 21_015_324
MANY = 200_000
"""Passages of the longer builds, made of the real ones."""
PARTS = ("filling", "searching", "kills")
SLOW_QUERIES = 50
"""That rank-bm25 is timed on, since each takes so long."""
WITH_PEAK = """
from benchmarks.retrieval import peak_mb
from prag_lightning.cli import main

assert main() == 0
print(peak_mb())
"""


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20, help="of each server, and of the program with each")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="what to measure; the rest stays")
    options = parser.parse_args()
    os.environ.setdefault("SEARCH_SERVER_HEAP", "2g")  # as in compose.yaml
    data = Path(os.environ["PRAG_REAL_DATA"]) / "corpus"
    corpus, kept = data / "wiki_30938.tsv.gz", HERE / "search_servers.json"
    results: dict[str, Any] = {part: {} for part in ("builds", "commands", "searches", "found", "kills")}
    if kept.exists():
        results = json.loads(kept.read_text(encoding="utf-8"))
    results["machine"] = machine()
    for part in options.parts:
        for kind in KINDS:
            print(f"{part}: {kind}", file=sys.stderr)
            with tempfile.TemporaryDirectory() as folder, running(kind, Path(folder) / "node") as node:
                if part == "filling":
                    fill(node, corpus, Path(folder), options.rounds, results)
                elif part == "searching":
                    search(node, corpus, Path(folder), options.rounds, results)
                else:
                    results["kills"][kind] = kills(node, corpus, options.kills)
        write_json(kept, results)
    write_text(HERE / "SEARCH_SERVERS.md", report(results))


def fill(node: Node, corpus: Path, folder: Path, rounds: int, results: dict[str, Any]) -> None:
    """Measure builds."""
    many = write_corpus(folder / "many.tsv", perturbed(read_corpus(corpus), MANY))
    builds(node, corpus, 1)  # warms the server up
    results["builds"][node.kind] = builds(node, many, rounds)
    results["commands"][node.kind] = [command(node, each) for each in (corpus, many)]


def search(node: Node, corpus: Path, folder: Path, rounds: int, results: dict[str, Any]) -> None:
    """Measure searches, beside the local retrievers'."""
    server = ElasticsearchRetriever("wiki", corpus, node.url, node.kind)
    bm25s = BM25sRetriever(folder / "bm25s", corpus)
    server.build()
    bm25s.build()
    found_by: dict[str, Retriever] = {node.kind: server, "bm25s": bm25s, "rank-bm25": RankBM25Retriever(corpus)}
    timed = {f"{node.kind}, a request a question": OneByOne(node), **found_by}
    results["searches"][node.kind] = searches(timed, corpus.parent, rounds)
    results["found"] |= {name: found(each, corpus.parent) for name, each in found_by.items()}


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Node]:
    """A server that has just been started."""
    node = Node(kind, folder)
    node.start()
    try:
        node.wait()
        yield node
    finally:
        node.kill()


class OneByOne:
    """Asks one question a request, as the published code does."""

    def __init__(self, node: Node) -> None:
        self._client = client(node)

    def search(self, queries: list[str], k: int) -> list[Any]:
        """The server's answers."""
        bodies = [{**published_query(query), "size": k} for query in queries]
        return [self._client.search(index="wiki", body=body) for body in bodies]


def client(node: Node) -> Any:
    """Of a server, as its makers have it."""
    import elasticsearch
    import opensearchpy

    return {"elasticsearch": elasticsearch.Elasticsearch, "opensearch": opensearchpy.OpenSearch}[node.kind](node.url)


def builds(node: Node, corpus: Path, rounds: int) -> dict[str, float]:
    """Passages a second: one stream of requests, and several at once."""
    import elasticsearch.helpers
    import opensearchpy

    helpers = {"elasticsearch": elasticsearch.helpers, "opensearch": opensearchpy.helpers}[node.kind]
    asked = client(node)
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for threads in (0, 2, 4):
            started = time.perf_counter()
            if threads:
                ElasticsearchRetriever("wiki", corpus, node.url, node.kind, threads=threads).build()
            else:
                asked.indices.create(index="stream", body={"settings": SETTINGS, "mappings": MAPPINGS})
                actions = (
                    {"_index": "stream", "_id": each.id, "title": each.title, "txt": each.text}
                    for each in CorpusReader(corpus)
                )
                sent = sum(1 for _ in helpers.streaming_bulk(asked, actions, chunk_size=1000))
                asked.indices.refresh(index="stream")
            taken = time.perf_counter() - started
            if not threads:
                asked.indices.delete(index="stream")
            rates.setdefault(f"{threads} threads" if threads else "streaming_bulk", []).append(sent / taken)
    return {how: median(each) for how, each in rates.items()}


def command(node: Node, corpus: Path) -> dict[str, float]:
    """`prag index` in a process of its own, from its start to its end: time, memory, and the server's disk."""
    line = index_command(node, "command", corpus)
    started = time.perf_counter()
    done = subprocess.run([line[0], "-c", WITH_PEAK, *line[3:]], cwd=HERE.parent, stdout=subprocess.PIPE, check=True)
    taken, passages = time.perf_counter() - started, held(node, "command")
    stored = client(node).indices.stats(index="command")["_all"]["total"]["store"]["size_in_bytes"]
    return {"passages": passages, "seconds": taken, "peak_mb": float(done.stdout), "disk_mb": stored / 1e6}


FIELD = {"type": "text", "analyzer": "english"}
MAPPINGS = {"properties": {"title": FIELD, "txt": FIELD}}
SETTINGS = {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "-1"}


def searches(retrievers: dict[str, Any], data: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Questions a second, by retriever and depth."""
    texts = [text for _, text in read_queries(data)]
    rates: dict[str, dict[str, list[float]]] = {name: {str(k): [] for k in TIMED} for name in retrievers}
    for number in range(rounds + 1):
        for name, retriever in retrievers.items():
            asked = texts[:SLOW_QUERIES] if name == "rank-bm25" else texts
            for k in TIMED:
                started = time.perf_counter()
                retriever.search(asked, k)
                if number:
                    rates[name][str(k)].append(len(asked) / (time.perf_counter() - started))
    return {name: {k: median(each) for k, each in by_depth.items()} for name, by_depth in rates.items()}


def found(retriever: Retriever, data: Path) -> dict[str, float]:
    """Recall at each depth."""
    queries, gold = read_queries(data), read_gold(data)
    hits = retriever.search([text for _, text in queries], max(DEPTHS))
    ids = [[hit.passage.id for hit in each] for each in hits]
    return {
        f"recall@{k}": mean(
            len(gold[key] & set(row[:k])) / len(gold[key]) for (key, _), row in zip(queries, ids, strict=True)
        )
        for k in DEPTHS
    }


def kills(node: Node, corpus: Path, times: int) -> dict[str, int]:
    """How often server and program were killed in builds, and how many of these ended with every passage once."""
    rng, expected = random.Random(0), sum(1 for _ in CorpusReader(corpus))
    counts = {"server": 0, "program": 0, "builds": 0, "whole": 0}
    for which, kill in (("server", kill_server_often), ("program", kill_program_often)):
        while counts[which] < times:
            name = f"killed{counts['builds']}"
            line = index_command(node, name, corpus)
            often = min(4, times - counts[which])
            counts[which] += kill(node, line, often, rng) if which == "server" else kill(line, often, rng)  # type: ignore[operator]
            counts["builds"] += 1
            counts["whole"] += held(node, name) == expected
    return counts


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    build_rows = "".join(
        f"| {kind} | {how} | {rate:,.0f} | {rate / rates['streaming_bulk']:.2f} | {WIKIPEDIA / rate / 3600:.1f} h |\n"
        for kind, rates in results["builds"].items()
        for how, rate in rates.items()
    )
    command_rows = "".join(
        f"| {kind} | {each['passages']:,} | {each['seconds']:.1f} | {each['passages'] / each['seconds']:,.0f} "
        f"| {each['peak_mb']:.0f} | {each['disk_mb']:,.0f} "
        f"| {WIKIPEDIA / each['passages'] * each['disk_mb'] / 1e3:.0f} GB |\n"
        for kind, both in results["commands"].items()
        for each in both
    )
    search_rows = "".join(
        f"| {kind} | {name} | {' | '.join(f'{rates[str(k)]:,.0f}' for k in TIMED)} |\n"
        for kind, timed in results["searches"].items()
        for name, rates in timed.items()
    )
    found_rows = "".join(
        f"| {name} | {' | '.join(f'{each:.4f}' for each in recalls.values())} |\n"
        for name, recalls in results["found"].items()
    )
    kill_rows = "".join(
        f"| {kind} | {each['server']} | {each['program']} | {each['whole']} of {each['builds']} |\n"
        for kind, each in results["kills"].items()
    )
    return f"""# Search servers, measured

`PRAG_REAL_DATA=... PRAG_SEARCH_SERVERS=... python -m benchmarks.search_servers` on {results["machine"]}; servers, with
2 GB of heap, and client share the cores. 30,938 Wikipedia passages, 349 HotpotQA questions; medians, rounds in turns.

## Filling

{MANY:,} passages, made of the real ones with a tenth of the words changed. `streaming_bulk` sends a request of 1,000
passages after the other; threads are those of `prag index`. The last column is what
21,015,324 passages would take at this rate.

| server | how | passages/s | × stream | Wikipedia |
|---|---|---:|---:|---:|
{build_rows}
`prag index` in a process of its own, from its start to the alias, with its 4 threads.

| server | passages | seconds | passages/s | MB of our memory | MB on the server's disk | Wikipedia |
|---|---:|---:|---:|---:|---:|---:|
{command_rows}
## Searching, questions a second

| run | retriever | {" | ".join(f"k = {k}" for k in TIMED)} |
|---|---|{"---:|" * len(TIMED)}
{search_rows}
## What is found

| retriever | {" | ".join(f"recall@{k}" for k in DEPTHS)} |
|---|{"---:|" * len(DEPTHS)}
{found_rows}
## Kills

SIGKILL at random moments of builds; the server is started again on its data, the program is run again.

| server | kills of the server | of the program | builds that ended with every passage once |
|---|---:|---:|---:|
{kill_rows}"""


if __name__ == "__main__":
    main()
