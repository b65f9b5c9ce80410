"""Tasks in which a text has one label and a model gives one line of logits: what classification and regression share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

from espalier.data.batches import TokenisedRows
from espalier.evaluation.metrics import score
from espalier.evaluation.predict import Scores, all_logits, set_names
from espalier.kinds.base import TaskKind, Teach


class OneLabel(TaskKind[TokenisedRows, Tensor]):
    """A kind of task that is scored on one prediction a row."""

    def open_rows(self, path: Path, pad: int, seed: int) -> TokenisedRows:
        """Rows in memory."""
        return TokenisedRows.read(path, pad)

    @abstractmethod
    def predicted(self, logits: Float[Tensor, "rows classes"]) -> np.ndarray:
        """The prediction for each row, to be compared with its label."""

    def measure(
        self, model: nn.Module, rows: TokenisedRows, accelerator: Accelerator, teacher: Teach | None = None
    ) -> Float[Tensor, "rows classes"]:
        """Logits of every row."""
        return all_logits(model, rows, accelerator)

    def scores(self, measured: Float[Tensor, "rows classes"], rows: TokenisedRows, metrics: Sequence[str]) -> Scores:
        """Loss and metrics on each evaluation set."""
        labels = torch.from_numpy(rows.labels)
        predictions = self.predicted(measured)

        result: Scores = {}
        for name in set_names(rows):
            chosen = rows.sets == name
            loss = self.task_loss(measured[torch.from_numpy(chosen)], labels[torch.from_numpy(chosen)])
            values = {metric: score(metric, rows.labels[chosen], predictions[chosen]) for metric in metrics}
            result[name] = {"rows": int(chosen.sum()), "loss": float(loss), **values}
        return result

    def predictions(self, measured: Float[Tensor, "rows classes"], rows: TokenisedRows) -> pd.DataFrame:
        """Label, prediction and logits of each row."""
        table = pd.DataFrame({"set": rows.sets, "label": rows.labels, "prediction": self.predicted(measured)})
        return table.assign(logits=measured.tolist())
