"""The measurements of `benchmarks.speed` as Markdown."""

from __future__ import annotations

from typing import Any


def _times(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _encode_row(row: dict[str, Any]) -> str:
    rate = f"{row['gflops']:.0f} ({row['share_of_matmul']:.0%})" if "gflops" in row else ""
    return (
        f"| {row['model']} | {row['how']} | {row['seconds']:.3f} ({row['least']:.3f}–{row['most']:.3f}) "
        f"| {_times(row['times_published'])} | {_times(row['times_without_padding'])} "
        f"| {row.get('passages_at_once', 1)} | {rate} |\n"
    )


def report(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    encode_rows = "".join(map(_encode_row, results["encode"]))
    changes = ", ".join(f"{r['change']:.1%} at {r['model']}" for r in results["encode"] if "change" in r)
    if changes:
        bfloat16 = f"In bfloat16 the updates differ from those in float32 by {changes} "
        bfloat16 += "(norm of the difference over norm of the update)."
    else:
        bfloat16 = "bfloat16 is left out: this CPU multiplies it at less than a quarter of float32's rate."
    ours = [row for row in results["encode"] if "float32" in row["how"]]
    limits = " and ".join(f"{r['times_published'] / r['share_of_matmul']:.0f} at {r['model']}" for r in ours)
    exact_rows = "".join(
        f"| {r['model']} | {r['ours_plain']:.1e} | {r['ours_exact']:.1e} | {r['plain_exact']:.1e} |\n"
        for r in results["exactness"]
    )
    answer_rows = "".join(
        f"| {r['model']} | {r['method']} | {r['prompt']:.0f} | {r['new_tokens']} | {r['peft']['seconds']:.3f} "
        f"({r['peft']['least']:.3f}–{r['peft']['most']:.3f}) | {r['batch']} | {r['ours']['seconds']:.4f} "
        f"({r['ours']['least']:.4f}–{r['ours']['most']:.4f}) | {r['times']:.1f} | {r['share_of_matmul']:.0%} "
        f"| {r['loading_disk']:.1%} | {r['loading_memory']:.1%} |\n"
        for r in results["answer"]
    )
    growth_rows = "".join(
        f"| {r['passages']:,} | {r['seconds']:.4f} | {r['peak_mb']:,.0f} MB |\n" for r in results["growth"]
    )
    augment_rows = "".join(f"| {r['batch']} | {r['passages_per_second']:.1f} |\n" for r in results["augment"])
    return f"""# Speed, measured

`make bench` on {results["machine"]}.
Medians of {results["rounds"]} rounds, least and greatest in brackets; all that stand in one table ran in turns in one
process, the products that rates are compared with as well.

The models are Llamas with random weights: 2M (width 192, 4 layers) and 26M (width 512, 8 layers), with prag-tiny's
vocabulary. Passages have about 80 words, a rewrite and three QA pairs; the recipe is the paper's (rank 2, five steps a
passage). [baselines.py](baselines.py) is the method in plain PEFT, written from its description; the tests hold the
engine's weights and answers to it.

## Encoding a passage

As published: one passage after the other, every example padded to {results["padded"]} tokens, the model wrapped and
unwrapped for each. The rate counts 4 × parameters × tokens of the examples (without padding), and stands beside that of
a product of two matrices of 2048 × 2048 in the same precision.

| model | how | seconds a passage | × published | × without padding | passages at once | GFLOP/s (share of matmul) |
|---|---|---:|---:|---:|---:|---:|
{encode_rows}
At the whole rate of that product, float32 would be {limits} times as fast as published.
{bfloat16}

How far updates are from each other: the norm of their difference over the norm of the second, the greatest of
{results["exactness"][0]["passages"]} passages. AdamW's first steps follow the
sign of a gradient, however small, so that float32 alone leaves such a distance; plain PEFT's own stands beside it.

| model | ours and plain PEFT | ours and plain PEFT in float64 | plain PEFT in float32 and in float64 |
|---|---:|---:|---:|
{exact_rows}
A run of few passages and of many, each in a process that has encoded some before, from tokens to files:

| passages in a run (2M) | seconds a passage | peak memory of the process |
|---:|---:|---:|
{growth_rows}
## Answering a question

Three passages a question. PEFT: one question after the other, its adapters loaded from disk and merged, then taken out.
Ours: batches, each row with its own merged adapters, loaded from disk as well. The share of matmul counts 2 ×
parameters × tokens, read and written: near one, only fewer operations could make it quicker. Loading and merging take
the last columns' share of the time: from disk, and for adapters that are in memory already.

| model | method | prompt | new tokens | seconds, by PEFT | batch | ours | times | of matmul | loading | in memory |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{answer_rows}
## Augmenting a passage

prag-tiny writes a rewrite and three QA pairs.

| batch | passages a second |
|---:|---:|
{augment_rows}
## Retrieving

[The local retrievers](RETRIEVAL.md), and [search servers beside them](SEARCH_SERVERS.md), have pages of their own.
"""
