"""The other side: training steps written plainly, after what public trainers do. No code is copied.

All of them: fp32, eager attention with every hidden state kept, the teacher computed anew in every step, batches in random
order padded to their longest row, torch's own dropout, torch.optim.AdamW without its fused or grouped forms, a student of full
size to the end. `CofiReference` follows princeton-nlp/CoFiPruning: gates multiplied into activations, three optimisers. The
others compute the losses of docs/methods/ in the same plain style.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.speed.plain import States, classify, encode
from espalier.data.batches import Batch, TaskRows, TokenisedRows

RATE = 1e-5
CLIP = 1.0
LEAST = 0.01
"""Vectors are divided by their norm, or by this where that is smaller (SDP's correlations)."""


def adamw(parameters: Iterable[Any], rate: float, **settings: Any) -> torch.optim.AdamW:
    """One kernel after the other for each tensor."""
    return torch.optim.AdamW(parameters, lr=rate, foreach=False, fused=False, **settings)


def padded(rows: TokenisedRows, picked: np.ndarray, device: torch.device | str) -> dict[str, Tensor]:
    """Rows as tensors, filled up to the longest of them."""
    ids = [torch.from_numpy(rows.ids[rows.offsets[row] : rows.offsets[row + 1]].astype(np.int64)) for row in picked]
    filled = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=rows.pad)
    real = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    batch = {"input_ids": filled, "attention_mask": real, "token_type_ids": torch.zeros_like(filled)}
    return {name: tensor.to(device) for name, tensor in batch.items()} | {
        "labels": torch.tensor(rows.labels[picked]).to(device)
    }


class Reference:
    """A plain trainer of one method. Teacher and student are copied, so that two sides can start from the same weights."""

    clips: tuple[str, ...] = ()
    """Beginnings of the names of parameters that are not trained."""

    def __init__(self, student: nn.Module, teacher: nn.Module, rows: TaskRows, batch: int, device: str = "cpu") -> None:
        self.device = device
        self.student = copy.deepcopy(student).to(device).train()
        self.teacher = copy.deepcopy(teacher).to(device).eval().requires_grad_(False)
        self.rows = rows
        self.batch = batch
        for name, parameter in self.student.named_parameters():
            parameter.requires_grad_(not name.startswith(self.clips))
        self.order = self._order()
        self.prepare()
        self.optimizer = self.make_optimizer()

    def prepare(self) -> None:
        """What a method needs besides both models."""

    def trained(self) -> list[nn.Parameter]:
        """What the main optimiser trains; its gradients are clipped."""
        return [parameter for parameter in self.student.parameters() if parameter.requires_grad]

    def make_optimizer(self) -> torch.optim.AdamW:
        """The main optimiser."""
        return adamw(self.trained(), RATE, weight_decay=0.01)

    def _order(self) -> Iterator[np.ndarray]:
        """The batches of the table one after the other, for ever: it was cut in random order before."""
        while True:
            for start in range(0, len(self.rows) - self.batch + 1, self.batch):
                yield np.arange(start, start + self.batch)

    def data(self, picked: np.ndarray) -> dict[str, Tensor]:
        """One batch."""
        return padded(self.rows, picked, self.device)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The weighted loss of a batch."""
        raise NotImplementedError

    def before(self) -> None:
        """What is drawn before a step."""

    def after_backward(self) -> None:
        """What reads or changes gradients before they are clipped."""

    def after(self) -> None:
        """What follows the main optimiser."""

    def step(self, picked: np.ndarray | None = None) -> tuple[float, float]:
        """One optimiser step; the loss and the norm of its gradients."""
        self.before()
        loss = self.loss(self.data(next(self.order) if picked is None else picked))
        loss.backward()
        self.after_backward()
        norm = nn.utils.clip_grad_norm_(self.trained(), CLIP, foreach=False)
        self.optimizer.step()
        self.after()
        self.optimizer.zero_grad()
        return float(loss.detach()), float(norm)

    @torch.no_grad()
    def taught(self, batch: Mapping[str, Tensor]) -> tuple[States, Tensor]:
        """Everything that the teacher says of a batch."""
        states = encode(self.teacher.bert, batch, {})
        return states, classify(self.teacher, states)


class CofiReference(Reference):
    """The public CoFi trainer's step (docs/methods/cofi.md §2 and 3), layers matched in order."""

    clips = ("bert.embeddings.",)
    noise: Mapping[str, Tensor] | None = None
    """Noise of the gates, instead of drawing it."""
    gated = True
    goal, ramp_steps, done = 0.8, 1_000_000, 0
    temperature, prediction_weight, layer_weight, matched_layers = 2.0, 0.1, 0.9, 4

    def put_gates(self, values: Mapping[str, Tensor], multipliers: tuple[float, float] = (0.0, 0.0)) -> None:
        """Begin with these log alphas and multipliers."""
        self.log_alpha = {name: nn.Parameter(value.clone().to(self.device)) for name, value in values.items()}
        self.multipliers = nn.Parameter(torch.tensor(multipliers, device=self.device))
        self.gate_optimizer = adamw(self.log_alpha.values(), 1e-6, weight_decay=0.0)
        self.multiplier_optimizer = adamw([self.multipliers], 1e-6, weight_decay=0.0, maximize=True)

    def prepare(self) -> None:
        """The layer map, the identity at first."""
        hidden = self.student.config.hidden_size
        self.map = nn.Linear(hidden, hidden).to(self.device)
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(hidden))
            self.map.bias.zero_()

    def trained(self) -> list[nn.Parameter]:
        """The layer map trains with the weights."""
        return [*super().trained(), *self.map.parameters()]

    def make_optimizer(self) -> torch.optim.AdamW:
        """Without weight decay."""
        return adamw(self.trained(), RATE, weight_decay=0.0)

    def drawn(self) -> dict[str, Tensor]:
        """Hard-concrete samples."""
        gates = {}
        for name, alpha in self.log_alpha.items():
            uniform = torch.rand_like(alpha) if self.noise is None else self.noise[name]
            uniform = uniform.clamp(1e-6, 1 - 1e-6)
            concrete = torch.sigmoid((uniform.log() - (1 - uniform).log() + alpha) / (2 / 3))
            gates[name] = (concrete * 1.2 - 0.1).clamp(0, 1)
        return gates

    def expected(self) -> Tensor:
        """Expected sparsity of the encoder."""
        config = self.student.config
        chance = {
            name: torch.sigmoid(alpha - (2 / 3) * math.log(0.1 / 1.1)).clamp(1e-6, 1 - 1e-6)
            for name, alpha in self.log_alpha.items()
        }
        a_head = 4 * config.hidden_size // config.num_attention_heads
        size = torch.zeros((), device=self.device)
        for layer in range(config.num_hidden_layers):
            size = size + a_head * chance["attention"][layer] * chance[f"layer.{layer}.heads"].sum()
            size = size + 2 * chance["ffn"][layer] * chance[f"layer.{layer}.ffn"].sum()
        dense = config.num_hidden_layers * (a_head * config.num_attention_heads + 2 * config.intermediate_size)
        return 1 - chance["hidden"].sum() * size / (config.hidden_size * dense)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Prediction and layer terms, and the Lagrangian."""
        theirs, target = self.taught(batch)
        gates = self.drawn() if self.gated else {}
        own = encode(self.student.bert, batch, gates)
        logits = classify(self.student, own)

        soft = F.softmax(target / self.temperature, dim=-1)
        prediction = F.kl_div(F.log_softmax(logits / self.temperature, dim=-1), soft, reduction="batchmean")
        total = self.prediction_weight * prediction * self.temperature**2
        total = total + self.layer_weight * self._layer_loss(own.hidden, theirs.hidden, gates)
        if not self.gated:
            return total

        # The target rises linearly, then stays.
        deviation = self.expected() - self.goal * (1.0 if self.done >= self.ramp_steps else self.done / self.ramp_steps)
        return total + self.multipliers[0] * deviation + self.multipliers[1] * deviation**2

    def _layer_loss(self, own: list[Tensor], theirs: list[Tensor], gates: Mapping[str, Tensor]) -> Tensor:
        """Each chosen teacher layer against the nearest student layer below the one before; every pair is computed."""
        layers, count = len(theirs), self.matched_layers
        chosen = sorted({math.ceil(k * layers / count) - 1 for k in range(1, count + 1)})
        moved = [self.map(states) for states in own]
        errors = [[F.mse_loss(states, theirs[layer]) for states in moved] for layer in chosen]

        there = [layer for layer in range(layers) if self._is_there(layer, gates)]
        bound, total = layers, torch.zeros((), device=self.device)
        for row in reversed(errors):
            below = [layer for layer in there if layer < bound] or there[:1]
            if not below:
                break
            bound = min(below, key=lambda layer, row=row: row[layer].item())
            total = total + row[bound]
        return total

    @staticmethod
    def _is_there(layer: int, gates: Mapping[str, Tensor]) -> bool:
        """Whether one of the layer's sublayers is open."""
        parts = {"attention": "heads", "ffn": "ffn"}
        return not gates or any(
            gates[kind][layer].item() > 0 and gates[f"layer.{layer}.{part}"].sum().item() > 0 for kind, part in parts.items()
        )

    def after(self) -> None:
        """Gates and multipliers have optimisers of their own; log alpha is kept within its limits."""
        self.done += 1
        if not self.gated:
            return
        for optimizer in (self.gate_optimizer, self.multiplier_optimizer):
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            for alpha in self.log_alpha.values():
                alpha.clamp_(-math.log(100.0), math.log(100.0))


class MaskedReference(Reference):
    """What SDP and SPD share: half of every matrix removed by magnitude, gradients masked."""

    removed = 0.5

    @torch.no_grad()
    def prepare(self) -> None:
        """Find the masks and set removed weights to zero."""
        self.masks: list[tuple[nn.Parameter, Tensor]] = []
        for module in self.student.bert.encoder.modules():
            if isinstance(module, nn.Linear):
                weight = module.weight
                least = weight.abs().flatten().kthvalue(round(self.removed * weight.numel())).values
                self.masks.append((weight, (weight.abs() > least).to(weight.dtype)))
                weight.mul_(self.masks[-1][1])

    def after_backward(self) -> None:
        """Removed weights have no gradient."""
        for weight, mask in self.masks:
            if weight.grad is not None:
                weight.grad.mul_(mask)

    @torch.no_grad()
    def after(self) -> None:
        """Removed weights stay at zero."""
        for weight, mask in self.masks:
            weight.mul_(mask)


class SdpReference(MaskedReference):
    """Task loss and cross-correlation of first tokens (docs/methods/sdp.md §2.5)."""

    off_diagonal = 5e-3

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy, and correlations that are pushed to the identity."""
        theirs, _ = self.taught(batch)
        own = encode(self.student.bert, batch, {})
        task = F.cross_entropy(classify(self.student, own), batch["labels"])

        first, second = (self._units(states.hidden[-1][:, 0]) for states in (own, theirs))
        matrix = first.T @ second
        same = torch.eye(len(matrix), device=matrix.device)
        return task + (((matrix - same) ** 2) * (same + self.off_diagonal * (1 - same))).sum() / len(matrix)

    @staticmethod
    def _units(states: Tensor) -> Tensor:
        states = states - states.mean(dim=0)
        return states / (states.norm(dim=0).clamp_min(LEAST) + 1e-6)


class SpdReference(MaskedReference):
    """Grafted layers, and every layer's output and maps compared (docs/methods/spd.md §2.2)."""

    clips = ("bert.embeddings.", "bert.pooler.", "classifier.")
    probability = 0.8
    bits: Tensor | None = None
    """Which layers are the student's, instead of drawing them."""

    def make_optimizer(self) -> torch.optim.AdamW:
        """Without weight decay."""
        return adamw(self.trained(), RATE, weight_decay=0.0)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Outputs, maps and predictions."""
        theirs, target = self.taught(batch)
        pairs = list(zip(self.student.bert.encoder.layer, self.teacher.bert.encoder.layer, strict=True))
        bits = torch.rand(len(pairs)) < self.probability if self.bits is None else self.bits
        layers = [pair[0] if bit else pair[1] for pair, bit in zip(pairs, bits.tolist(), strict=True)]

        own = encode(self.student.bert, batch, {}, layers)
        logits = classify(self.student, own)
        hidden = sum(F.mse_loss(*pair) for pair in zip(own.hidden, theirs.hidden, strict=True))
        maps = sum(F.mse_loss(*pair) for pair in zip(own.maps, theirs.maps, strict=True))
        prediction = -(F.softmax(target, dim=-1) * F.log_softmax(logits, dim=-1)).mean()
        return hidden + maps + prediction

    def after_backward(self) -> None:
        """Layers that were not drawn have a gradient of 0, so that momentum moves them."""
        for parameter in self.trained():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        super().after_backward()


class HomodistilReference(Reference):
    """Five terms on masked text, and |w dL/dw| of every weight (docs/methods/homodistil.md §2 and 3.1).

    The head computes logits of every token, as transformers' BertForMaskedLM does it; `masked_only` computes those of masked
    tokens alone, which most public trainers do not.
    """

    masked_only = False
    embedding_weight = attention_weight = 0.1

    def prepare(self) -> None:
        """Projections, the identity at first, and sums of scores."""
        config = self.student.config
        names = [f"layer.{layer}" for layer in range(config.num_hidden_layers)] + ["embedding"]
        self.projections = {name: nn.Parameter(torch.eye(config.hidden_size, device=self.device)) for name in names}
        self.sums = [torch.zeros_like(parameter) for parameter in self.student.parameters()]

    def trained(self) -> list[nn.Parameter]:
        """Projections train with the weights."""
        return [*self.student.parameters(), *self.projections.values()]

    def make_optimizer(self) -> torch.optim.AdamW:
        """With the paper's epsilon."""
        return adamw(self.trained(), RATE, weight_decay=0.01, eps=1e-6)

    def data(self, picked: np.ndarray) -> dict[str, Tensor]:
        """Rows of one length, under the masks of the first epoch."""
        batch: Batch = self.rows.batch(picked, torch.device(self.device), 0)
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}

    def _logits(self, model: nn.Module, states: States, asked: Tensor) -> Tensor:
        """Logits at masked tokens."""
        last = states.hidden[-1]
        return model.cls(last[asked]) if self.masked_only else model.cls(last)[asked]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Words, the teacher's distribution, hidden states, embeddings, averaged scores."""
        asked = batch["labels"] != -100
        with torch.no_grad():
            theirs = encode(self.teacher.bert, batch, {})
            target = self._logits(self.teacher, theirs, asked)
        own = encode(self.student.bert, batch, {})
        logits = self._logits(self.student, own, asked)

        words = F.cross_entropy(logits, batch["labels"][asked])
        prediction = F.kl_div(F.log_softmax(logits, dim=-1), F.softmax(target, dim=-1), reduction="batchmean")

        real = batch["attention_mask"]
        pairs = real[:, :, None] * real[:, None, :]
        layers = range(len(own.hidden))
        hidden = sum(self._apart(own.hidden[i], theirs.hidden[i], f"layer.{i}", real) for i in layers) / len(layers)
        embedding = self._apart(own.embedding, theirs.embedding, "embedding", real)
        squares = [(own.scores[i].mean(dim=1) - theirs.scores[i].mean(dim=1)) ** 2 for i in layers]
        attention = sum((square * pairs).sum() / pairs.sum() for square in squares) / len(layers)
        return words + prediction + hidden + self.embedding_weight * embedding + self.attention_weight * attention

    def _apart(self, own: Tensor, theirs: Tensor, name: str, real: Tensor) -> Tensor:
        """Mean squared difference over real tokens, after the projection."""
        return (((own @ self.projections[name] - theirs) ** 2).mean(dim=-1) * real).sum() / real.sum()

    @torch.no_grad()
    def after_backward(self) -> None:
        """Gather scores."""
        for total, parameter in zip(self.sums, self.student.parameters(), strict=True):
            if parameter.grad is not None:
                total += (parameter * parameter.grad).abs()


REFERENCES: dict[str, type[Reference]] = {
    "sdp": SdpReference,
    "spd": SpdReference,
    "homodistil": HomodistilReference,
    "cofi": CofiReference,
}
