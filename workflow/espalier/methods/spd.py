"""SPD: sparse progressive distillation, pruned layers grafted onto a dense teacher.

Paper: S. Huang, D. Xu, I. Yen, Y. Wang, S.-E. Chang, B. Li, S. Chen, M. Xie, S. Rajasekaran, H. Liu, C. Ding, "Sparse
Progressive Distillation: Resolving Overfitting under Pretrain-and-Finetune Paradigm", ACL 2022, arXiv 2110.08190; code
shaoyiHusky/SparseProgressiveDistillation at 5535890. The specification is docs/methods/spd.md.

Idea: in every step a coin decides for each position whether the pruned student layer or the frozen teacher layer runs.
Student layers first learn among healthy neighbours; when all weights are removed the coin's probability rises to 1, and
they work together. Every layer's output and attention, and the logits, are compared with the teacher's.

Symbols                     Names
    T_i, S_i, G              pairs of models.grafting.Grafts, grafted(bits)
    b, p(t)                  bits, grafting_probability
    t1, t2                   ramp_begin, ramp_end
    L_hid, L_att, L_pred     terms "hidden", "attention", "prediction"; hard labels: "task"
    M, s_j                   pruner.masks (True = kept), stage.removals

Choices (docs/methods/spd.md §7): 1 the probability reaches 1, `constant` is the README's; 3 `clip_scope`; 4 learning-rate
schedules follow the parts; 5 twelve removals; 7 attention before dropout; 10 the teacher is a plain model. The teacher's
layers have no dropout in G either. A step is one draw, micro-batches share it. H_0, which has no gradient while embeddings
are frozen, is left out, and so are data augmentation and a head that is trained in part 3 alone.

Departures from the public code that change numbers, each with what takes it back: batches are padded to their longest row,
not to 128 tokens, which makes L_att larger and turns the gradient (`pad_to: 128`); gradients of removed weights are masked
before the norm is clipped, where the public code masks weights after the step (no option; without clipping they are one);
targets of a path are a chain of stages, where the paper has one run a target (`chain: false`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel

from espalier.config.methods.spd import SpdPlan
from espalier.data.batches import Batch
from espalier.kinds.base import label_terms, task_kind
from espalier.losses.terms import distance, map_loss, soft_cross_entropy
from espalier.methods.base import Piece, counted
from espalier.methods.pruning import WeightPruning
from espalier.models.attention import Recording
from espalier.models.encoder import embedding_parameters, encoder_layers
from espalier.models.grafting import Grafts
from espalier.models.outputs import Outputs
from espalier.pruning.masks import Masks
from espalier.runtime.errors import UserError

Ramp = Literal["constant", "linear", "constant-linear", "constant-jump-linear"]
"""How the probability of a student layer goes on from its first value."""

LOOK_EVERY = 20
"""Steps between two looks for divergence."""
PATIENCE = 200
"""Steps on end for which a term may be too high (docs/methods/spd.md §4)."""
LEAST = 0.1
"""What a term is compared with is at least this fraction of the teacher's mean square: a first value without dropout is 0."""


class Spd(WeightPruning):
    """Grafting, distillation of every layer, and magnitude pruning in each matrix."""

    settings: SpdPlan

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]  # here it depends on the settings
        """Whether a term or a graft is on."""
        settings = self.settings
        terms = settings.hidden_weight + settings.attention_weight + settings.prediction_weight
        return terms > 0 or settings.grafts

    @property
    def needs_hidden_states(self) -> bool:  # type: ignore[override]  # here it depends on the settings
        """Whether the hidden term is on."""
        return self.settings.hidden_weight > 0

    @property
    def relations(self) -> Recording | None:
        """Maps of every head, where the attention term is on."""
        return "maps" if self.settings.attention_weight > 0 else None

    @property
    def pad_to(self) -> int | None:
        """As the settings say, where a term is a mean over padding too (docs/methods/spd.md §2.2); without one it is wasted."""
        return self.settings.pad_to if self.needs_hidden_states or self.relations else None

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the terms that are on."""
        settings = self.settings
        weights = {
            "hidden": settings.hidden_weight,
            "attention": settings.attention_weight,
            "prediction": settings.prediction_weight,
            "task": settings.hard_label_weight,
        }
        return {name: weight for name, weight in weights.items() if weight}

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Pair the layers, freeze what is shared, and begin with the student's layers alone."""
        super().begin(student, masks)
        self.student = student

        # All bits are 1 until a step draws them: evaluation before training sees the student alone.
        self.layers = list(encoder_layers(student)[1].parameters())
        self.grafts = None if self.teacher is None else Grafts(student, self.teacher)
        self.bits = torch.ones(student.config.num_hidden_layers, dtype=torch.bool)

        # For the look at divergence: count and hidden-state term of each micro-batch, the teacher's mean squares in the first
        # step, what the term is compared with, and for how many steps on end it was too high.
        self.hidden: list[tuple[int, Tensor]] = []
        self.squares: list[tuple[int, Tensor]] = []
        self.reference = torch.zeros((), device=student.device)
        self.too_high = torch.zeros((), dtype=torch.int64, device=student.device)
        self._freeze(student)

    def _freeze(self, student: PreTrainedModel) -> None:
        """Leave embeddings, and all that comes after the layers, as they are where settings ask for it."""
        ours = {id(parameter) for parameter in self.layers}
        embeddings = {id(parameter) for parameter in embedding_parameters(student)}
        for parameter in student.parameters():
            if id(parameter) not in ours:
                frozen = self.settings.freeze_embeddings if id(parameter) in embeddings else self.settings.freeze_head
                parameter.requires_grad_(not frozen)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """For `clip_scope: all` what is frozen has gradients, which count, and a learning rate of 0."""
        if self.settings.clip_scope == "trainable":
            return []

        theirs = []
        if self.grafts is not None:
            theirs = [parameter for pair in self.grafts.pairs for parameter in pair.theirs.parameters()]
        frozen = [parameter for parameter in self.student.parameters() if not parameter.requires_grad] + theirs

        # The public code's norm counts frozen parameters, so here they get gradients too (docs/methods/spd.md §7.3).
        return counted(frozen)

    @property
    def ramp_begin(self) -> int:
        """t1: the last removal; 0 where nothing is removed."""
        return max(self.stage.removals, default=0)

    @property
    def ramp_end(self) -> int:
        """t2: the probability is 1 from here on."""
        if not self.stage.removals:
            return 0

        # Part 2 has its share of the steps that parts 2 and 3 have together.
        settings = self.settings
        share = settings.grafting_epochs / (settings.grafting_epochs + settings.finetune_epochs)
        return self.ramp_begin + round(share * (self.stage.steps - self.ramp_begin))

    def probability(self, step: int) -> float:
        """p of a step; 1 in recovery."""
        if not self.stage.removals:
            return 1.0

        settings = self.settings
        return grafting_probability(
            step,
            first=settings.initial_probability,
            begin=self.ramp_begin,
            end=self.ramp_end,
            ramp=settings.probability_schedule,
            jump=settings.jump_probability,
        )

    def before_step(self, step: int) -> None:
        """Remove weights where they are due; draw this step's bits."""
        super().before_step(step)

        # One draw a step, which its micro-batches share.
        if self.grafts is not None:
            self.bits = draw(self.probability(step), len(self.grafts), self.generator)

    def at_target(self, steps: int) -> bool:
        """Part 3 alone (docs/methods/spd.md §3.6)."""
        return steps > self.ramp_end or steps >= self.stage.steps

    def around_forward(self) -> AbstractContextManager[None]:
        """The grafted network; evaluation, which is outside, sees the student's layers alone."""
        return nullcontext() if self.grafts is None else self.grafts.grafted(self.bits)

    def look_ahead(self, pieces: Iterable[Piece]) -> None:
        """Forget what an attempt at this step remembered that ran out of memory."""
        self.hidden.clear()
        self.squares.clear()

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """L_hid and L_att are means over rows of one length, or over real tokens and pairs of them."""
        rows = pairs = len(batch)

        # n real tokens of a row make n^2 pairs of queries and keys.
        if self.settings.mask_padding:
            lengths = batch.attention_mask.sum(dim=1)
            rows, pairs = int(lengths.sum()), int(lengths.square().sum())
        return {**super().counts(batch), "hidden": rows, "attention": pairs}

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs | None, step: int) -> dict[str, Float[Tensor, ""]]:
        """L_hid and L_att, sums over layers; L_pred; the task's own loss.

        Source: docs/methods/spd.md §2.2.
        Differs from the authors' code: H_0 is left out; options of section 2.4.
        """
        on = self.loss_weights
        terms: dict[str, Tensor] = {}
        padding = batch.attention_mask if self.settings.mask_padding else None

        # L_hid and L_att: sums over layers of mean squared errors, of the grafted network against the teacher.
        if "hidden" in on:
            pairs = zip(student.hidden_states, teacher.hidden_states, strict=True)
            terms["hidden"] = torch.stack([distance(own, theirs, padding) for own, theirs in pairs]).sum()
        if "attention" in on:
            pairs = zip(student.maps, teacher.maps, strict=True)
            terms["attention"] = torch.stack([map_loss(own, theirs, padding) for own, theirs in pairs]).sum()

        # L_pred, and hard labels where settings ask for them.
        if "prediction" in on:
            terms["prediction"] = self._prediction(batch, student.logits, teacher.logits)
        if "task" in on:
            terms |= label_terms(student.logits, batch, self.stage.kind)

        if "hidden" in on:
            self._remember(batch, terms["hidden"].detach(), teacher, step)

        # Where no student layer was drawn nothing has a gradient; the loss needs a graph all the same.
        if not any(term.requires_grad for term in terms.values()):
            terms[next(iter(terms))] += 0.0 * self.layers[-1].sum()
        return terms

    def _remember(self, batch: Batch, value: Float[Tensor, ""], teacher: Outputs, step: int) -> None:
        """Keep a micro-batch's hidden-state term for the look at divergence; its least reference comes from the teacher."""
        self.hidden.append((self.counts(batch)["hidden"], value))
        if step == 0:
            squares = (states.detach().float().square().mean() for states in teacher.hidden_states)
            self.squares.append((len(batch), sum(squares, start=torch.zeros_like(value))))

    def _prediction(
        self, batch: Batch, student: Float[Tensor, "rows classes"], teacher: Float[Tensor, "rows classes"]
    ) -> Float[Tensor, ""]:
        """L_pred.

        Source: docs/methods/spd.md §2.2.
        Differs from the authors' code: options of section 2.4.
        """
        settings, kind = self.settings, task_kind(self.stage.kind)
        if kind.rules.vectors:
            return kind.soft_label_loss(student, teacher, settings.temperature)
        if kind.real_valued:
            target = batch.labels if settings.pred.regression_target == "gold" else teacher.squeeze(-1)
            return kind.task_loss(student, target)

        # Spans have a class for each token, so a mean over classes would depend on the length.
        reduction = "batchmean" if kind.width_varies else settings.pred.reduction
        return soft_cross_entropy(student, teacher, temperature=settings.temperature, reduction=reduction)

    def after_backward(self, step: int) -> None:
        """Layers that were not drawn have a gradient of 0, so that they move on by their momentum.

        Source: docs/methods/spd.md §3.3.
        Differs from the authors' code: gradients of removed weights are 0 before the norm is clipped, so they do not count
        in it; there they do. (Torch of its time set gradients to 0 where today's sets none.)
        """
        # Without a gradient AdamW would leave the layer where it is.
        for parameter in self.layers:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

        super().after_backward(step)

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Log the graft; look for divergence."""
        if self.settings.divergence_factor is not None and self.hidden:
            self._watch(step, self.settings.divergence_factor)
        self.hidden.clear()

        return {"grafting_probability": self.probability(step), "student_layers": float(self.bits.sum())}

    def _watch(self, step: int, factor: float) -> None:
        """Count steps in which the hidden-state term is far above its first value; waits for the device rarely.

        The first value is that of one draw, and terms grow with the student layers in it: it is taken to the value of all.

        Source: docs/methods/spd.md §4 (writer's recommendation).
        Differs from the authors' code: that one does not look.

        Raises:
            UserError: there were `PATIENCE` such steps on end.
        """
        # The mean over the batch, from its micro-batches.
        value = _mean_over(self.hidden)

        # A term grows about as the number of student layers in the draw.
        if step == 0:
            least = LEAST * _mean_over(self.squares) if self.squares else self.reference
            self.reference = torch.maximum(least, value * (len(self.bits) + 1) / (self.bits.sum() + 1))

        # Counted on the device; reading the count would make every step wait for it.
        self.too_high = torch.where(value > factor * self.reference, self.too_high + 1, 0)
        if (step + 1) % LOOK_EVERY == 0 and int(self.too_high) >= PATIENCE:
            raise UserError(
                f"training diverged at step {step + 1} of {self.stage.steps}: the hidden-state term is {float(value):.4g}, "
                f"for {int(self.too_high)} steps more than {factor:g} times {float(self.reference):.4g}, where it began; "
                "lower learning_rate (1.6e-4 is the default of the authors' code), or raise divergence_factor"
            )

    def state_dict(self) -> dict[str, Tensor | Bool[Tensor, "..."]]:
        """Masks, the generator of the bits, and what is known of the hidden-state term."""
        return super().state_dict() | {"reference": self.reference, "too_high": self.too_high}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)
        self.reference, self.too_high = (state[name].to(self.student.device) for name in ("reference", "too_high"))


def _mean_over(pieces: list[tuple[int, Tensor]]) -> Float[Tensor, ""]:
    """The mean over a batch, from means over its micro-batches and what these count."""
    total = torch.stack([count * mean for count, mean in pieces]).sum()
    return total / sum(count for count, _ in pieces)


def grafting_probability(step: int, *, first: float, begin: int, end: int, ramp: Ramp, jump: float) -> float:
    """Probability in [0, 1] that a position takes the student's layer in this step.

    Source: docs/methods/spd.md §3.2: p0 up to t1, then p0 + (1 - p0) (t - t1) / (t2 - t1), then 1.
    Differs from the authors' code: there each ramp has a slope of its own; here all but `constant` are 1 from `end` on.

    Args:
        step: optimiser step, from 0.
        first: p0, the probability at the beginning.
        begin: t1, where the ramp begins.
        end: t2, where it ends.
        ramp: constant stays at p0; linear rises from step 0; constant-linear from `begin`; constant-jump-linear is `jump`
            at `begin` and rises from there.
        jump: for constant-jump-linear alone.
    """
    if ramp == "constant" or (ramp != "linear" and step < begin):
        return first
    if step >= end:
        return 1.0

    # Where the ramp starts: its first value, and its first step.
    low = jump if ramp == "constant-jump-linear" else first
    start = 0 if ramp == "linear" else begin
    return low + (1.0 - low) * (step - start) / (end - start)


def draw(probability: float, layers: int, generator: torch.Generator) -> Bool[Tensor, " layers"]:
    """Independent bits, True with this probability: exactly one uniform number a layer, whatever the probability."""
    return torch.rand(layers, generator=generator) < probability
