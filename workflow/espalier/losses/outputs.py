"""Losses of outputs that are no distribution over classes: several labels a row, and scores that rank; pure functions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def label_set_loss(logits: Float[Tensor, "rows classes"], labels: Float[Tensor, "rows classes"]) -> Float[Tensor, ""]:
    """Binary cross-entropy with logits: a mean over rows and classes.

    Source: transformers, problem_type multi_label_classification (torch's BCEWithLogitsLoss).
    Differs from the authors' code: nothing.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float())


def soft_label_set_loss(
    student: Float[Tensor, "rows classes"],
    teacher: Float[Tensor, "rows classes"],
    *,
    temperature: float,
    reduction: Literal["mean", "batchmean"] = "mean",
) -> Float[Tensor, ""]:
    """Binary cross-entropy of sigmoid(student / tau) against sigmoid(teacher / tau); its floor is the teacher's entropy, not 0.

    Source: Hinton et al. 2015, arXiv 1503.02531, with a yes or no for each class in the place of a distribution over classes.
    Differs from the authors' code: no code is public.

    Args:
        student: logits.
        teacher: logits; no gradient flows into them.
        temperature: tau > 0; no factor tau^2.
        reduction: `mean` over rows and classes; `batchmean` sums over classes.
    """
    expected = torch.sigmoid(teacher.detach().float() / temperature)
    mean = F.binary_cross_entropy_with_logits(student.float() / temperature, expected)
    return mean if reduction == "mean" else mean * student.shape[1]


def pointwise_loss(scores: Float[Tensor, "rows 1"], relevance: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
    """Binary cross-entropy of each text's score against its grade divided by the largest grade, in [0, 1].

    Source: Nogueira & Cho 2019, arXiv 1901.04085 (monoBERT), for grades of 0 and 1.
    Differs from the authors' code: one output in the place of two; grades between 0 and the largest one.
    """
    return F.binary_cross_entropy_with_logits(scores.float().squeeze(-1), relevance.float())


def pair_losses(
    scores: Float[Tensor, " rows"], grades: Float[Tensor, " rows"], queries: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sum of log(1 + exp(s_j - s_i)) over the pairs of texts of one query of which i has the higher grade; and their number.

    Source: Burges et al. 2005, "Learning to rank using gradient descent" (RankNet), with target probability 1.
    Differs from the authors' code: no code is public.
    """
    # better[i, j]: texts of one query, and i is the better one
    better = (queries[:, None] == queries[None, :]) & (grades[:, None] > grades[None, :])
    lost = F.softplus(scores[None, :] - scores[:, None])
    return (lost * better).sum(), better.float().sum()


def pairwise_loss(scores: Float[Tensor, "rows 1"], labels: Float[Tensor, "rows 2"]) -> Float[Tensor, ""]:
    """Mean of `pair_losses` over all pairs of a batch; 0, with a graph, where there are none.

    Source: Burges et al. 2005 (RankNet).
    Differs from the authors' code: no code is public.

    Args:
        scores: one output a row.
        labels: grade and number of the query of each row.
    """
    grades, queries = labels.float().unbind(dim=1)
    total, pairs = pair_losses(scores.float().squeeze(-1), grades, queries)
    return total / pairs.clamp_min(1.0)
