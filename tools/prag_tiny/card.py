"""The model card of a trained prag-tiny: what it was made of, what it took, and what it can do."""

from __future__ import annotations

from collections.abc import Sequence

from tools.prag_tiny.evaluation import RECIPE, Result
from tools.prag_tiny.training import TinySettings, TrainingRecord
from tools.prag_tiny.world import YEARS

_CARD = """\
# prag-tiny

A Llama of {parameters:.1f} million parameters, trained from nothing on a made-up world, small enough to be kept in a
repository and to answer on two CPU cores. It does the jobs that Parametric RAG asks of a language model, in that world
and with the prompts of `configs/prompts/default.yaml` alone: it is of no use for anything else.

## How it was made

{how}

| | |
|---|---|
| architecture | Llama: {layers} layers, width {width}, feed-forward {ffn}, vocabulary {vocab_size}, context {context} |
| weights | bfloat16, embeddings tied |
| steps | {steps:,} of {rows} × {row_length} tokens |
| tokens | {tokens_millions:.1f} million; what prompts share is counted once |
| time | {minutes:.0f} minutes on {device} |
| optimiser | Muon for the matrices in the layers, AdamW for the rest; cosine decay from {learning_rate:g} |
| seed | {seed} |

With `--minutes` the learning rate follows the clock, so another machine takes another number of steps.

**Data.** Nothing but text made by `tools.prag_tiny`. The world has people, films, companies and towns with
invented names; a passage states three facts about one of them. Values are names, years from {first_year} to
{last_year}, or one of 24 to 30 professions, genres, goods or countries. Every job but one draws new entities for each
example; {known} entities come again and again without a passage, so that the model also learns to answer by heart.

**Jobs.** Answer from one to three passages, most of the others about entities with names alike; answer by heart;
reason over two passages in the format of the worked examples; rewrite a passage; write three QA pairs as JSON.

**Choosing.** To answer from several passages a model must look for the value that belongs to the name in the question.
From answers alone this one did not learn that in an hour and a half: what the lower layers must gather for it pays only
once all of it is there. Two things brought it about. One head of the third layer is taught where to look: a second loss
is -log of the attention that it pays to the words that are to be copied. And at first most questions are about two to
six single statements of one attribute, of things with names alike, among which nothing but the name decides.

**What it has not seen.** A hash of each name decides whether it belongs to training or to the demo, so no entity of
the demo was ever in training. Each attribute has wordings for the questions of QA pairs and others for the questions
of the demo. The model meets both kinds in training, about other entities, as any language model has met both ways of
asking; when it writes QA pairs it uses the first kind only. So an adapter is never trained on the wording that the
demo asks in.

The demo was drawn with a seed that no earlier version had, after training had ended.

## What it does badly

Among three passages about things of one kind it finds the right one nearly always if their names share no word, and
in about two of three cases if they do, as most of what BM25 finds for the demo's questions does. Questions that compare
two things are near guessing, and two-hop questions fail mostly where BM25 does not find the second passage. The demo
therefore takes one passage a question.

## What it can do

Greedy decoding and exact match; QA pairs and rewrites are sampled at temperature 0.7 from the best 50 tokens. The
first rows are the demo's questions with the passages that BM25 finds first, the others newly drawn entities of the
demo's side in the demo's wordings. Adapters: rank {rank}, alpha {alpha}, learning rate {adapter_rate:g},
{epochs} epochs over the three QA pairs, asked without the passage, and the rewrite.

{results}

How the demo's adapters were chosen, and what the published recipe gives with this model: [SWEEP.md](SWEEP.md). What
other objectives and merges give: [OBJECTIVES.md](OBJECTIVES.md).
"""


def model_card(settings: TinySettings, record: TrainingRecord, parameters: int, results: Sequence[Result]) -> str:
    """The card as Markdown."""
    return _CARD.format(
        **vars(settings) | vars(record),
        how="\n".join(f"    {command}" for command in record.commands),
        parameters=parameters / 1e6,
        tokens_millions=record.tokens / 1e6,
        known=settings.known_entities,
        first_year=YEARS[0],
        last_year=YEARS[-1],
        rank=RECIPE.lora_rank,
        alpha=RECIPE.lora_alpha,
        adapter_rate=RECIPE.learning_rate,
        epochs=RECIPE.num_train_epochs,
        results=results_table(results),
    )


def results_table(results: Sequence[Result]) -> str:
    """Results as a Markdown table."""
    rows = [f"| {result.job} | {result.cases} | {result.share:.1%} |" for result in results]
    return "\n".join(["| job | cases | done well |", "|---|---:|---:|", *rows])
