"""SDP: self-distilled pruning.

Paper: J. O'Neill, S. Dutta, H. Assem, "Deep Neural Compression Via Concurrent Pruning and Self-Distillation",
arXiv 2109.15014 (2021). No public code, and the body of the paper was not at hand. From its abstract: the magnitude
criterion, pruning in steps, the unpruned network as teacher, the cross-correlation objective. All else is inferred:
the formulas below (section numbers are the project's own specification's; each loss in losses/terms.py writes its own out)
and the constants, which stand in the configuration and are marked `inferred` in docs/configuration.md.

Idea: a network is pruned by weight magnitude in repeated prune-then-retrain steps. While it retrains, the unpruned,
fine-tuned version of the same network teaches it: the cross-correlation of the two networks' features over a batch is
pushed to the identity. Distillation reaches the criterion only through the weights that it shapes.

Symbols ↔ names
    f_Theta, f_theta      teacher, student
    s^T, s^S              teacher.logits, student.logits
    z^T, z^S              teacher.representation, student.representation (last hidden state, before pooler and dropout; where
                          words have labels, at the first token of each word, at most `MOST_VECTORS` of a batch)
    C                     losses.terms.correlation_matrix
    lambda, beta          settings.cc.off_diagonal, settings.cc.beta
    alpha, tau            settings.alpha, settings.temperature
    M                     pruner.masks (True = kept)

Objectives (section 2 of the specification), weights from `loss_weights`:
    kld      (1 - alpha) L_task + alpha tau^2 KL
    cos      L_task + beta_cos (1 - cos(z^S, z^T))
    cc       L_task + beta L_CC / d
    cc+kld   (1 - alpha) L_task + alpha tau^2 KL + beta L_CC / d

Ours: targets of a path are a chain of stages, each from the student before (`chain: false` gives one run a target);
gradients of removed weights are masked before the norm is clipped.

Left out: gradient-based criteria (section 7.2 b).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from espalier.config.methods.sdp import SdpPlan
from espalier.data.batches import Batch
from espalier.kinds.base import label_terms, soft_label_loss
from espalier.losses.terms import cosine_distance, cross_correlation_loss, distillation_weights
from espalier.methods.pruning import WeightPruning
from espalier.models.outputs import Outputs, Representation

MOST_VECTORS = 1024
"""Words of a batch whose vectors are compared, where words have labels (docs/methods/sdp.md §2.1)."""


class Sdp(WeightPruning):
    """Magnitude pruning under a self-distillation objective."""

    settings: SdpPlan
    needs_teacher = True

    @property
    def representation(self) -> Representation | None:
        """Logits are enough for the KL objective."""
        return None if self.settings.objective == "kld" else self.settings.representation

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the objective's terms."""
        settings = self.settings
        soft_labels = distillation_weights(settings.alpha)

        # docs/methods/sdp.md §2: with soft labels the task loss has what alpha leaves; otherwise it has weight 1.
        return {
            "kld": soft_labels,
            "cos": {"task": 1.0, "cos": settings.beta_cos},
            "cc": {"task": 1.0, "cc": settings.cc.beta},
            "cc+kld": soft_labels | {"cc": settings.cc.beta},
        }[settings.objective]

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs, step: int) -> dict[str, Tensor]:
        """The objective's terms.

        Source: docs/methods/sdp.md §2.2 to 2.5.
        Differs from the authors' code: no code is public.
        """
        settings, on = self.settings, self.loss_weights
        terms = label_terms(student.logits, batch, self.stage.kind)

        # alpha tau^2 KL(teacher || student) (docs/methods/sdp.md §2.3).
        if "kld" in on:
            terms["kld"] = soft_label_loss(
                student.logits, teacher.logits, temperature=settings.temperature, kind=self.stage.kind
            )

        # 1 - cos(z^S, z^T), a mean over rows (docs/methods/sdp.md §2.4).
        compared = [] if settings.objective == "kld" else self._compared(batch, student, teacher)
        if "cos" in on:
            terms["cos"] = cosine_distance(*compared)

        # Correlations of features over the batch, pushed to the identity (docs/methods/sdp.md §2.5).
        if "cc" in on:
            terms["cc"] = cross_correlation_loss(
                *compared,
                off_diagonal=settings.cc.off_diagonal,
                centre=settings.cc.centre,
                normalise=settings.cc.normalise,
            )

        return terms

    def _compared(self, batch: Batch, student: Outputs, teacher: Outputs) -> list[Float[Tensor, "vectors hidden"]]:
        """Vectors of student and teacher: one for each row, or those of the same words of both, at random where they are many.

        Source: docs/methods/sdp.md §2.1.
        Differs from the authors' code: no code is public.
        """
        vectors = [student.representation, teacher.representation]
        count = len(student.representation)
        if batch.compared is None or count <= MOST_VECTORS:
            return vectors

        # One draw for both networks, from the generator that a resumed run goes on with.
        chosen = torch.randperm(count, generator=self.generator)[:MOST_VECTORS].to(student.representation.device)
        return [vector[chosen] for vector in vectors]
