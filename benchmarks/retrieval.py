"""Quality and speed of the local retrievers, on real passages and on many more that are made of them.

    PRAG_REAL_DATA=... python -m benchmarks.retrieval

Writes `RETRIEVAL.md` and `retrieval.json` beside this file. Each measurement has a process of its own, so that its peak
memory is its own; the order of the two retrievers alternates.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from prag_lightning.data.corpus import read_corpus
from prag_lightning.files import write_json, write_text
from prag_lightning.records import Passage
from prag_lightning.retrieval import BM25sRetriever, RankBM25Retriever, Retriever, Tokenisation

HERE = Path(__file__).parent
DEPTH = 10
REPLACED_WORDS = 0.1
"""The share of words that differ between a passage and one that is made of it."""
SLOW_QUERIES = {30_938: 100, 1_000_000: 12}
"""Queries that rank-bm25 is timed on, since each takes so long."""
QUALITY = {
    "stemmed, no stop words, with titles": (Tokenisation(), True),
    "without titles": (Tokenisation(), False),
    "without stemming": (Tokenisation(stemmer=None), True),
    "with stop words": (Tokenisation(stop_words=False), True),
}


def main() -> None:
    """Measure everything and write the results, or one measurement and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=3, metavar=("RETRIEVER", "CORPUS", "INDEX"), help="one measurement")
    parser.add_argument("--passages", type=int, default=1_000_000, help="of the larger corpus")
    options = parser.parse_args()
    data = Path(os.environ["PRAG_REAL_DATA"]) / "corpus"
    if options.measure:
        retriever, corpus, index = options.measure
        print(json.dumps(measure(retriever, Path(corpus), Path(index), [text for _, text in read_queries(data)])))
        return
    results = {"machine": machine(), "quality": quality(data), "speed": speed(data, options.passages)}
    write_json(HERE / "retrieval.json", results)
    write_text(HERE / "RETRIEVAL.md", report(results))


def quality(data: Path) -> list[dict[str, Any]]:
    """Recall and mean reciprocal rank of both BM25s, for ways of making words of text."""
    passages = read_corpus(data / "wiki_30938.tsv.gz")
    queries, gold = read_queries(data), read_gold(data)
    rows = []
    for setting, (tokenisation, titles) in QUALITY.items():
        searched = passages if titles else [replace(passage, title="") for passage in passages]
        with tempfile.TemporaryDirectory() as folder:
            stored = write_corpus(Path(folder) / "corpus.tsv", searched)
            bm25s = BM25sRetriever(Path(folder) / "index", stored, tokenisation)
            bm25s.build()
            retrievers: dict[str, Retriever] = {"rank-bm25": RankBM25Retriever(searched, tokenisation), "bm25s": bm25s}
            for name, retriever in retrievers.items():
                print(f"quality: {name}, {setting}", file=sys.stderr)
                found = retriever.search([text for _, text in queries], DEPTH)
                ranks = [
                    [place for place, hit in enumerate(hits, 1) if hit.passage.id in gold[key]]
                    for (key, _), hits in zip(queries, found, strict=True)
                ]
                relevant = [len(gold[key]) for key, _ in queries]
                rows.append(
                    {
                        "retriever": name,
                        "setting": setting,
                        "recall@3": mean(sum(r <= 3 for r in row) / n for row, n in zip(ranks, relevant, strict=True)),
                        "recall@10": mean(len(row) / n for row, n in zip(ranks, relevant, strict=True)),
                        "mrr@10": mean(1 / row[0] if row else 0.0 for row in ranks),
                    }
                )
    return rows


def speed(data: Path, many: int) -> list[dict[str, Any]]:
    """Build, open and search with both BM25s, each in its own process."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        passages = read_corpus(data / "wiki_30938.tsv.gz")
        for count in (len(passages), many):
            corpus = write_corpus(folder / f"{count}.tsv", perturbed(passages, count))
            for retriever in ("bm25s", "rank-bm25"):
                print(f"speed: {retriever}, {count} passages", file=sys.stderr)
                steps = ("build", "search") if retriever == "bm25s" else ("search",)
                row: dict[str, Any] = {"retriever": retriever, "passages": count}
                for step in steps:
                    command = [
                        sys.executable,
                        "-m",
                        "benchmarks.retrieval",
                        "--measure",
                        f"{retriever}:{step}",
                        str(corpus),
                        f"{corpus}.index",
                    ]
                    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
                    row |= json.loads(done.stdout)
                rows.append(row)
            rows[-2]["index_mb"] = sum(f.stat().st_size for f in Path(f"{corpus}.index").iterdir()) / 1e6
            rows[-2]["times_rank_bm25"] = rows[-2]["queries_per_second"] / rows[-1]["queries_per_second"]
    return rows


def measure(task: str, corpus: Path, index: Path, queries: list[str]) -> dict[str, float]:
    """One measurement; memory is the peak of this process."""
    name, step = task.split(":")
    started = time.perf_counter()
    if step == "build":
        BM25sRetriever(index, corpus).build()
        return {"build_seconds": time.perf_counter() - started, "build_peak_mb": peak_mb()}
    if name == "bm25s":
        retriever: Retriever = BM25sRetriever(index, corpus)
        retriever.search(["a"], 1)
        opened = {"open_seconds": time.perf_counter() - started}
        retriever.search(queries[:1], DEPTH)
        opened["first_answer_seconds"] = time.perf_counter() - started
    else:
        retriever = RankBM25Retriever(corpus)
        retriever.search(queries[:1], DEPTH)
        opened = {"open_seconds": time.perf_counter() - started}
        queries = queries[: SLOW_QUERIES.get(sum(1 for _ in corpus.open()) - 1, 12)]
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        retriever.search(queries, DEPTH)
        rates.append(len(queries) / (time.perf_counter() - started))
    return {**opened, "queries_per_second": median(rates), "queries": len(queries), "search_peak_mb": peak_mb()}


def perturbed(passages: list[Passage], count: int) -> list[Passage]:
    """The passages, and copies in which some words are replaced by words of other passages, up to `count`."""
    rng = random.Random(0)
    words = [word for passage in passages for word in passage.text.split()]
    made = list(passages[:count])
    while len(made) < count:
        passage = passages[len(made) % len(passages)]
        text = " ".join(rng.choice(words) if rng.random() < REPLACED_WORDS else w for w in passage.text.split())
        made.append(Passage(text, str(len(made) + 1), passage.title))
    return made


def write_corpus(path: Path, passages: list[Passage]) -> Path:
    """Write a corpus file of passages, numbered anew."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["id", "text", "title"])
        writer.writerows([passage.id, passage.text, passage.title] for passage in passages)
    return path


def read_queries(data: Path) -> list[tuple[str, str]]:
    """Key and text of each question."""
    lines = (data / "hotpotqa_349.queries.tsv").read_text(encoding="utf-8").splitlines()
    return [(key, text) for key, text in (line.split("\t") for line in lines)]


def read_gold(data: Path) -> dict[str, set[str]]:
    """Ids of each question's gold passages."""
    gold: dict[str, set[str]] = {}
    for line in (data / "hotpotqa_349.qrels.txt").read_text(encoding="utf-8").splitlines():
        key, _, passage, _ = line.split()
        gold.setdefault(key, set()).add(passage)
    return gold


def peak_mb() -> float:
    """The most memory that this process held, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1e3  # type: ignore[index]


def machine() -> str:
    """What it was measured on."""
    return f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}"


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    quality_rows = "".join(
        f"| {r['retriever']} | {r['setting']} | {r['recall@3']:.3f} | {r['recall@10']:.3f} | {r['mrr@10']:.3f} |\n"
        for r in results["quality"]
    )
    speed_rows = "".join(
        f"| {r['retriever']} | {r['passages']:,} | {r.get('build_seconds', r['open_seconds']):.1f} s "
        f"| {r.get('build_peak_mb', r['search_peak_mb']):,.0f} MB | {r['open_seconds']:.1f} s "
        f"| {r['search_peak_mb']:,.0f} MB | {r['queries_per_second']:,.1f} | {r.get('times_rank_bm25', 1):,.0f} |\n"
        for r in results["speed"]
    )
    large = next(r for r in results["speed"] if r["retriever"] == "bm25s" and r["passages"] >= 100_000)
    wikipedia = 21_015_324 / large["passages"]
    minutes, gigabytes = large["build_seconds"] * wikipedia / 60, large["index_mb"] * wikipedia / 1e3
    rate = large["queries_per_second"] / wikipedia
    return f"""# Retrieval, measured

`PRAG_REAL_DATA=... python -m benchmarks.retrieval` on {results["machine"]}.

## What is found

30,938 Wikipedia passages, 349 HotpotQA questions with two gold passages each. Some questions were chosen for being
findable, so that all figures are flattered; what counts is how they differ.

| retriever | words | recall@3 | recall@10 | MRR@10 |
|---|---|---:|---:|---:|
{quality_rows}
## How fast

The larger corpus is made of the smaller: each further passage has one word in ten replaced. rank-bm25 keeps nothing on
disk: it reads and counts the corpus whenever it opens, so its building and opening are one. Queries ask for {DEPTH}
passages, on one thread; the rate is the median of three rounds.

| retriever | passages | build | peak | open | peak | queries/s | × rank-bm25 |
|---|---:|---:|---:|---:|---:|---:|---:|
{speed_rows}
The first answer of bm25s takes {large["first_answer_seconds"]:.1f} s from the start of the process, most of which numba
spends on compiling the search; the index of {large["passages"]:,} passages has {large["index_mb"]:,.0f} MB.

**Wikipedia, 21,015,324 passages**, reasoned from the larger corpus: build time, index size and the work for a
query all grow with the passages, by a factor of {wikipedia:.0f}. So about {minutes:.0f} minutes to build,
{gigabytes:.0f} GB on disk, and {rate:.0f} queries a second once the files are in the page cache: 300 questions in
{300 / rate:.0f} s. Memory while building is bounded by the vocabulary (about 100 bytes a distinct word), 16 bytes a
passage and 2 GB for the piece that is sorted; while searching, by 4 bytes a passage and thread beside the mapped files.
"""


if __name__ == "__main__":
    main()
