"""What pruning does to representations, weights and training: the analyses of SDP and SPD as plain functions.

The papers name these analyses; their authors' definitions were not found. The definitions are ours, as written down in
docs/methods/sdp.md §6 (SDP, arXiv 2109.15014) and docs/methods/spd.md §6.1 (SPD, arXiv 2110.08190).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

CONSTANT = 1e-9
"""A feature whose standard deviation is at most this fraction of its largest value is constant: what is left is rounding."""


def class_separability(vectors: Float[Tensor, "rows hidden"], labels: Int[Tensor, " rows"]) -> Float[Tensor, ""]:
    """R² = 1 - d_within / d_total of cosine distances, classes weighted equally; at most 1, larger is better separated.

    Source: docs/methods/sdp.md §6.1 (Kornblith et al. 2021, arXiv 2010.16402): d_within is the mean over classes of
    1 - ||mu_k||² and d_total is 1 - ||mean_k mu_k||², with mu_k the mean of a class's unit vectors. Vectors that all point
    the same way are not separated: 0.
    """
    within, total, _ = _spread(F.normalize(vectors.double(), dim=1), labels)
    return torch.where(total > 0, 1.0 - within / total, 0.0)


def class_signal_to_noise(vectors: Float[Tensor, "rows hidden"], labels: Int[Tensor, " rows"]) -> Float[Tensor, ""]:
    """trace(Sigma_between) / trace(Sigma_within), classes weighted equally; it does not change with the vectors' scale.

    Source: docs/methods/sdp.md §6.2, the alternative check.
    """
    _, _, (between, within) = _spread(vectors.double(), labels)
    return between / within


def _spread(
    vectors: Float[Tensor, "rows hidden"], labels: Int[Tensor, " rows"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], tuple[Float[Tensor, ""], Float[Tensor, ""]]]:
    """Distances and variances of classes, all classes weighted equally.

    Returns:
        d_within and d_total, which are distances only for unit vectors; the traces between and within classes.
    """
    classes = [vectors[labels == label] for label in labels.unique()]

    # ||mu_k||² of each class, and ||mean_k mu_k||².
    means = torch.stack([members.mean(dim=0) for members in classes])
    squared = means.square().sum(dim=1)
    centre = means.mean(dim=0).square().sum()

    # trace(Sigma) = E||x||² - ||E x||².
    second_moments = torch.stack([members.square().sum(dim=1).mean() for members in classes])
    traces = squared.mean() - centre, (second_moments - squared).mean()
    return (1.0 - squared).mean(), 1.0 - centre, traces


def signal_to_noise_db(student: Float[Tensor, "rows hidden"], teacher: Float[Tensor, "rows hidden"]) -> Float[Tensor, ""]:
    """10 log10(sum ||teacher||² / sum ||student - teacher||²): pruning as additive noise; infinite where both are equal.

    Source: docs/methods/sdp.md §6.2.
    """
    teacher = teacher.double()
    return 10.0 * torch.log10(teacher.square().sum() / (student.double() - teacher).square().sum())


def on_scale_of(student: Float[Tensor, "rows hidden"], teacher: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
    """The student's features with the mean and the standard deviation, over the rows, of the teacher's.

    Source: docs/methods/sdp.md §6.2, the scale-free version: some objectives leave scale and shift open. A constant
    feature becomes the teacher's mean.
    """
    student = student.double()
    teacher = teacher.double()

    # Standardise, then take on the teacher's scale and mean.
    centred = student - student.mean(dim=0)
    spread = student.std(dim=0, correction=0)
    standard = torch.where(spread > CONSTANT * student.abs().amax(dim=0), centred / spread, 0.0)
    return teacher.mean(dim=0) + standard * teacher.std(dim=0, correction=0)


def hoyer_sparsity(weight: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """(√N - ||w||_1 / ||w||_2) / (√N - 1), in [0, 1]: 0 where all magnitudes are equal, 1 where one weight is not zero.

    Source: docs/methods/sdp.md §6.4.
    """
    flat = weight.double().flatten()
    root = weight.numel() ** 0.5
    return (root - flat.norm(p=1) / flat.norm()) / (root - 1.0)


def fraction_below(weight: Float[Tensor, "..."], magnitude: float) -> Float[Tensor, ""]:
    """Fraction of the weights with |w| < magnitude. Source: docs/methods/sdp.md §6.4."""
    return (weight.abs() < magnitude).double().mean()


def excess_kurtosis(weight: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Fourth central moment over the squared variance, less 3; 0 for a normal distribution.

    Source: docs/methods/sdp.md §6.4.
    """
    squared = (weight.double() - weight.double().mean()).square()
    return squared.square().mean() / squared.mean().square() - 3.0


def distortion(weight: Float[Tensor, "outputs inputs"], kept: Bool[Tensor, "outputs inputs"]) -> Float[Tensor, ""]:
    """||W - M ⊙ W||_F / ||W||_F, in [0, 1]. Source: docs/methods/sdp.md §6.5."""
    return weight.double().masked_fill(kept, 0.0).norm() / weight.double().norm()
