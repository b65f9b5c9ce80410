"""HomoDistil: a pre-trained encoder is narrowed little by little while it is distilled on unlabelled text.

Paper: C. Liang, H. Jiang, Z. Li, X. Tang, B. Yin, T. Zhao, "HomoDistil: Homotopic Task-Agnostic Distillation of
Pre-trained Transformers", ICLR 2023, arXiv 2302.09632; no code is public. docs/methods/homodistil.md is the
specification.

Idea: the student begins as a copy of its teacher, so the gap is zero, and stays small while the least important units of
every width are removed, the same fraction everywhere. What is left is an ordinary narrow Transformer of the same depth.

Symbols                        Names
    L_MLM, L_pred               terms "mlm", "prediction"
    L_hidn, L_emb, L_attn       terms "hidden", "embedding", "attention"
    W_hidn^k, W_emb             projections
    I U                         pruning.platon.Importance
    RES, FFN, QK, VO            groups of pruning.widths
    r(t), t_i, t_f              remaining(...), first, last

After every cut the student is physically smaller, and so are the optimiser's moments, the running scores and the
projections: there are no masks, nothing comes back, and LayerNorms see what is kept alone. r_f follows from the target:
widths at fraction r leave r^2 of the matrices; `pruning.widths.final_sizes` says how that is rounded.

Left out: removing whole heads; staged losses; heads in the ranking over all layers (`allocation: global` ranks FFN units,
since all layers of a stock model have heads of one width). Choices that the paper leaves open: docs/methods/homodistil.md §7.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.config.methods.homodistil import HomodistilPlan
from espalier.data.batches import Batch
from espalier.losses.terms import projected_loss, relation_loss, soft_label_loss, task_loss
from espalier.methods.base import Method
from espalier.models.attention import Embedding
from espalier.models.outputs import Outputs
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, units_of, within
from espalier.pruning.platon import Importance, unit_scores
from espalier.pruning.schedules import remaining
from espalier.pruning.widths import Sizes, Widths, between, choose, exported, final_sizes, queries_of, values_of, writers
from espalier.runtime.errors import UserError

EMBEDDING = "embedding.weight"
"""Name of the embeddings' projection; those of layers are `layer.{i}.weight`."""


class Homodistil(Method):
    """Five loss terms, running scores, and cuts in place."""

    settings: HomodistilPlan
    masks_over = "widths"
    needs_teacher = True

    @property
    def needs_hidden_states(self) -> bool:
        """Whether the hidden term is on."""
        return self.settings.hidden_weight > 0

    @property
    def relations(self) -> Embedding | None:
        """Which embeddings are recorded, where the embedding or the attention term is on."""
        return self.settings.embedding if self.settings.embedding_weight + self.settings.attention_weight > 0 else None

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Find the groups, make the projections, and say when which widths are due."""
        self.student, start = student, Sizes.of(student.config)
        full = {name: torch.ones(size, dtype=torch.bool) for name, size in start.groups().items()}
        self.before = full if masks is None else masks
        self.projections = self._make_projections(student)
        self.widths = Widths(student, self.projections)
        self.dense = _whole(self.before, start).matrices
        self.last = max(2, min(round(self.settings.prune_end * self.stage.steps), self.stage.steps - 1))
        self.first = min(max(1, round(self.settings.prune_start * self.stage.steps)), self.last - 1)
        if self.settings.removal == "one-shot":
            self.last = self.first
        self.importance: Importance | None = None
        if not self.stage.removes:
            return
        self.final = final_sizes(start, self.dense * (1.0 - self.stage.target), self.settings.multiple)
        if self.settings.removal == "random-start":
            self._start_at_random()
        else:
            self.importance = self._make_importance()
        self._check_lengths()

    def _check_lengths(self) -> None:
        """Refuse a stage that is too short to gather scores as its settings say."""
        steps, scores = self.stage.steps, self.importance
        if steps <= self.last:
            raise UserError(f"too short to narrow in: {steps} steps; needed: at least {self.last + 1}; raise epochs")
        if self.settings.removal == "one-shot" and scores.reads and self.first < scores.window:
            raise UserError(
                f"one-shot cuts at step {self.first} of {steps}, before a window of {scores.window} steps is full; "
                f"raise prune_start to at least {scores.window / steps:.3f}, or lower window"
            )

    def _make_projections(self, student: PreTrainedModel) -> dict[str, nn.Parameter]:
        """Maps to the teacher's width for the terms that are on: identity, rows of removed dimensions left out."""
        kept, settings = self.before[HIDDEN], self.settings
        names = [f"layer.{layer}.weight" for layer in range(student.config.num_hidden_layers) if settings.hidden_weight]
        names += [EMBEDDING] if settings.embedding_weight else []
        found = {}
        for name in names:
            weight = torch.eye(len(kept))[kept.cpu()]
            if settings.projections == "random":
                weight = student.config.initializer_range * torch.randn(weight.shape, generator=self.generator)
            found[name] = nn.Parameter(weight.to(student.device))
        return found

    def _make_importance(self) -> Importance:
        """Running scores of all parameters that belong to a group."""
        settings = self.settings
        parameters = {name: self.widths.parameters[name] for name in self.widths.axes}
        betas = {"beta1": settings.beta1, "beta2": settings.beta2}
        return Importance(parameters, settings.importance, **betas, window=settings.window)

    def _start_at_random(self) -> None:
        """Draw every weight anew and cut to the final widths, before the first step (docs/methods/homodistil.md §6.1)."""
        with torch.random.fork_rng():
            torch.manual_seed(self.stage.seed)
            fresh = type(self.student)(copy.deepcopy(self.student.config))
        self.student.load_state_dict(fresh.state_dict())
        self.widths.cut(choose(self._drawn(), self.final, across_layers=False), None)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Weights of the terms that are on."""
        settings = self.settings
        weights = {
            "mlm": settings.mlm_weight,
            "prediction": settings.prediction_weight,
            "hidden": settings.hidden_weight,
            "embedding": settings.embedding_weight,
            "attention": settings.attention_weight,
        }
        return {name: weight for name, weight in weights.items() if weight}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The student's parameters with the paper's epsilon, and the projections."""
        trained = [parameter for parameter in self.student.parameters() if parameter.requires_grad]
        matrices, vectors = ([p for p in trained if (p.dim() > 1) == wanted] for wanted in (True, False))
        decayed = [(matrices, self.settings.weight_decay), (vectors, 0.0), (list(self.projections.values()), 0.0)]
        return [{"params": some, "weight_decay": decay, "eps": self.settings.adam_epsilon} for some, decay in decayed if some]

    def before_step(self, step: int) -> None:
        """Cut where widths are due."""
        if (goal := self._goal(step)) is not None:
            scores = self._unit_scores()
            if not all(bool(each.isfinite().all()) for each in scores.values()):
                raise UserError(
                    f"training diverged before step {step + 1}: scores of units are not finite; lower learning_rate"
                )
            kept = choose(scores, goal, across_layers=self.settings.allocation == "global")
            self.widths.cut(kept, self.optimizer, self.importance.stores.values())
            if step == self.last:
                self.importance = None  # three numbers a weight that nobody reads any more

    def _goal(self, step: int) -> Sizes | None:
        """The widths to cut to before this step."""
        if self.importance is None:
            return None
        if self.settings.removal == "one-shot":
            return self.final if step == self.last else None
        due = (step - self.first) % self.settings.decide_every == 0 or step == self.last
        if not (due and self.first < step <= self.last):
            return None
        above = remaining(step, self.first, self.last, self.settings.prune_schedule)
        return between(self.widths.start, self.final, above, self.settings.multiple)

    @torch.no_grad()
    def _unit_scores(self) -> dict[str, Float[Tensor, " _"]]:
        """Score of every unit that is left."""
        if self.settings.importance == "random":
            return self._drawn()
        divided = self.settings.member_scores == "divided"
        axes = self.widths.axes if divided else writers(self.student, self.widths.axes)
        return unit_scores(self.importance.scores(), axes, divided=divided)

    def _drawn(self) -> dict[str, Float[Tensor, " _"]]:
        counts = {name: int(mask.sum()) for name, mask in self.widths.kept.items()}
        return {name: torch.rand(count, generator=self.generator) for name, count in counts.items()}

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs, step: int) -> dict[str, Float[Tensor, ""]]:
        """L_MLM, L_pred, L_hidn, L_emb and L_attn; sums over layers are divided by their number.

        Source: docs/methods/homodistil.md §2.
        Differs from the authors' code: no code is public.
        """
        settings, mask = self.settings, batch.attention_mask
        kind, softmax = self.stage.kind, settings.attention == "post-softmax"
        projected = lambda own, theirs, name: projected_loss(own, theirs, self.projections[name], mask)  # noqa: E731
        terms: dict[str, Callable[[], Tensor]] = {
            "mlm": lambda: task_loss(student.logits, batch.labels, kind),
            "prediction": lambda: soft_label_loss(student.logits, teacher.logits, temperature=settings.temperature, kind=kind),
            "hidden": lambda: _mean(
                projected(own, theirs, f"layer.{layer}.weight")
                for layer, (own, theirs) in enumerate(zip(student.hidden_states, teacher.hidden_states, strict=True))
            ),
            "embedding": lambda: projected(student.embedding, teacher.embedding, EMBEDDING),
            "attention": lambda: _mean(
                relation_loss(own, theirs, mask, softmax=softmax)
                for own, theirs in zip(student.attention, teacher.attention, strict=True)
            ),
        }
        return {name: terms[name]() for name in self.loss_weights}

    def after_backward(self, step: int) -> None:
        """Gather scores while they are needed; before a one-shot cut nothing is updated."""
        if self.importance is None:
            return
        self.importance.gather()
        if self.settings.removal == "one-shot":
            for parameter in self.widths.parameters.values():
                parameter.grad = None

    def after_step(self, step: int) -> dict[str, float | Float[Tensor, ""]]:
        """The widths, units averaged over layers."""
        now = self.widths.now
        units = sum(now.units) / len(now.units)
        return {"width/hidden": float(now.hidden), "width/head": float(now.head_dim), "width/ffn": units}

    def at_target(self, steps: int) -> bool:
        """Whether the last cut has been made."""
        return self.importance is None or steps > self.last

    def end(self) -> Masks:
        """What is kept of the model that the path began with."""
        return within(self.before, self.widths.kept)

    @property
    def sparsity(self) -> float:
        """Fraction of the encoder's weights removed so far."""
        return 1.0 - self.widths.now.matrices / self.dense

    def structure(self) -> dict[str, Any]:
        """What is kept: all heads, with so many dimensions of queries and of values in all; units; hidden dimensions."""
        masks, heads = self.end(), self.widths.start.heads
        count = lambda name: {"kept": int(masks[name].sum()), "total": masks[name].numel()}  # noqa: E731
        groups = {"ffn": units_of, "queries": queries_of, "values": values_of}
        layers = [
            {"heads": {"kept": heads, "total": heads}} | {kind: count(name(layer)) for kind, name in groups.items()}
            for layer in range(len(self.widths.start.units))
        ]
        return {"sparsity": self.sparsity, "layers": layers, "hidden": count(HIDDEN)}

    def shrink(self, student: PreTrainedModel) -> PreTrainedModel:
        """The student as a model of its own, with the same logits: a stock one where all layers are alike."""
        return exported(student, self.widths.now) if self.stage.removes else student

    def state_dict(self) -> dict[str, Tensor]:
        """What is kept of the stage's start, projections and running scores."""
        parts = {"kept": self.widths.kept, "projection": {name: p.detach() for name, p in self.projections.items()}}
        if self.importance is not None:
            parts["importance"] = self.importance.state_dict()
        return super().state_dict() | {f"{part}/{name}": v.clone() for part, each in parts.items() for name, v in each.items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Rebuild the widths, which the student's weights then fit, and take up the rest."""
        super().load_state_dict(state)
        part = lambda name: {k.removeprefix(f"{name}/"): v for k, v in state.items() if k.startswith(f"{name}/")}  # noqa: E731
        self.widths.reset_to(part("kept"), self.optimizer)
        for name, value in part("projection").items():
            self.projections[name].copy_(value)
        if scores := part("importance"):
            self.importance.load_state_dict(scores)
        else:
            self.importance = None


def _mean(terms: Iterable[Tensor]) -> Float[Tensor, ""]:
    return torch.stack(list(terms)).mean()


def _whole(masks: Masks, start: Sizes) -> Sizes:
    """The widths of the model that the masks, which have led to these widths, belong to."""
    units = tuple(masks[units_of(layer)].numel() for layer in range(len(start.units)))
    return Sizes(masks[HIDDEN].numel(), start.heads, masks[queries_of(0)].numel() // start.heads, units)
