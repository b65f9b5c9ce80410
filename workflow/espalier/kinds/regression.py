"""Regression: a real number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from espalier.config.data import Task
from espalier.config.kinds import regression
from espalier.data.batches import TokenisedRows
from espalier.data.labelled import Column, SourceTable, finite_numbers
from espalier.evaluation.metrics import score
from espalier.kinds.one_label import OneLabel
from espalier.losses.terms import value_difference, value_loss


class Regression(OneLabel):
    """Labels are real numbers; a model has one output."""

    rules = regression.RULES
    real_valued = True

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The column `label`, finite numbers."""
        return {"label": finite_numbers(source, task)}

    def task_loss(self, logits: Float[Tensor, "batch 1"], labels: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Mean squared error."""
        return value_loss(logits, labels)

    def soft_label_loss(
        self, student: Float[Tensor, "batch 1"], teacher: Float[Tensor, "batch 1"], temperature: float
    ) -> Float[Tensor, ""]:
        """Mean squared difference of the outputs; there is no distribution that a temperature could soften."""
        return value_difference(student, teacher)

    def predicted(self, logits: Float[Tensor, "rows 1"]) -> np.ndarray:
        """The output itself."""
        return logits.squeeze(-1).numpy()

    def answers(self, measured: Float[Tensor, "rows 1"], rows: TokenisedRows, classes: Sequence[str]) -> pd.DataFrame:
        """The predicted number."""
        return pd.DataFrame({"prediction": self.predicted(measured)})

    def agreement(self, predictions: pd.DataFrame, reference: pd.DataFrame) -> float:
        """Pearson's correlation of the predicted numbers; 0 where one model predicts a constant."""
        return score("pearson", reference["prediction"].to_numpy(), predictions["prediction"].to_numpy())
