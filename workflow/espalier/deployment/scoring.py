"""Scores of a model in one format, computed in its own runtime, by the rules of its kind of task."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput, QuestionAnsweringModelOutput, SequenceClassifierOutput
from transformers.utils import ModelOutput

from espalier.config.kinds import Kind
from espalier.data.batches import TaskRows
from espalier.deployment.runtimes import STATES, FormatRunner
from espalier.evaluation.predict import Scores
from espalier.kinds.base import task_kind


def scored(runner: FormatRunner, kind: Kind, rows: TaskRows, metrics: Sequence[str]) -> tuple[Scores, pd.DataFrame]:
    """Scores on every evaluation set, and the predictions, as the stage `evaluate` has them for the model in PyTorch."""
    task, accelerator = task_kind(kind), Accelerator(cpu=True, mixed_precision="no")
    measured = task.measure(RunnerModel(runner), rows, accelerator)
    return task.scores(measured, rows, metrics), task.predictions(measured, rows)


class RunnerModel(nn.Module):
    """A model in any runtime in the place of one in PyTorch, for code that makes forward passes and asks for logits alone."""

    def __init__(self, runner: FormatRunner) -> None:
        super().__init__()
        self.base_model = _Computed(runner)

    def forward(self, output_hidden_states: bool, **inputs: Tensor) -> ModelOutput:
        """The outputs for a batch, under the names that models in PyTorch give them."""
        outputs = self.base_model(**inputs)
        if STATES in self.base_model.runner.outputs or STATES not in outputs:
            return outputs
        return SequenceClassifierOutput(logits=outputs.last_hidden_state)


class _Computed(nn.Module):
    """The whole pass, in the place of the encoder.

    Where masked tokens alone are asked for, a hook picks them from the encoder's states (`models.forward`). Here it picks from
    the logits, which go by the name of states until then.
    """

    def __init__(self, runner: FormatRunner) -> None:
        super().__init__()
        self.runner = runner

    def forward(self, **inputs: Tensor) -> ModelOutput:
        """The outputs of the runtime as tensors."""
        arrays = self.runner({name: tensor.numpy() for name, tensor in inputs.items()})
        outputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if STATES in outputs or "logits" in outputs:
            return BaseModelOutput(last_hidden_state=outputs.get(STATES, outputs.get("logits")))
        return QuestionAnsweringModelOutput(start_logits=outputs["start_logits"], end_logits=outputs["end_logits"])
