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
Departures from PLATON's code, docs/methods/homodistil.md §7.1: scores read gradients before they are clipped, there after
(`score_gradients: clipped`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.config.methods.homodistil import HomodistilPlan
from espalier.data.batches import Batch
from espalier.kinds.base import soft_label_loss, task_loss
from espalier.losses.terms import masked_token_terms, projected_loss, relation_loss
from espalier.methods.base import Method
from espalier.models.attention import Embedding
from espalier.models.outputs import Outputs
from espalier.pruning.masks import Masks
from espalier.pruning.parts import HIDDEN, queries_of, units_of, values_of, within
from espalier.pruning.platon import Importance, unit_scores
from espalier.pruning.schedules import remaining
from espalier.pruning.widths import Sizes, Widths, between, choose, exported, final_sizes, writers
from espalier.runtime.errors import UserError

EMBEDDING = "embedding.weight"
"""Name of the embeddings' projection; those of layers are `layer.{i}.weight`."""


class Homodistil(Method):
    """Five loss terms, running scores, and cuts in place."""

    settings: HomodistilPlan
    masks_over = "widths"
    needs_teacher = True

    @property
    def needs_hidden_states(self) -> bool:  # type: ignore[override]  # here it depends on the settings
        """Whether the hidden term is on."""
        return self.settings.hidden_weight > 0

    @property
    def relations(self) -> Embedding | None:
        """Which embeddings are recorded, where the embedding or the attention term is on."""
        return self.settings.embedding if self.settings.embedding_weight + self.settings.attention_weight > 0 else None

    def begin(self, student: PreTrainedModel, masks: Masks | None) -> None:
        """Find the groups, make the projections, and say when which widths are due."""
        self.student = student
        start = Sizes.of(student.config)
        full = {name: torch.ones(size, dtype=torch.bool) for name, size in start.groups().items()}
        self.before = full if masks is None else masks

        self.projections = self._make_projections(student)
        self.widths = Widths(student, self.projections)
        self.dense = _whole(self.before, start).matrices
        self.first, self.last = self._first_and_last_cut()

        self.importance: Importance | None = None
        if not self.stage.removes:
            return

        self.final = final_sizes(start, self.dense * (1.0 - self.stage.target), self.settings.multiple)
        if self.settings.removal == "random-start":
            self._start_at_random()
        else:
            self.importance = self._make_importance()
        self._check_lengths()

    def _first_and_last_cut(self) -> tuple[int, int]:
        """t_i and t_f: steps of the first and of the last cut (docs/methods/homodistil.md §3.2)."""
        steps = self.stage.steps

        # At least one step comes before the first cut, for its scores, and one after the last cut.
        last = max(2, min(round(self.settings.prune_end * steps), steps - 1))
        first = min(max(1, round(self.settings.prune_start * steps)), last - 1)
        return (first, first) if self.settings.removal == "one-shot" else (first, last)

    def _check_lengths(self) -> None:
        """Refuse a stage that is too short to gather scores as its settings say."""
        steps, scores = self.stage.steps, self.importance
        if steps <= self.last:
            raise UserError(f"too short to narrow in: {steps} steps; needed: at least {self.last + 1}; raise epochs")

        # Running averages take a whole window of steps at once, so before it is full there is no score.
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

        projections = {}
        for name in names:
            # Rows of the identity: at step 0 the projected student is its teacher, and the term is 0.
            weight = torch.eye(len(kept))[kept.cpu()]
            if settings.projections == "random":
                weight = student.config.initializer_range * torch.randn(weight.shape, generator=self.generator)
            projections[name] = nn.Parameter(weight.to(student.device))
        return projections

    def _make_importance(self) -> Importance:
        """Running scores of all parameters that belong to a group."""
        settings = self.settings
        parameters = {name: self.widths.parameters[name] for name in self.widths.axes}
        betas = {"beta1": settings.beta1, "beta2": settings.beta2}
        return Importance(parameters, settings.importance, **betas, window=settings.window)

    def _start_at_random(self) -> None:
        """Draw every weight anew and cut to the final widths, before the first step (docs/methods/homodistil.md §6.1)."""
        # Transformers initialise from torch's global generator, which must go on as if nothing had been drawn.
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

        # Weight decay is for matrices alone, as in the loop's own groups.
        matrices = [parameter for parameter in trained if parameter.dim() > 1]
        vectors = [parameter for parameter in trained if parameter.dim() <= 1]
        decays = [(matrices, self.settings.weight_decay), (vectors, 0.0), (list(self.projections.values()), 0.0)]
        return [
            {"params": parameters, "weight_decay": decay, "eps": self.settings.adam_epsilon}
            for parameters, decay in decays
            if parameters
        ]

    def before_step(self, step: int) -> None:
        """Cut where widths are due."""
        due = self._widths_due(step)
        if due is None:
            return

        scores = self._unit_scores()
        if not all(bool(of_group.isfinite().all()) for of_group in scores.values()):
            raise UserError(f"training diverged before step {step + 1}: scores of units are not finite; lower learning_rate")

        # The student, the optimiser's moments and the running scores become narrower together.
        kept = choose(scores, due, across_layers=self.settings.allocation == "global")
        self.widths.cut(kept, self.optimizer, self.importance.stores.values())

        # After the last cut nobody reads the scores, which are three numbers a weight.
        if step == self.last:
            self.importance = None

    def _widths_due(self, step: int) -> Sizes | None:
        """The widths to cut to before this step; None where no cut is due."""
        if self.importance is None:
            return None
        if self.settings.removal == "one-shot":
            return self.final if step == self.last else None

        is_due = (step - self.first) % self.settings.decide_every == 0 or step == self.last
        if not (is_due and self.first < step <= self.last):
            return None

        # r(t) lies between the first widths and the last ones (docs/methods/homodistil.md §3.2).
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
        """A random number in [0, 1) for every unit that is left."""
        counts = {name: int(mask.sum()) for name, mask in self.widths.kept.items()}
        return {name: torch.rand(count, generator=self.generator) for name, count in counts.items()}

    def counts(self, batch: Batch) -> Mapping[str, int]:
        """L_MLM and L_pred are means over masked tokens, L_hidn and L_emb over real ones, L_attn over pairs of real ones."""
        # n real tokens of a row make n^2 pairs of queries and keys.
        lengths = batch.attention_mask.sum(dim=1)
        real = int(lengths.sum())
        return {**super().counts(batch), "hidden": real, "embedding": real, "attention": int(lengths.square().sum())}

    def loss_terms(self, batch: Batch, student: Outputs, teacher: Outputs, step: int) -> dict[str, Float[Tensor, ""]]:
        """L_MLM, L_pred, L_hidn, L_emb and L_attn; sums over layers are divided by their number.

        Source: docs/methods/homodistil.md §2.
        Differs from the authors' code: no code is public.
        """
        settings, kind, mask, on = self.settings, self.stage.kind, batch.attention_mask, self.loss_weights
        terms: dict[str, Tensor] = {}

        # What the student says of the masked tokens: against the text, and against the teacher's distribution.
        # Where both are on and nothing is softened, one softmax of the student's logits serves both.
        if {"mlm", "prediction"} <= on.keys() and settings.temperature == 1.0:
            terms["mlm"], terms["prediction"] = masked_token_terms(student.logits, teacher.logits, batch.labels)
        elif "mlm" in on:
            terms["mlm"] = task_loss(student.logits, batch.labels, kind)
        if "prediction" in on and "prediction" not in terms:
            terms["prediction"] = soft_label_loss(student.logits, teacher.logits, temperature=settings.temperature, kind=kind)

        # What it computes on the way: narrower states are projected to the teacher's width before they are compared.
        if "hidden" in on:
            layers = enumerate(zip(student.hidden_states, teacher.hidden_states, strict=True))
            terms["hidden"] = _mean(
                projected_loss(own, theirs, self.projections[f"layer.{layer}.weight"], mask) for layer, (own, theirs) in layers
            )
        if "embedding" in on:
            terms["embedding"] = projected_loss(student.embedding, teacher.embedding, self.projections[EMBEDDING], mask)

        # Attention has rows and columns of tokens, so it needs no projection.
        if "attention" in on:
            softmax = settings.attention == "post-softmax"
            maps = zip(student.attention, teacher.attention, strict=True)
            terms["attention"] = _mean(relation_loss(own, theirs, mask, softmax=softmax) for own, theirs in maps)

        return terms

    def after_backward(self, step: int) -> None:
        """Read gradients before they are clipped, unless settings ask otherwise.

        Source: docs/methods/homodistil.md §3.1.
        Differs from the authors' code: PLATON's reads them after clipping (`score_gradients: clipped`).
        """
        # |w dL/dw| of the loss itself; clipping would weigh steps by the norm of all gradients.
        if self.settings.score_gradients == "raw":
            self._gather()

    def after_clipping(self, step: int) -> None:
        """Read gradients after they are clipped, where settings ask for it."""
        if self.settings.score_gradients == "clipped":
            self._gather()

    def _gather(self) -> None:
        """Gather scores while they are needed; before a one-shot cut nothing is updated."""
        if self.importance is None:
            return
        self.importance.gather()

        # A parameter without gradient is one that the optimiser leaves alone.
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
        groups = {"ffn": units_of, "queries": queries_of, "values": values_of}

        # All heads stay and become narrower: queries keep as many dimensions as values, but not the same ones.
        layers = []
        for layer in range(len(self.widths.start.units)):
            counts = {kind: _count(masks[name_of(layer)]) for kind, name_of in groups.items()}
            layers.append({"heads": {"kept": heads, "total": heads}} | counts)

        return {"sparsity": self.sparsity, "layers": layers, "hidden": _count(masks[HIDDEN])}

    def shrink(self, student: PreTrainedModel) -> PreTrainedModel:
        """The student as a model of its own, with the same logits: a stock one where all layers are alike."""
        return exported(student, self.widths.now) if self.stage.removes else student

    def state_dict(self) -> dict[str, Tensor]:
        """What is kept of the stage's start, projections and running scores."""
        parts = {"kept": self.widths.kept, "projection": {name: p.detach() for name, p in self.projections.items()}}
        if self.importance is not None:
            parts["importance"] = self.importance.state_dict()

        state = super().state_dict()
        for part, tensors in parts.items():
            state |= {f"{part}/{name}": tensor.clone() for name, tensor in tensors.items()}
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Rebuild the widths, which the student's weights then fit, and take up the rest."""
        super().load_state_dict(state)

        # Shapes first: whatever is loaded afterwards has the widths of the saved student.
        self.widths.reset_to(_part(state, "kept"), self.optimizer)
        for name, value in _part(state, "projection").items():
            self.projections[name].copy_(value)

        # Without scores the last cut was made before the state was saved.
        if scores := _part(state, "importance"):
            self.importance.load_state_dict(scores)
        else:
            self.importance = None


def _mean(terms: Iterable[Tensor]) -> Float[Tensor, ""]:
    return torch.stack(list(terms)).mean()


def _count(mask: Bool[Tensor, " units"]) -> dict[str, int]:
    """How many units a mask keeps, and of how many."""
    return {"kept": int(mask.sum()), "total": mask.numel()}


def _part(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of a state that are saved under a part's name."""
    prefix = f"{part}/"
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _whole(masks: Masks, start: Sizes) -> Sizes:
    """The widths of the model that the masks, which have led to these widths, belong to."""
    units = tuple(masks[units_of(layer)].numel() for layer in range(len(start.units)))
    return Sizes(masks[HIDDEN].numel(), start.heads, masks[queries_of(0)].numel() // start.heads, units)
