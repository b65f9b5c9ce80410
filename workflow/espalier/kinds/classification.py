"""Classification: one of several named classes for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from espalier.config.data import Task
from espalier.config.kinds import classification
from espalier.data.batches import TokenisedRows
from espalier.data.labelled import Column, SourceTable, class_indices
from espalier.kinds.one_label import OneLabel
from espalier.losses.terms import class_loss


class Classification(OneLabel):
    """Labels are class indices; a model has one output a class."""

    rules = classification.RULES

    def label_columns(
        self, source: SourceTable, task: Task, texts: Mapping[str, Column], classes: tuple[str, ...] | None
    ) -> dict[str, Column]:
        """The column `label`, an index into the classes."""
        return {"label": class_indices(source, task, classes or ())}

    def task_loss(self, logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Cross-entropy."""
        return class_loss(logits, labels)

    def predicted(self, logits: Float[Tensor, "rows classes"]) -> np.ndarray:
        """The class with the largest logit."""
        return logits.argmax(dim=-1).numpy()

    def answers(self, measured: Float[Tensor, "rows classes"], rows: TokenisedRows, classes: Sequence[str]) -> pd.DataFrame:
        """The likeliest class, its probability, and the probability of every class."""
        probabilities = measured.softmax(dim=-1).numpy()
        labels = [classes[index] for index in self.predicted(measured)]
        columns = {f"probability_{name}": probabilities[:, index] for index, name in enumerate(classes)}
        return pd.DataFrame({"label": labels, "probability": probabilities.max(axis=1), **columns})
