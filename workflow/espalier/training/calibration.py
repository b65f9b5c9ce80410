"""Training rows that a method looks at once: before its first step, or to fit the student that it has made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from espalier.data.batches import Batch, TaskRows, in_length_order
from espalier.methods.base import Method
from espalier.runtime.errors import Interrupted

STREAM = 1
"""Sets the draw of calibration rows apart from the orders of epochs, which are drawn from seed and epoch."""


class Watched(list[Batch]):
    """Batches that can be gone through as often as wanted, each time in the same order, until the run is told to stop."""

    def __init__(self, batches: Iterable[Batch], stop: Callable[[], bool]) -> None:
        super().__init__(batches)
        self.stop = stop

    def __iter__(self) -> Iterator[Batch]:
        """The batches in order.

        Raises:
            Interrupted: the run is told to stop.
        """
        for batch in super().__iter__():
            if self.stop():
                raise Interrupted("stopped while calibrating; the next run calibrates from the beginning")
            yield batch


def calibration_batches(rows: TaskRows, count: int, size: int, seed: int, device: torch.device) -> list[Batch]:
    """Some of the rows in batches, shortest rows first: a function of rows, seed and sizes alone.

    Args:
        rows: the training rows, as they are in their first epoch; those without labels are left aside.
        count: rows to take; all, where there are fewer.
        size: rows of a batch.
        seed: of the run.
        device: to put them on.
    """
    drawn = np.random.default_rng([seed, STREAM, count]).permutation(rows.labelled_rows)[:count]

    # Rows of similar length share a batch and need little padding.
    return [rows.batch(drawn[places], device) for places in in_length_order(rows.lengths[drawn], size)]


def calibrate(method: Method, student: PreTrainedModel, rows: TaskRows, size: int, stop: Callable[[], bool]) -> dict[str, Any]:
    """Let a method look at as many training rows as it asks for, in eval mode; returns what the record says of it.

    Args:
        method: attached to the student.
        student: on its device.
        rows: the training rows.
        size: rows of a batch.
        stop: whether the run is told to stop.
    """
    batches = calibration_batches(rows, method.calibration_rows, size, method.stage.seed, student.device)
    training = student.training
    student.eval()

    with _noted("calibrating", batches) as record:
        method.calibrate(student, method.teacher, Watched(batches, stop))

    # What the method has not cleared must not count in the first step.
    student.train(training)
    student.zero_grad(set_to_none=True)
    return record


def refit(method: Method, small: PreTrainedModel, dense: PreTrainedModel, rows: TaskRows, size: int) -> dict[str, Any]:
    """Let a method improve a compact student, which is in eval mode afterwards; returns what the record says of it.

    Args:
        method: whose student it is.
        small: the student.
        dense: the teacher, on its device.
        rows: the training rows.
        size: rows of a batch.
    """
    small.eval().to(dense.device)
    batches = calibration_batches(rows, method.refit_rows, size, method.stage.seed, dense.device)

    with _noted("refitting", batches) as record:
        record |= method.refit(small, dense, batches)
    return record


@contextmanager
def _noted(word: str, batches: list[Batch]) -> Iterator[dict[str, Any]]:
    """Say what is done, and note how many rows were looked at for how long."""
    record: dict[str, Any] = {"rows": sum(map(len, batches))}
    print(f"{word} on {record['rows']:,} training rows", flush=True)

    began = time.perf_counter()
    yield record
    record["seconds"] = round(time.perf_counter() - began, 3)


def models_of(student: PreTrainedModel, method: Method) -> dict[str, dict[str, Tensor]]:
    """The tensors of a student and of its method, as saved states have them."""
    return {"student": student.state_dict(), "method": method.state_dict()}
