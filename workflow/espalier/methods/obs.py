"""Second-order removal of heads and FFN units to a speed or a size, with exact updates of what stays.

Paper: E. Kurtic, E. Frantar, D. Alistarh, "ZipLM: Inference-Aware Structured Pruning of Language Models", NeurIPS 2023,
arXiv 2302.04089. The official repository has no code of it; the core is as in public code of the same authors' later work.

Idea: the matrix that a sublayer ends with reads heads or FFN units as columns. What it loses when a column goes, and how the
other columns make up for it, is a problem of least squares in the second moments of what it reads. Each sublayer is pruned by
itself to every size. A dynamic programme chooses one size for each under a budget. How much each sublayer's error counts in it
is searched by running the models that it chooses.

Symbols ↔ names
    X, H                 what `OutputMatrix.see` is given, `OutputMatrix.hessian`
    W, H^-1              `whole`, `inverse` in pruning/second_order/removal.py
    levels, errors       pruning/second_order/levels.py: Options
    coefficients c       `coefficients`

A stage: `calibrate` gathers H of the student that it starts from, removes, chooses, refits; then the student is trained at its
new sizes with task loss, logit distillation and the layers' outputs. Targets of a path are a chain, so that one run gives a
family of models.

Ours: the bias is refitted, too; trials of the search are compared with the model before the removal; sizes as well as speeds,
met to a unit; the first coefficients are all 1; weights of the loss terms.
Left out: correcting what later sublayers read for what earlier ones have lost; pruning of hidden dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel

from espalier.config.methods.obs import ObsPlan
from espalier.data.batches import Batch
from espalier.kinds.base import soft_label_loss, task_loss
from espalier.losses.terms import distance
from espalier.methods.part_removal import PartRemoval
from espalier.models.forward import forward
from espalier.models.outputs import Outputs
from espalier.pruning.budget import LatencyBudget, SizeBudget, check_reach
from espalier.pruning.gates import attach
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, full_masks, masks_of
from espalier.pruning.second_order.budgets import allowed_cost, landed, options_of
from espalier.pruning.second_order.levels import best_levels, searched_coefficients
from espalier.pruning.second_order.outputs import OutputMatrix, output_matrices, see_rows
from espalier.pruning.shrink import shrink


class Obs(PartRemoval):
    """Removal before the first step; then training at fixed sizes."""

    settings: ObsPlan
    needs_teacher = True

    @property
    def needs_hidden_states(self) -> bool:  # type: ignore[override]  # here it depends on the settings
        """Whether outputs of layers are compared; not where nothing is trained."""
        return bool(self.settings.hidden_weight and self.stage.steps)

    @property
    def reads_teacher(self) -> bool:
        """Only in training: the removal asks the student alone."""
        return bool(self.stage.steps) and super().reads_teacher

    @property
    def calibration_rows(self) -> int:
        """As the settings say."""
        return self.settings.calibration_rows

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the terms that are on."""
        settings = self.settings
        weights = {"task": settings.task_weight, "prediction": settings.prediction_weight, "hidden": settings.hidden_weight}
        return {name: weight for name, weight in weights.items() if weight}

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Put gates on, which are all open; a stage that removes nothing, such as recovery, has none."""
        super().begin(student, masks)
        self.budget: SizeBudget | LatencyBudget = self.size
        if self.stage.latency is not None:
            self.budget = LatencyBudget(self.stage.latency, self.shape)

        # Heads and units of the sublayers that there are; hidden dimensions stay.
        full = {name: mask for name, mask in full_masks(self.shape).items() if name != HIDDEN and len(mask)}
        self.open = {name: mask.to(student.device) for name, mask in full.items()}
        self.search = torch.zeros(2)

        if self.stage.removes:
            check_reach(self.budget, self.open)
            attach(student, self._gates)

    def _gates(self) -> dict[str, Tensor]:
        """Gates of a forward pass: 0 for parts that are gone; sublayers that are whole need none."""
        dtype = self.student.dtype
        return {name: mask.to(dtype) for name, mask in self.open.items() if not bool(mask.all())}

    @torch.no_grad()
    def calibrate(self, student: PreTrainedModel, teacher: nn.Module, batches: Sequence[Batch]) -> None:
        """Prune every sublayer to all sizes, choose one for each, and refit.

        Source: docs/methods/obs.md §2.
        Differs from the authors' code: no code is public.
        """
        # Every sublayer is pruned by itself, in the model as it came: H of one does not know what others will lose.
        matrices = output_matrices(student)

        # Before anything is written: what the model says while it is whole.
        referees = self._referees(batches)
        see_rows(student, matrices, batches)
        for matrix in tqdm(matrices, "order of removal", unit="sublayer", mininterval=5.0):
            matrix.rank()

        # argmin_levels sum c error under the budget, for the coefficients c whose model is best.
        coefficients = self._searched(matrices, referees)
        counts = self._chosen(matrices, coefficients)

        # Levels are coarse; a size is met to a unit. A time is below its target by less than a level already.
        if isinstance(self.budget, SizeBudget):
            counts = landed(matrices, counts, coefficients, self.budget)
        self._take(matrices, counts)

    def _searched(
        self, matrices: Sequence[OutputMatrix], referees: Sequence[tuple[Batch, Outputs]]
    ) -> Float[Tensor, " sublayers"]:
        """The coefficients whose model comes nearest to the one before the removal, on some rows."""
        settings = self.settings
        known: dict[tuple[int, ...], float] = {}
        trials = settings.search_random + settings.search_mutations
        if not trials:
            return torch.ones(len(matrices), dtype=torch.float64)

        with tqdm(total=trials + 1, desc="search", unit="model", mininterval=5.0) as bar:

            def loss(coefficients: Tensor) -> float:
                # Different coefficients often choose the same sizes.
                counts = tuple(self._chosen(matrices, coefficients))
                if counts not in known:
                    self._take(matrices, counts)
                    known[counts] = self._divergence(referees)
                bar.update()
                return known[counts]

            draws = {"random": settings.search_random, "mutations": settings.search_mutations}
            best, least = searched_coefficients(loss, len(matrices), self.generator, share=settings.mutation_share, **draws)

        # What the first coefficients gave, and what the search has made of it.
        self.search = torch.tensor([next(iter(known.values())), least])
        return best

    def _chosen(self, matrices: Sequence[OutputMatrix], coefficients: Tensor) -> list[int]:
        """Parts that each sublayer keeps by the dynamic programme."""
        # min over levels of sum c error, with sum cost at most what is allowed.
        options = [options_of(matrix, self.budget) for matrix in matrices]
        levels = best_levels(options, coefficients.tolist(), allowed_cost(self.budget))

        # Without any sublayer the cost is 0, so there is always a choice.
        return [int(option.sizes[level]) for option, level in zip(options, levels, strict=True)]

    def _take(self, matrices: Sequence[OutputMatrix], counts: Sequence[int]) -> None:
        """Bring the student to these sizes."""
        for matrix, count in zip(matrices, counts, strict=True):
            matrix.write(count)
            self.open[matrix.name] = matrix.kept(count).to(self.student.device)

    def _referees(self, batches: Sequence[Batch]) -> list[tuple[Batch, Outputs]]:
        """Some of the batches, short rows as well as long ones, with the outputs of the model before the removal."""
        share = min(1.0, self.settings.search_rows / sum(map(len, batches)))
        chosen: list[tuple[Batch, Outputs]] = []
        for number, batch in enumerate(batches, start=1):
            # Where floor(share x number) rises a batch is taken, so that all lengths are there. The last one is, if no other.
            rises = int(share * number) > int(share * (number - 1))
            if rises or (number == len(batches) and not chosen):
                chosen.append((batch, forward(self.student, batch)))
        return chosen

    def _divergence(self, referees: Sequence[tuple[Batch, Outputs]]) -> float:
        """Mean distance of the student's outputs from those before the removal."""
        # A mean over all lines: batches may differ in their number.
        total, lines = 0.0, 0
        for batch, whole in referees:
            options: dict[str, Any] = {"temperature": self.settings.temperature, "kind": self.stage.kind}
            count = len(whole.logits)
            total += count * float(soft_label_loss(forward(self.student, batch).logits, whole.logits, **options))
            lines += count
        return total / lines

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """The hidden term is a mean over real tokens."""
        return {**super().counts(batch), "hidden": int(batch.attention_mask.sum())}

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs, step: int) -> dict[str, Tensor]:
        """Task loss, distance of the outputs, and mean squared error of the layers' outputs.

        Source: docs/methods/obs.md §2.8.
        Differs from the authors' code: no code is public.
        """
        terms = {}
        if self.settings.task_weight:
            terms["task"] = task_loss(student.logits, batch.labels, self.stage.kind)
        if self.settings.prediction_weight:
            options: dict[str, Any] = {"temperature": self.settings.temperature, "kind": self.stage.kind}
            terms["prediction"] = soft_label_loss(student.logits, teacher.logits, **options)
        if self.settings.hidden_weight:
            terms["hidden"] = self._hidden_loss(batch, student, teacher)
        return terms

    def _hidden_loss(self, batch: Batch, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        """Mean over layers; a student that came narrower is compared in the dimensions that it has kept."""
        # Both have as many layers: a layer without sublayers passes on what it reads.
        kept = self.before[HIDDEN].nonzero().flatten().to(batch.input_ids.device)
        pairs = zip(student.hidden_states, teacher.hidden_states, strict=True)
        return torch.stack([distance(own, other[..., kept], batch.attention_mask) for own, other in pairs]).mean()

    def structure(self) -> dict[str, Any]:
        """Heads, units and hidden dimensions that are kept, and how near the search came to the model before the removal."""
        alike, best = self.search.tolist()
        search = {"search": {"divergence_alike": alike, "divergence": best}} if self.stage.removes else {}
        return {**super().structure(), **search}

    def shrink(self, student: PreTrainedModel) -> PreTrainedModel:
        """The compact student."""
        return shrink(student, masks_of(self.open, self.shape)) if self.stage.removes else student

    def state_dict(self) -> dict[str, Tensor]:
        """What is kept, and what the search has found."""
        kept = {f"open/{name}": mask for name, mask in self.open.items()}
        return super().state_dict() | kept | {"search": self.search}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state)
        self.search = state["search"]
        self.open = {name: state[f"open/{name}"].to(mask.device) for name, mask in self.open.items()}
