"""How sure a model is of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prag_lightning.data.boundary import common_prefix
from prag_lightning.llm.loading import LLM
from prag_lightning.lora.stack import LoraWeights
from prag_lightning.metrics import COT_MARK, extract_answer
from prag_lightning.training.loss import hidden_and_head, token_log_probabilities


@dataclass(frozen=True)
class ClosedPrompt:
    """A prompt and the answer to it, as one row of tokens.

    Args:
        ids: Of both.
        start: How many of them are the prompt's.
    """

    ids: Sequence[int]
    start: int

    @classmethod
    def of(cls, prompt: Sequence[int], closed: Sequence[int], context: int) -> ClosedPrompt:
        """A prompt that is open, and the same closed by an answer.

        Args:
            prompt: Its ids.
            closed: Those of both; an answer that becomes one token with the prompt's last begins before its end.
            context: What does not fit into so many tokens is left out.
        """
        ids = closed[:context]
        return cls(ids, max(1, min(common_prefix(prompt, ids), len(ids) - 1)))


def answer_part(reply: str, with_cot: bool = False) -> str:
    """A reply as far as the end of the answer that `full` extraction finds in it.

    >>> answer_part(" In Rome. It is old.")
    'In Rome'
    >>> answer_part("He ran. So the answer is yes. Why?", with_cot=True)
    'He ran. So the answer is yes'
    """
    reply = reply.strip()
    answer = extract_answer(reply, with_cot, "full")
    after = reply.find(COT_MARK) + len(COT_MARK) if with_cot and COT_MARK in reply else 0
    return reply[: reply.index(answer, after) + len(answer)]


@torch.inference_mode()
def mean_log_probabilities(
    llm: LLM, rows: Sequence[ClosedPrompt], adapters: LoraWeights | None = None, scaling: float = 1.0
) -> list[float]:
    r"""The mean log-probability of a token of each answer, in nats, by one pass over all rows; at most 0.

    .. math:: \ell = \frac{1}{T} \sum_t \log p(y_t \mid q, y_{<t})

    for an answer `y` of `T` tokens to a prompt `q`.

    A row's value does not depend on the rows beside it, up to rounding: less than 1e-4 in float32; in bfloat16 up to
    0.02 was seen on the embedded model. No more than `LOGITS_AT_ONCE` logits are held at once, and their softmax is
    float32 in any precision.

    Args:
        llm: The model.
        rows: At least one.
        adapters: A stack of one adapter a row, or none for the plain model.
        scaling: alpha / r of the adapters as they were trained.

    Raises:
        PragError: if the model is still writing something else.
    """
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), llm.pad_id)
    answered = torch.zeros_like(ids, dtype=torch.bool)
    for number, row in enumerate(rows):  # padded on the right, where no token before it looks
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        answered[number, row.start : len(row.ids)] = True
    ids, answered = ids.to(llm.device), answered.to(llm.device)
    forward = hidden_and_head(llm)
    with llm.carrying(adapters, scaling):
        hidden, head, bias = forward(ids)
    before = answered[:, 1:]  # each token is predicted at the one before it
    each = token_log_probabilities(hidden[:, :-1][before], head, bias, ids[:, 1:][before])
    return [float(part.mean()) for part in torch.split(each, answered.sum(1).tolist())]
