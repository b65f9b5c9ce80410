"""What analyses measure of a student: its representations, the errors of its layers, its weights."""

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
from espalier.data.batches import Rows, in_length_order
from espalier.evaluation.predict import evaluator
from espalier.models.encoder import prunable_weights
from espalier.models.forward import forward, pool
from espalier.pruning.scores import keep_highest, magnitude
from espalier.runtime.errors import UserError
from espalier.runtime.files import digits

ROWS, INPUTS = 2000, 512
"""Most rows of the evaluation set that are looked at, and most of these for the errors of layers (specifications)."""


BATCH = 16
"""Rows for which the states of all hybrids are in memory at once."""


REMOVED = (50, 70, 90)
"""Percents of every matrix that a one-shot prune by magnitude removes."""


SMALL, OF_LARGEST = 1.0e-3, 0.01
"""Magnitudes below which a weight counts as small: absolute, and as a fraction of its matrix's largest."""


@dataclass(frozen=True)
class Subject:
    """What is analysed."""

    student: PreTrainedModel
    teacher: PreTrainedModel
    rows: Rows
    spec: AnalyseSpec
    accelerator: Accelerator


def representations(subject: Subject) -> dict[str, Any]:
    """How well classes are separated, and how much noise pruning is on the teacher's vectors (SDP, sections 6.1, 6.2).

    Vectors are the last hidden states of the first token, and for the noise of single layers means over real tokens; labels
    of regression are rounded. The noise is None where the student's vectors have another width than the teacher's, and told
    of single layers where there are as many.
    """
    (student, student_layers), (teacher, teacher_layers) = (
        _states(subject, each) for each in (subject.student, subject.teacher)
    )
    labels = torch.from_numpy(np.rint(subject.rows.labels).astype(np.int64))
    alike = student.shape == teacher.shape
    layers = zip(student_layers, teacher_layers, strict=True) if alike and len(student_layers) == len(teacher_layers) else ()
    return {
        "student": _classes(student, labels),
        "teacher": _classes(teacher, labels),
        "signal_to_noise_db": _number(signal_to_noise_db(student, teacher)) if alike else None,
        "scaled_signal_to_noise_db": _number(signal_to_noise_db(on_scale_of(student, teacher), teacher)) if alike else None,
        "layers_signal_to_noise_db": [_number(signal_to_noise_db(*layer)) for layer in layers],
    }


@torch.no_grad()
def _states(
    subject: Subject, model: PreTrainedModel
) -> tuple[Float[Tensor, "rows hidden"], Float[Tensor, "layers rows hidden"]]:
    """The first token's last hidden state, and every layer's mean over real tokens; in the table's order, on the CPU."""
    vectors, means, order = [], [], list(in_length_order(subject.rows.lengths, BATCH))
    for picked in order:
        batch = subject.rows.batch(picked, subject.accelerator.device)
        with subject.accelerator.autocast():
            states = forward(model, batch, hidden_states=True).hidden_states
        vectors.append(pool(states[-1], batch.attention_mask, "first-token").float().cpu())
        means.append(torch.stack([pool(each.float(), batch.attention_mask, "mean") for each in states]).cpu())
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    return torch.cat(vectors)[back], torch.cat(means, dim=1)[:, back]


def _classes(vectors: Float[Tensor, "rows hidden"], labels: Int[Tensor, " rows"]) -> dict[str, float | None]:
    return {
        "separability": _number(class_separability(vectors, labels)),
        "class_signal_to_noise": _number(class_signal_to_noise(vectors, labels)),
    }


def errors(subject: Subject) -> dict[str, Any]:
    """How errors of single layers add up (SPD, section 6.4); or why that cannot be said of this student."""
    try:
        check_alike(subject.student, subject.teacher)
    except UserError as error:
        return {"left_out": str(error)}
    rows = subject.rows.sample(INPUTS, "evaluation")
    squares: Any = sum(
        squared_errors(hybrid_states(subject.student, subject.teacher, rows.batch(picked, subject.accelerator.device)))
        for picked in in_length_order(rows.lengths, BATCH)
    )
    found = propagation(squares)
    columns = {name: [_number(value) for value in getattr(found, name)] for name in ("local", "accumulated", "steps", "gain")}
    return columns | {"distance": _number(found.distance), "bound": _number(found.bound)}


def weights(subject: Subject) -> dict[str, Any]:
    """How sparse the matrices are by themselves, and what a one-shot prune by magnitude leaves (SDP, sections 6.4, 6.5)."""
    matrices = {name: _matrix(weight.detach()) for name, weight in prunable_weights(subject.student).items()}
    means = {key: _mean([each[key] for each in matrices.values()]) for key in next(iter(matrices.values()))}
    return {"mean": means, "score": _score(subject, subject.student), "one_shot": _one_shot(subject), "matrices": matrices}


def _matrix(weight: Float[Tensor, "outputs inputs"]) -> dict[str, float | None]:
    return {
        "hoyer": _number(hoyer_sparsity(weight)),
        "small": _number(fraction_below(weight, SMALL)),
        "small_beside_largest": _number(fraction_below(weight, OF_LARGEST * float(weight.abs().max()))),
        "excess_kurtosis": _number(excess_kurtosis(weight)),
    }


@torch.no_grad()
def _one_shot(subject: Subject) -> dict[str, dict[str, float | None]]:
    """Percent removed → the score that is left, and the mean distortion of the matrices."""
    student, found = copy.deepcopy(subject.student), {}
    whole = {name: weight.detach().clone() for name, weight in prunable_weights(student).items()}
    for percent in REMOVED:
        distortions = []
        for name, weight in prunable_weights(student).items():
            kept = keep_highest(magnitude(whole[name]), round(percent / 100 * weight.numel()))
            distortions.append(_number(distortion(whole[name], kept)))
            weight.copy_(whole[name] * kept)
        found[str(percent)] = {"score": _score(subject, student), "distortion": _mean(distortions)}
    return found


def _score(subject: Subject, model: PreTrainedModel) -> float | None:
    score = evaluator(subject.rows, subject.spec.kind, [subject.spec.metric], subject.accelerator)(model)
    return _number(score["evaluation"][subject.spec.metric])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _number(fmean(known)) if known else None


def _number(value: Float[Tensor, ""] | float | None) -> float | None:
    """Six digits for the file; None for what is infinite, or no number, as the statistics of nothing are."""
    return digits(float(value)) if value is not None and math.isfinite(value) else None


FINDERS: dict[Analysis, Callable[[Subject], dict[str, Any]]] = {
    "representations": representations,
    "errors": errors,
    "weights": weights,
}
