"""Loss terms as pure functions of tensors, without weights; every row counts equally."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from espalier.data.batches import IGNORED
from espalier.losses.vocabulary import token_cross_entropy, token_divergence, token_terms

LEAST_NORM = 0.01
"""Vectors are divided by their norm, or by this where that is smaller: a gradient grows as 1 / norm, and would be 1e6 at 0. Of
32 rows, a feature is below it where its standard deviation is under 0.002."""


def class_loss(logits: Float[Tensor, "lines classes"], labels: Int[Tensor, " lines"]) -> Float[Tensor, ""]:
    """Cross-entropy over classes, or over the places of a row.

    Source: docs/methods/sdp.md §2.2.
    Differs from the authors' code: no code is public.
    """
    return F.cross_entropy(logits.float(), labels)


def value_loss(logits: Float[Tensor, "batch 1"], labels: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Mean squared error of a single output.

    Source: docs/methods/sdp.md §2.2.
    Differs from the authors' code: no code is public.
    """
    return F.mse_loss(logits.float().squeeze(-1), labels.float())


def masked_token_loss(logits: Float[Tensor, "masked vocabulary"], labels: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the masked tokens; 0 where there are none.

    Source: docs/methods/homodistil.md §2, L_MLM.
    Differs from the authors' code: no code is public.

    Args:
        logits: one line a masked token, in row-major order of the mask.
        labels: the token at every masked place and `IGNORED` elsewhere.
    """
    wanted = labels[labels != IGNORED]
    return token_cross_entropy(logits, wanted) / max(1, len(wanted))


def class_divergence(
    student: Float[Tensor, "lines classes"], teacher: Float[Tensor, "lines classes"], *, temperature: float
) -> Float[Tensor, ""]:
    """tau^2 KL(teacher || student) of the softened distributions: sum over classes, mean over lines.

    Source: Hinton et al. 2015, arXiv 1503.02531; docs/methods/sdp.md §2.3.
    Differs from the authors' code: no code is public.

    Args:
        student: logits.
        teacher: logits; no gradient flows into them.
        temperature: > 0.
    """
    student_log, teacher_log = (F.log_softmax(logits.float() / temperature, dim=-1) for logits in (student, teacher))
    return -(temperature**2) * torch.einsum("bc,bc->b", teacher_log.exp(), student_log - teacher_log).mean()


def value_difference(student: Float[Tensor, "batch 1"], teacher: Float[Tensor, "batch 1"]) -> Float[Tensor, ""]:
    """Mean squared difference of the outputs: what regression has in the place of a divergence.

    Source: docs/methods/sdp.md §2.3.
    Differs from the authors' code: no code is public.
    """
    return F.mse_loss(student.float(), teacher.float())


def vector_difference(student: Float[Tensor, "batch hidden"], teacher: Float[Tensor, "batch hidden"]) -> Float[Tensor, ""]:
    """1 - cos of vectors of length 1, a mean over rows; in [0, 2].

    Written as |s - t|^2 / 2, which is the same and keeps its digits where both are near. Its gradient is s - t.

    Source: Reimers and Gurevych 2020, arXiv 2004.09813, eq. 1 (mean squared error of a teacher's sentence vectors).
    Differs from the authors' code: a sum over dimensions, not a mean, so that it does not depend on their number.

    Args:
        student: vectors of length 1, as wide as the teacher's.
        teacher: vectors of length 1; no gradient flows into them.
    """
    return (student.float() - teacher.detach().float()).square().sum(dim=-1).mean() / 2.0


def masked_token_divergence(
    student: Float[Tensor, "masked vocabulary"], teacher: Float[Tensor, "masked vocabulary"], *, temperature: float
) -> Float[Tensor, ""]:
    """tau^2 KL(teacher || student) of the softened distributions, a masked token; 0 where there are none.

    Source: Hinton et al. 2015, arXiv 1503.02531; docs/methods/homodistil.md §2.
    Differs from the authors' code: no code is public.
    """
    return temperature**2 * token_divergence(student, teacher, temperature) / max(1, len(student))


def masked_token_terms(
    student: Float[Tensor, "masked vocabulary"],
    teacher: Float[Tensor, "masked vocabulary"],
    labels: Int[Tensor, "batch length"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`masked_token_loss` and `masked_token_divergence` at a temperature of 1, computed together.

    Source: docs/methods/homodistil.md §2 (L_MLM, L_pred).
    Differs from the authors' code: no code is public.
    """
    wanted = labels[labels != IGNORED]
    entropy, divergence = token_terms(student, teacher, wanted)
    return entropy / max(1, len(wanted)), divergence / max(1, len(wanted))


def distillation_weights(alpha: float) -> dict[str, float]:
    """Weights of the terms of logit distillation: 1 - alpha for the task loss, alpha for the soft labels."""
    return {"task": 1.0 - alpha, "kld": alpha}


def soft_cross_entropy(
    student: Float[Tensor, "batch classes"],
    teacher: Float[Tensor, "batch classes"],
    *,
    temperature: float,
    reduction: Literal["mean", "batchmean"],
) -> Float[Tensor, ""]:
    """-softmax(teacher / tau) log softmax(student / tau); its floor is the teacher's entropy, not 0.

    Source: docs/methods/spd.md §2.2 (L_pred).
    Differs from the authors' code: nothing, for `mean`.

    Args:
        student: logits.
        teacher: logits; no gradient flows into them.
        temperature: tau > 0; no factor tau^2.
        reduction: `mean` over rows and classes, as in the authors' code; `batchmean` sums over classes.
    """
    expected = F.softmax(teacher.float() / temperature, dim=-1)
    terms = -expected * F.log_softmax(student.float() / temperature, dim=-1)
    return terms.mean() if reduction == "mean" else terms.sum() / len(terms)


def cosine_distance(student: Float[Tensor, "rows hidden"], teacher: Float[Tensor, "rows hidden"]) -> Float[Tensor, ""]:
    """Mean over rows of 1 - cos(student, teacher); in [0, 2].

    Source: docs/methods/sdp.md §2.4.
    Differs from the authors' code: no code is public.
    """
    return (1.0 - F.cosine_similarity(student.float(), teacher.float(), dim=-1, eps=LEAST_NORM)).mean()


def correlation_matrix(
    student: Float[Tensor, "rows hidden"], teacher: Float[Tensor, "rows hidden"], *, centre: bool = True, epsilon: float = 1e-6
) -> Float[Tensor, "hidden hidden"]:
    """C[i, j]: correlation over the rows of student feature i with teacher feature j; entries in [-1, 1].

    Source: docs/methods/sdp.md §2.5. A feature that is constant over the rows gives a row or column of zeros.
    Differs from the authors' code: no code is public.
    """
    return _unit_columns(student, centre, epsilon).T @ _unit_columns(teacher, centre, epsilon)


def _unit_columns(states: Float[Tensor, "rows hidden"], centre: bool, epsilon: float) -> Float[Tensor, "rows hidden"]:
    """The states with every feature divided by its norm over the rows."""
    states = states.float()
    if centre:
        states = states - states.mean(dim=0)

    # A feature that is constant over the rows stays at 0, and its gradient bounded.
    return states / (states.norm(dim=0).clamp_min(LEAST_NORM) + epsilon)


def cross_correlation_loss(
    student: Float[Tensor, "rows hidden"],
    teacher: Float[Tensor, "rows hidden"],
    *,
    off_diagonal: float,
    centre: bool = True,
    normalise: bool = True,
    epsilon: float = 1e-6,
) -> Float[Tensor, ""]:
    """The loss that pushes the cross-correlation of student and teacher features to the identity.

    Source: docs/methods/sdp.md §2.5: sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2, divided by the hidden width
    where `normalise` is set. It has a floor that depends on the number of rows (rank of C), so values of different batch
    sizes do not compare. With fewer than 3 rows the term is 0.
    Differs from the authors' code: no code is public.

    Args:
        student: representations of the pruned network; gradient flows through centring and norm.
        teacher: representations of the unpruned network for the same rows.
        off_diagonal: lambda >= 0.
        centre: subtract each feature's mean over the rows.
        normalise: divide by the hidden width.
        epsilon: added to each norm.
    """
    if len(student) < 3:
        # 0 that still hangs on the student, so that backward() works.
        return student.float().sum() * 0.0

    # C needs fp32.
    with torch.autocast(device_type=student.device.type, enabled=False):
        matrix = correlation_matrix(student, teacher.detach(), centre=centre, epsilon=epsilon)

    # on = sum_i (1 - C_ii)^2, off = sum_{i != j} C_ij^2
    diagonal = matrix.diagonal()
    on = (1.0 - diagonal).square().sum()
    off = matrix.square().sum() - diagonal.square().sum()

    loss = on + off_diagonal * off
    return loss / matrix.shape[0] if normalise else loss


def distance(
    student: Float[Tensor, "batch length width"],
    teacher: Float[Tensor, "batch length width"],
    mask: Int[Tensor, "batch length"] | None,
) -> Float[Tensor, ""]:
    """Mean squared difference over batch, length and width; with a mask only over real tokens.

    Source: docs/methods/cofi.md §2 (L_layer, one pair), and docs/methods/spd.md §2.2 (L_hid, one layer).
    Differs from the authors' code: the mask.
    """
    squared = (student.float() - teacher.float()).square()
    if mask is None:
        return squared.mean()

    return (squared.mean(dim=-1) * mask).sum() / mask.sum()


def projected_loss(
    student: Float[Tensor, "batch length hidden"],
    teacher: Float[Tensor, "batch length width"],
    projection: Float[Tensor, "hidden width"],
    mask: Int[Tensor, "batch length"],
) -> Float[Tensor, ""]:
    """MSE(H_t, H_s W) over the real positions: the hidden term of one layer, and the embedding term.

    Source: docs/methods/homodistil.md §2 (L_hidn, L_emb): mean over all elements, padding excluded.
    Differs from the authors' code: no code is public.
    """
    return distance(student @ projection.to(student.dtype), teacher, mask)


def relation_loss(
    student: Float[Tensor, "batch length length"],
    teacher: Float[Tensor, "batch length length"],
    mask: Int[Tensor, "batch length"],
    *,
    softmax: bool,
) -> Float[Tensor, ""]:
    """MSE(A_t, A_s) over pairs of real positions: the attention term of one layer.

    Source: docs/methods/homodistil.md §2 (L_attn). `softmax` compares the distributions that the averaged scores
    give over the real keys, since maps of single heads are never formed.
    Differs from the authors' code: no code is public.

    Args:
        student: scaled scores of the student, averaged over heads.
        teacher: scaled scores of the teacher, averaged over heads.
        mask: 1 at real positions.
        softmax: compare after the softmax.
    """
    student = student.float()
    teacher = teacher.float()

    # Keys that are padding get probability 0.
    if softmax:
        padding = mask[:, None, :] == 0
        student = student.masked_fill(padding, -torch.inf).softmax(dim=-1)
        teacher = teacher.masked_fill(padding, -torch.inf).softmax(dim=-1)

    # 1 where query and key are both real.
    pairs = mask[:, :, None] * mask[:, None, :]
    return ((student - teacher).square() * pairs).sum() / pairs.sum()


def map_loss(
    student: Float[Tensor, "batch heads length length"],
    teacher: Float[Tensor, "batch heads length length"],
    mask: Int[Tensor, "batch length"] | None,
) -> Float[Tensor, ""]:
    """Mean squared difference of attention probabilities over batch, heads, queries and keys.

    Source: docs/methods/spd.md §2.2 (L_att, one layer): padding counts.
    Differs from the authors' code: given a mask, the mean is over pairs of real positions.
    """
    squared = (student.float() - teacher.float()).square()
    if mask is None:
        return squared.mean()

    # 1 where query and key are both real.
    pairs = mask[:, :, None] * mask[:, None, :]
    return (squared.mean(dim=1) * pairs).sum() / pairs.sum()
