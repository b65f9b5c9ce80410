"""The contract between the loop and the methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.config.kinds import Kind
from espalier.config.training import Training
from espalier.data.batches import Batch
from espalier.kinds.base import label_terms
from espalier.models.attention import Recording
from espalier.models.outputs import Outputs, Representation
from espalier.pruning.latency import LatencyTarget
from espalier.pruning.masks import MaskKind, Masks, structure_of


@dataclass(frozen=True)
class Stage:
    """What a method knows of the run it is part of. A step is one optimiser step, counted from 0."""

    kind: Kind
    seed: int
    sparsity_before: float
    """What the stage before has reached, in [0, 1); 0 in the first one."""
    target: float
    """Fraction to remove, in [0, 1): of the encoder's weights, or of the dense model's latency where `latency` is given."""
    bounds: tuple[int, ...]
    """Steps at which learning-rate intervals end; the last one is the number of steps."""
    removals: dict[int, float]
    """Step → sparsity to reach before it runs; empty where masks stay as they are."""
    latency: LatencyTarget | None = None
    """The latency to reach, where the path aims at a speed."""
    gone: float = 0.0
    """Fraction of the base's weights that the student came without, in [0, 1), where masks are over single weights."""
    first_epoch: int = 0
    """Passes over the rows that earlier stages of the path have begun: order and masks of each pass are its own."""
    decay_ends: tuple[int, ...] = ()
    """Steps at which the intervals of `bounds` would end by their schedules, where one is cut off before; else none."""

    @property
    def steps(self) -> int:
        """Optimiser steps of the run."""
        return self.bounds[-1]

    @property
    def removes(self) -> bool:
        """Whether anything is to be removed; not so in recovery and in dense runs."""
        return self.target > self.sparsity_before


Piece = tuple[Batch, Outputs, Outputs | None]
"""A micro-batch, the student's outputs for it, and the teacher's where a teacher runs."""


class Method:
    """The contract with the training loop, with empty answers; a method overrides what it needs.

    A stage that removes calls `cut` first. The loop then calls, in this order: `begin` and `parameter_groups`; in a stage that
    removes and looks at training rows `calibrate`, once; for each step `before_step`, where it runs in several micro-batches
    `look_ahead`, for each micro-batch of it `around_forward` and `loss_terms`, then `after_backward`, `after_clipping` and
    `after_step`. At last `end`, `structure`, `shrink` and `hand_on` say what is left; `refit` may fit what `shrink` gave.
    """

    settings: Training
    """A method names its own class here; through this name the class counts for the digest of the method's code."""
    masks_over: ClassVar[MaskKind] = "weights"
    """What its masks name. Masks of another plan's student are taken over where they fit."""
    needs_teacher: ClassVar[bool] = False
    needs_hidden_states: ClassVar[bool] = False
    """Whether `loss_terms` compares the outputs of encoder layers; the teacher then runs beside the student."""
    optimizer: torch.optim.Optimizer
    """Set by the loop once it exists, after `parameter_groups`."""

    def __init__(self, settings: Training, stage: Stage) -> None:
        self.settings = settings
        self.stage = stage

        # The loop sets the teacher before `begin`, where the method needs one.
        self.teacher: nn.Module | None = None

        # The stage sets what the student that it starts from was handed on with.
        self.handed_on: dict[str, Tensor] = {}

        # Every random draw of a method comes from here, so that a resumed run goes on with the same numbers.
        self.generator = torch.Generator().manual_seed(stage.seed)

    @property
    def reads_teacher(self) -> bool:
        """Whether `loss_terms` reads the teacher's outputs, as all terms but "task" may; else its layers alone are used."""
        return bool(self.loss_weights.keys() - {"task"})

    @property
    def representation(self) -> Representation | None:
        """Which vector of each row `loss_terms` compares, if any."""
        return None

    @property
    def dimensions(self) -> Bool[Tensor, " hidden"] | None:
        """Which hidden dimensions of the base are left in a student that came narrower, after `begin`; None where all are."""
        return None

    @property
    def relations(self) -> Recording | None:
        """What `loss_terms` compares of attention and embeddings, if anything; the teacher then runs beside the student."""
        return None

    @property
    def pad_to(self) -> int | None:
        """Tokens of every row in training, padding included; None pads to the longest row of the batch."""
        return None

    @property
    def calibration_rows(self) -> int:
        """Training rows that `calibrate` looks at, usually as the settings say; 0 where a method does not calibrate."""
        return 0

    @property
    def refit_rows(self) -> int:
        """Training rows that `refit` looks at; 0 where students stay as training has left them."""
        return 0

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weight of each term of `loss_terms`."""
        return {"task": 1.0}

    def cut(self, student: PreTrainedModel, masks: Masks | None) -> PreTrainedModel:
        """The student to train: a method that cuts before training returns a smaller one."""
        return student

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Attach to the student; `masks` say what was removed from it before, None where nothing was."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the method's own: parameters besides the student's, or some of the student's.

        Keys besides AdamW's: `constant: True` leaves the group out of the learning-rate schedule, `clip: False` leaves
        it out of gradient clipping.
        """
        return []

    def calibrate(self, student: PreTrainedModel, teacher: nn.Module | None, batches: Sequence[Batch]) -> None:
        """Look at training rows, once, before the first step of a stage that removes: count, decide, change weights in place.

        All that it leaves must be in the student's weights or in `state_dict`. It is saved right afterwards, so a run that is
        killed later does not calibrate again; one that is killed meanwhile begins again and comes to the same end, because
        rows and their order depend on the seed alone. Several processes take over what the main one has found.

        Args:
            student: what `begin` has attached to, in eval mode. Gradients may be left on it, nobody reads them.
            teacher: the fine-tuned, unpruned model in eval mode, whose parameters have no gradients; None without a teacher.
            batches: `calibration_rows` rows, shortest first; they can be gone through more than once.
        """

    def before_step(self, step: int) -> None:
        """Remove or draw what this step's forward passes are to see."""

    def around_forward(self) -> AbstractContextManager[None]:
        """What surrounds every forward pass of the student in training."""
        return nullcontext()

    def look_ahead(self, pieces: Iterable[Piece]) -> None:
        """Gather what the loss terms have to know of a batch that runs in several micro-batches.

        Each micro-batch runs, without gradients, when the iteration comes to it; a method that needs nothing asks for none.
        Where memory runs out, the batch is looked at again in smaller micro-batches.
        """

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """How many members of a batch or micro-batch each loss term is a mean over: a term counts by its share of them.

        Lines of logits, unless a method says otherwise: rows, or masked tokens where these are asked for. The term "task" is a
        mean over the rows with labels.
        """
        counts = dict.fromkeys(self.loss_weights, batch.lines([len(batch)])[0])
        if batch.labelled is not None and "task" in counts:
            counts["task"] = int(batch.labelled.sum())
        return counts

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs | None, step: int) -> dict[str, Float[Tensor, ""]]:
        """Named, unweighted terms, each a mean over what `counts` says."""
        return label_terms(student.logits, batch, self.stage.kind)

    def after_backward(self, step: int) -> None:
        """Read or change gradients, before they are clipped."""

    def after_clipping(self, step: int) -> None:
        """Read or change gradients as the optimiser is to see them."""

    def gradients_to_read(self) -> Iterable[Tensor]:
        """Tensors besides the parameters whose gradients `after_backward` reads."""
        return ()

    def after_step(self, step: int) -> dict[str, float | Float[Tensor, ""]]:
        """What to log besides the losses: the columns that `HISTORY_COLUMNS` in config/methods declares for the method."""
        return {}

    def standing(self) -> dict[str, float]:
        """What to log besides, once for each row of history: for what would cost too much in every step."""
        return {}

    def at_target(self, steps: int) -> bool:
        """Whether an evaluation after so many steps is one at the target, so that the best checkpoint may be there."""
        return steps > max(self.stage.removals, default=-1)

    @property
    def misses_target(self) -> bool:
        """Whether the student is not yet, or no longer, near its target: then an earlier best checkpoint is not replaced."""
        return False

    def end(self) -> Masks:
        """The masks, final; empty where nothing is masked."""
        return {}

    def structure(self) -> dict[str, Any]:
        """What is kept, for structure.json."""
        return structure_of(self.end()) | {"sparsity": self.sparsity}

    def shrink(self, student: PreTrainedModel) -> PreTrainedModel:
        """The student that the next stage starts from: itself where removed weights are zeros."""
        return student

    def refit(self, small: PreTrainedModel, dense: PreTrainedModel, batches: Sequence[Batch]) -> dict[str, Any]:
        """Improve what `shrink` gave, in place, at the end of a stage that removes; returns what run.json says of it.

        Args:
            small: the student to write, in eval mode.
            dense: the teacher in eval mode.
            batches: `refit_rows` rows, shortest first; they can be gone through more than once.
        """
        return {}

    def hand_on(self) -> dict[str, Tensor]:
        """What the recovery and the next stage take over besides the student and its masks; there it is `handed_on`."""
        return {}

    @property
    def sparsity(self) -> float:
        """Fraction of the weights removed so far, in [0, 1)."""
        return 0.0

    def state_dict(self) -> dict[str, Tensor | Bool[Tensor, "..."]]:
        """Everything that a resumed run needs, as tensors."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        self.generator.set_state(state["generator"])


def counted(frozen: list[nn.Parameter]) -> list[dict[str, Any]]:
    """A parameter group in which frozen parameters stay as they are, but their gradients count in the norm that is clipped.

    Public code often clips over all parameters, also over those that its optimiser does not have.
    """
    for parameter in frozen:
        parameter.requires_grad_(True)

    # At a rate of 0 the optimiser leaves them as they are, to the bit.
    return [{"params": frozen, "lr": 0.0, "weight_decay": 0.0}] if frozen else []
