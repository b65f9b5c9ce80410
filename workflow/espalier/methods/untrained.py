"""Pruning of heads and FFN units without training: what kwon and kprune share.

Both decide in `calibrate`, which sees some rows; a stage has no steps. The recovery, where there is one, trains with logit
distillation (Hinton et al. 2015, arXiv 1503.02531).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from espalier.data.batches import Batch
from espalier.methods.logit_distillation import TaughtFineTuning
from espalier.methods.part_removal import PartRemoval
from espalier.pruning.budget import Budget, LatencyBudget, check_reach
from espalier.pruning.calibrated.least_squares import Moments
from espalier.pruning.calibrated.refit import Totals, moments_of
from espalier.pruning.calibrated.streams import Stream
from espalier.pruning.fold import folded
from espalier.pruning.gates import attach
from espalier.pruning.masks import Masks
from espalier.pruning.parts import (
    SUBLAYERS,
    Parts,
    Sublayer,
    full_masks,
    heads_of,
    parts_in,
    units_of,
)


class Untrained(PartRemoval, TaughtFineTuning):
    """Gates that are decided before the first step, of which there is none."""

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]  # here it depends on the stage
        """Whether this is a recovery that distils; what prunes looks at its own student as it came."""
        return self.stage.steps > 0 and super().needs_teacher

    @property
    def calibration_rows(self) -> int:
        """As the settings say."""
        return self.settings.calibration_rows

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Attach the gates, all open; a stage that removes nothing, such as recovery, has none."""
        super().begin(student, masks)
        self.budget = self._budget()

        # Sublayers without parts, which another plan has closed, get no gates.
        names = [name(layer) for layer in range(len(self.shape.layers)) for name in (heads_of, units_of)]
        full = {name: mask for name, mask in full_masks(self.shape).items() if name in names and len(mask)}
        self.gates: dict[str, Tensor] = {name: mask.float().to(student.device) for name, mask in full.items()}
        self.open = self.gates
        self.applied: Parts = self.gates

        # A recovery runs the student as it is.
        if self.stage.removes:
            check_reach(self.budget, self.gates)
            attach(student, lambda: self.applied)

    def _budget(self) -> Budget:
        """What the stage has to save."""
        return self.size if self.stage.latency is None else LatencyBudget(self.stage.latency, self.shape)

    @contextmanager
    def _applying(self, gates: Parts) -> Iterator[None]:
        """Let the student run with these gates."""
        self.applied = gates
        yield
        self.applied = self.gates

    @torch.no_grad()
    def _sublayers(self, batches: Sequence[Batch]) -> Iterator[tuple[int, Sublayer, Moments]]:
        """Go through all sublayers from the first to the last, each after what was decided of those before.

        Yields:
            Layer, sublayer, and sums for its output matrix with all its parts: what they write now, against what brings the
            residual stream to where the student had it as it came.
        """
        own, whole = Stream(self.student, batches), Stream(self.student, batches)
        for layer in tqdm(range(len(self.shape.layers)), "sublayers", unit="layer", mininterval=5.0):
            # A layer keeps its weights until its turn comes, so the student without gates still is what it was.
            totals = Totals()
            with self._applying({}):
                whole.advance(totals)

            for kind in SUBLAYERS:
                # All parts of this sublayer write, those before it as decided, so the sums say what is still missing.
                if (name := parts_in(kind, layer)) in self.gates:
                    with self._applying(self.gates | {name: torch.ones_like(self.gates[name])}):
                        moments = moments_of(own, kind, totals.of[kind], first_tokens=self.reads_first_token(layer, kind))
                    yield layer, kind, moments

            # The next layer reads what this one gives with the gates that were decided meanwhile.
            own.advance()

    def reads_first_token(self, layer: int, kind: Sublayer) -> bool:
        """Whether what a sublayer writes counts at the first token of a row alone."""
        return False

    def shrink(self, student: PreTrainedModel) -> PreTrainedModel:
        """The compact student, gates folded into its weights."""
        return folded(student, self.gates) if self.stage.removes else student

    def state_dict(self) -> dict[str, Tensor]:
        """The gates; changed weights lie in the student."""
        return super().state_dict() | {f"gate/{name}": gate for name, gate in self.gates.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)
        # In place, because the running student reads these very tensors.
        for name, gate in self.gates.items():
            gate.copy_(state[f"gate/{name}"])
