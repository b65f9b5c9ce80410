"""GRAIN: single dimensions of heads, and FFN units, go by the gradient of the prediction term while the student is distilled.

Paper: Z. Yang, Y. Cui, X. Yao, S. Wang, "Gradient-based Intra-attention Pruning on Pre-trained Language Models", ACL 2023,
arXiv 2212.07634; code airaria/GRAIN at 8d02105. docs/methods/grain.md is the specification, made from the paper's description.

Idea: a head need not stay or go as a whole. A dimension of queries with its key's, a dimension of values with its column of the
output matrix, and an FFN unit weigh the same, so one ranking serves them all. Distillation of hidden states helps training, but
its gradient says little about what the prediction needs; so it is kept out of the ranking.

Symbols ↔ names
    L_CE, L_hidden        terms "prediction", "hidden"
    IS                    `importance`, a vector over all dimensions and units: pruning.inside_heads.rows
    beta, alpha           settings.smoothing, settings.regularisation
    D(M)                  pruning.inside_heads.choice.regularised

What is gone is zero in the student until `shrink` cuts it away. Masks never open again. Ours: `head_rows: equal`; heads and
sublayers without any dimension are left out, LayerNorm included; the size is met to half a dimension; scores are compared by
weight where families have unequal numbers of weights.
Left out: factorising the embeddings, which is a step after export here (`factorise` in the block `deploy`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.config.methods.grain import GrainPlan
from espalier.data.batches import Batch
from espalier.kinds.base import soft_label_loss
from espalier.losses.terms import distance
from espalier.methods.base import Method
from espalier.models.outputs import Outputs
from espalier.pruning.gates import attach
from espalier.pruning.inside_heads.choice import check_equal_heads, equal_order, free_order, kept_at, regularised
from espalier.pruning.inside_heads.matrices import mask_gradients, matrices_of, set_to_zero, sums_over
from espalier.pruning.inside_heads.rows import RowTable, full_row_masks
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, Parts, heads_of, is_ragged, part_counts, prunable_shape, units_of, within
from espalier.pruning.schedules import remaining
from espalier.pruning.shrink import shrink
from espalier.runtime.errors import UserError

MAP = "map/"
"""Before the names of the linear map's tensors in saved states."""


class Grain(Method):
    """Two distillation terms, a running score for each dimension and unit, and removals before the steps of a ramp."""

    settings: GrainPlan
    masks_over = "rows"
    needs_teacher = True

    @property
    def needs_hidden_states(self) -> bool:  # type: ignore[override]  # here it depends on the settings
        """Whether the hidden term is on."""
        return self.settings.hidden_weight > 0

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the terms that are on."""
        hidden = {"hidden": self.settings.hidden_weight} if self.settings.hidden_weight else {}
        return {"prediction": self.settings.prediction_weight, **hidden}

    @property
    def dimensions(self) -> Bool[Tensor, " hidden"]:
        """Hidden dimensions that the plans before have left."""
        return self.before[HIDDEN]

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Find the dimensions and units, and make the map; a stage that removes nothing, such as recovery, has no masks."""
        self.student = student
        shape = prunable_shape(student.config, student.base_model, rows=True)
        self.before = full_row_masks(shape) if masks is None else masks
        self.table = RowTable.of(student, self.before)
        self.map = self._identity()

        # What is there of heads and units, in one vector on the CPU, where choices are made.
        self.kept = torch.ones(len(self.table.weights), dtype=torch.bool)
        self.importance = torch.zeros(len(self.kept))
        self.started_at = self.table.saved(self.kept)
        self.first = self.last = -1
        if self.stage.removes:
            self._prepare_removal()

    def _identity(self) -> nn.Linear:
        """The linear map of hidden states: at first it puts each dimension where the teacher has it."""
        kept = self.before[HIDDEN].cpu()
        own = nn.Linear(int(kept.sum()), len(kept))
        with torch.no_grad():
            own.weight.copy_(torch.eye(len(kept))[:, kept])
            own.bias.zero_()
        return own.to(self.student.device)

    def _prepare_removal(self) -> None:
        """Find the matrices, the steps and the gates of a stage that removes."""
        if self.settings.head_rows == "equal":
            check_equal_heads(self.table)
        self.first, self.last = self._first_and_last()
        self.matrices = matrices_of(self.student)

        # Sums of w dL/dw over each dimension and unit, and how many lines they are of: gathered where gradients are.
        self.gathered = torch.zeros(len(self.kept) + 1, device=self.student.device, requires_grad=True)
        self.masks = self._on_device()
        attach(self.student, self._gates)

    def _first_and_last(self) -> tuple[int, int]:
        """Steps between which sparsity rises: the first removal comes after the first of them, the last before the second."""
        steps = self.stage.steps

        # One step at least comes after the last removal, too.
        last = max(2, min(round(self.settings.prune_end * steps), steps - 1))
        if steps <= last:
            raise UserError(f"too short to prune in: {steps} steps; needed: at least {last + 1}; raise epochs")

        # One step at least comes before the first removal, for its importance.
        return min(max(1, round(self.settings.prune_start * steps)), last - 1), last

    def _on_device(self) -> Masks:
        """What is there, by name, where the weights are."""
        return self.table.split(self.kept.to(self.student.device))

    def _gates(self) -> Parts:
        """Gates of a forward pass, 0 for heads and units that are wholly gone; what is whole, and unlike heads, have none."""
        dtype, shape = self.student.dtype, self.table.shape
        masks = self.table.masks(self.kept)

        # Dimensions are zeros in the weights already. Gates leave out what is empty, its bias and LayerNorm too.
        there: dict[str, Tensor] = {"attention": torch.ones(len(shape.layers))}
        for layer, (heads, _) in enumerate(shape.layers):
            there[units_of(layer)] = masks[units_of(layer)]
            if heads and is_ragged(shape, layer):
                there["attention"][layer] = float(masks[heads_of(layer)].any())
            else:
                there[heads_of(layer)] = masks[heads_of(layer)]
        gates = {name: mask for name, mask in there.items() if len(mask) and not bool(mask.all())}
        return {name: mask.to(self.student.device, dtype) for name, mask in gates.items()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The map trains with the weights."""
        return [{"params": list(self.map.parameters()), "weight_decay": 0.0}] if self.needs_hidden_states else []

    def before_step(self, step: int) -> None:
        """Remove what the schedule asks for."""
        if self.first < step <= self.last:
            # The order is over what is left, so masks nest.
            self.kept = kept_at(self._places(), self.table, self._target(step))
            self.masks = self._on_device()
            set_to_zero(self.matrices, self.masks, self.optimizer)

    def _target(self, step: int) -> float:
        """Sparsity at a step: it rises from where the stage began, fast first.

        Source: docs/methods/grain.md §2.4.
        Differs from the authors' code: a later stage of a path rises from where its student stands.
        """
        above = remaining(step, self.first, self.last, "cubic")
        return self.stage.target + (self.started_at - self.stage.target) * above

    def _places(self) -> Tensor:
        """The order in which dimensions and units go."""
        if not bool(self.importance.isfinite().all()):
            raise UserError("training diverged: importance is not finite; lower learning_rate")
        # IS tanh(D / alpha), then by weight.
        scores = regularised(self.importance, self.table, self.kept, self.settings.regularisation)
        order = equal_order if self.settings.head_rows == "equal" else free_order
        return order(scores, self.table, self.kept)

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """The hidden term is a mean over real tokens."""
        return {**super().counts(batch), "hidden": int(batch.attention_mask.sum())}

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs, step: int) -> dict[str, Float[Tensor, ""]]:
        """L_CE and L_hidden.

        Source: docs/methods/grain.md §2.5.
        Differs from the authors' code: padding is left out of the hidden term.
        """
        options: dict[str, Any] = {"temperature": self.settings.temperature, "kind": self.stage.kind}
        terms = {"prediction": soft_label_loss(student.logits, teacher.logits, **options)}

        # Before the hidden term exists: its gradient has no part in importance.
        if self._gathers(step) and self.settings.separate_gradients and terms["prediction"].requires_grad:
            self._gather(terms["prediction"], self.counts(batch)["prediction"])

        if self.needs_hidden_states:
            terms["hidden"] = self._hidden_loss(batch, student, teacher)
        return terms

    def _gathers(self, step: int) -> bool:
        """Whether a removal is still to come, which needs importance."""
        return step < self.last

    def _gather(self, prediction: Float[Tensor, ""], lines: int) -> None:
        """Add the sums of w dL_CE/dw of a micro-batch, which has so many lines, to what `after_backward` reads.

        Source: docs/methods/grain.md §2.1, gradient separation.
        Differs from the authors' code: written from the paper's description.
        """
        weights = [matrix.weight for matrix in self.matrices]
        gradients = torch.autograd.grad(prediction, weights, retain_graph=True, allow_unused=True)

        # A term is a mean over its lines, so micro-batches count by their lines.
        sums = self._sums(gradients) * lines
        new = torch.cat([sums, sums.new_tensor([float(lines)])])
        self.gathered.grad = new if self.gathered.grad is None else self.gathered.grad + new

    def _sums(self, gradients: Iterable[Tensor | None]) -> Float[Tensor, " rows"]:
        """Sums of w dL/dw over the weights of every dimension and unit."""
        sums = sums_over(self.matrices, list(gradients), self.table.sizes)
        return self.table.joined(sums).to(self.gathered.dtype) if sums else torch.zeros_like(self.gathered.detach()[1:])

    def gradients_to_read(self) -> Iterable[Tensor]:
        """What `_gather` has gathered."""
        return [self.gathered] if self.stage.removes else []

    def _hidden_loss(self, batch: Batch, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        """Sum over layers of the mean squared difference of the mapped outputs from the teacher's."""
        weight, bias, terms = self.map.weight, self.map.bias, []

        # Both have as many layers: a layer without sublayers passes on what it reads.
        for own, other in zip(student.hidden_states, teacher.hidden_states, strict=True):
            mapped = F.linear(own, weight.to(own.dtype), bias.to(own.dtype))
            terms.append(distance(mapped, other, batch.attention_mask))
        return torch.stack(terms).sum()

    def after_backward(self, step: int) -> None:
        """Bring importance up to date, and set the gradients of what is gone to zero."""
        if not self.stage.removes:
            return
        if self._gathers(step):
            self._smooth()
        mask_gradients(self.matrices, self.masks)

    @torch.no_grad()
    def _smooth(self) -> None:
        """IS <- beta IS + (1 - beta) |sum of w dL/dw|.

        Source: docs/methods/grain.md §2.1.
        Differs from the authors' code: written from the paper's description.
        """
        if self.settings.separate_gradients:
            sums, lines = self.gathered.grad[:-1], self.gathered.grad[-1]
            sums = sums / lines
            self.gathered.grad = None
        else:
            sums = self._sums(matrix.weight.grad for matrix in self.matrices)
        self.importance = torch.lerp(sums.abs().cpu(), self.importance, self.settings.smoothing)

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """The sparsity that the schedule asks for."""
        return {"target_sparsity": self._target(step)} if self.stage.removes else {}

    def at_target(self, steps: int) -> bool:
        """Whether the last removal has been made."""
        return steps > self.last

    def end(self) -> Masks:
        """What is kept of the model that the path began with."""
        return within(self.before, self.table.masks(self.kept)) if self.stage.removes else self.before

    @property
    def sparsity(self) -> float:
        """Fraction of the encoder's weights removed so far."""
        return self.table.saved(self.kept)

    def structure(self) -> dict[str, Any]:
        """Heads, their dimensions, units and hidden dimensions that are kept."""
        return {"sparsity": self.sparsity, **part_counts(self.end())}

    def shrink(self, student: PreTrainedModel) -> PreTrainedModel:
        """The compact student."""
        return shrink(student, self.table.masks(self.kept)) if self.stage.removes else student

    def state_dict(self) -> dict[str, Tensor]:
        """What is there, importance, and the map."""
        own = {f"{MAP}{name}": value for name, value in self.map.state_dict().items()}
        return super().state_dict() | own | {"kept": self.kept, "importance": self.importance}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave; the saved student has zeros where something is gone."""
        super().load_state_dict(state)
        self.map.load_state_dict({name.removeprefix(MAP): value for name, value in state.items() if name.startswith(MAP)})
        self.kept, self.importance = state["kept"].cpu(), state["importance"].cpu()
        if self.stage.removes:
            self.masks = self._on_device()
