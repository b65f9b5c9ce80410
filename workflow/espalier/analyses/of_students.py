"""What analyses measure on a student: its representations, the errors of its layers, its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from espalier.analyses.propagation import check_alike, hybrid_states, propagation, squared_errors
from espalier.analyses.statistics import (
    class_separability,
    class_signal_to_noise,
    distortion,
    excess_kurtosis,
    fraction_below,
    hoyer_sparsity,
    on_scale_of,
    signal_to_noise_db,
)
from espalier.config.job_specs import AnalyseSpec
from espalier.config.project import Analysis
from espalier.data.batches import TokenisedRows, in_length_order
from espalier.kinds.base import evaluator
from espalier.models.encoder import prunable_weights
from espalier.models.forward import forward, pool
from espalier.pruning.scores import keep_highest, magnitude
from espalier.runtime.errors import UserError
from espalier.runtime.files import digits

ROWS = 2000
"""At most this many rows of the evaluation set are looked at (docs/methods/sdp.md §6)."""
INPUTS = 512
"""At most this many of them are used for the errors of layers (docs/methods/spd.md §6.4)."""
ANALYSIS_BATCH_SIZE = 16
"""Rows in a batch; the states of all hybrids are in memory at once."""
REMOVED = (50, 70, 90)
"""Per cent of every matrix that one-shot pruning by magnitude removes."""
SMALL = 1.0e-3
"""A weight counts as small where its magnitude is below this."""
SMALL_OF_LARGEST = 0.01
"""A weight counts as small beside its matrix's largest where its magnitude is below this fraction of it."""


@dataclass(frozen=True)
class Subject:
    """What is analysed: a student, its teacher, and the rows that both read."""

    student: PreTrainedModel
    teacher: PreTrainedModel
    rows: TokenisedRows
    spec: AnalyseSpec
    accelerator: Accelerator


def representations(subject: Subject) -> dict[str, Any]:
    """How well classes are separated, and how much noise pruning adds to the teacher's vectors.

    Vectors are the last hidden states of the first token; for the noise of single layers they are means over real tokens.
    Labels of regression are rounded. The noise is None where the student's vectors are not as wide as the teacher's. The
    noise of single layers is there where both models have the same number of layers.

    Source: docs/methods/sdp.md §6.1 and 6.2.
    """
    student, student_layers = _pooled_states(subject, subject.student)
    teacher, teacher_layers = _pooled_states(subject, subject.teacher)
    labels = torch.from_numpy(np.rint(subject.rows.labels).astype(np.int64))

    noise = scaled_noise = None
    layer_noise = []
    if student.shape == teacher.shape:
        noise = _finite(signal_to_noise_db(student, teacher))
        scaled_noise = _finite(signal_to_noise_db(on_scale_of(student, teacher), teacher))
        if len(student_layers) == len(teacher_layers):
            for student_layer, teacher_layer in zip(student_layers, teacher_layers, strict=True):
                layer_noise.append(_finite(signal_to_noise_db(student_layer, teacher_layer)))

    return {
        "student": _class_statistics(student, labels),
        "teacher": _class_statistics(teacher, labels),
        "signal_to_noise_db": noise,
        "scaled_signal_to_noise_db": scaled_noise,
        "layers_signal_to_noise_db": layer_noise,
    }


@torch.no_grad()
def _pooled_states(
    subject: Subject, model: PreTrainedModel
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "layers rows hidden"]]:
    """The first token's last hidden state, and every layer's mean over real tokens; in the table's order, on the CPU."""
    vectors = []
    means = []
    order = list(in_length_order(subject.rows.lengths, ANALYSIS_BATCH_SIZE))
    for picked in order:
        batch = subject.rows.batch(picked, subject.accelerator.device)
        with subject.accelerator.autocast():
            states = forward(model, batch, hidden_states=True).hidden_states
        vectors.append(pool(states[-1], batch.attention_mask, "first-token").float().cpu())
        means.append(torch.stack([pool(layer.float(), batch.attention_mask, "mean") for layer in states]).cpu())

    # Batches were made in the order of lengths; argsort of a permutation is its inverse.
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    return torch.cat(vectors)[back], torch.cat(means, dim=1)[:, back]


def _class_statistics(vectors: Float[Tensor, "rows hidden"], labels: Int[Tensor, " rows"]) -> dict[str, float | None]:
    return {
        "separability": _finite(class_separability(vectors, labels)),
        "class_signal_to_noise": _finite(class_signal_to_noise(vectors, labels)),
    }


def errors(subject: Subject) -> dict[str, Any]:
    """How errors of single layers add up; or, under `left_out`, why this student has no such errors.

    Source: docs/methods/spd.md §6.4.
    """
    try:
        check_alike(subject.student, subject.teacher)
    except UserError as error:
        return {"left_out": str(error)}

    # Sums of squares add up over batches; roots and ratios are taken of the totals.
    rows = subject.rows.sample(INPUTS, "evaluation")
    squares: Any = 0
    for picked in in_length_order(rows.lengths, ANALYSIS_BATCH_SIZE):
        batch = rows.batch(picked, subject.accelerator.device)
        squares = squares + squared_errors(hybrid_states(subject.student, subject.teacher, batch))

    result = propagation(squares)
    columns = {}
    for name in ("local", "accumulated", "steps", "gain"):
        columns[name] = [_finite(value) for value in getattr(result, name)]
    return columns | {"distance": _finite(result.distance), "bound": _finite(result.bound)}


def weights(subject: Subject) -> dict[str, Any]:
    """How sparse the matrices are by themselves, and the score that one-shot pruning by magnitude leaves.

    Source: docs/methods/sdp.md §6.4 and 6.5.
    """
    matrices = {name: _matrix_statistics(weight.detach()) for name, weight in prunable_weights(subject.student).items()}

    means = {}
    for key in next(iter(matrices.values())):
        means[key] = _mean_of_known([statistics[key] for statistics in matrices.values()])
    return {"mean": means, "score": _score(subject, subject.student), "one_shot": _one_shot(subject), "matrices": matrices}


def _matrix_statistics(weight: Float[Tensor, "outputs inputs"]) -> dict[str, float | None]:
    return {
        "hoyer": _finite(hoyer_sparsity(weight)),
        "small": _finite(fraction_below(weight, SMALL)),
        "small_beside_largest": _finite(fraction_below(weight, SMALL_OF_LARGEST * float(weight.abs().max()))),
        "excess_kurtosis": _finite(excess_kurtosis(weight)),
    }


@torch.no_grad()
def _one_shot(subject: Subject) -> dict[str, dict[str, float | None]]:
    """Per cent removed → the score that is left, and the mean distortion of the matrices."""
    student = copy.deepcopy(subject.student)
    original = {name: weight.detach().clone() for name, weight in prunable_weights(student).items()}

    results = {}
    for percent in REMOVED:
        distortions = []
        # Always pruned from the original weights, not from those of the lower sparsity before.
        for name, weight in prunable_weights(student).items():
            kept = keep_highest(magnitude(original[name]), round(percent / 100 * weight.numel()))
            distortions.append(_finite(distortion(original[name], kept)))
            weight.copy_(original[name] * kept)
        results[str(percent)] = {"score": _score(subject, student), "distortion": _mean_of_known(distortions)}
    return results


def _score(subject: Subject, model: PreTrainedModel) -> float | None:
    score = evaluator(subject.rows, subject.spec.kind, [subject.spec.metric], subject.accelerator)(model)
    return _finite(score["evaluation"][subject.spec.metric])


def _mean_of_known(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _finite(fmean(known)) if known else None


def _finite(value: Float[Tensor, ""] | float | None) -> float | None:
    """The value with six digits for the file; None where it is infinite or not a number, such as a mean of nothing."""
    return digits(float(value)) if value is not None and math.isfinite(value) else None


FINDERS: dict[Analysis, Callable[[Subject], dict[str, Any]]] = {
    "representations": representations,
    "errors": errors,
    "weights": weights,
}
"""Name of an analysis in the configuration → the function that makes it."""
