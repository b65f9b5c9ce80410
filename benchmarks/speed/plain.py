"""A BERT encoder written plainly: eager attention, every intermediate kept, gates multiplied into activations.

It computes with the modules of transformers' own model, so that weights are the same. References are built on it: it is what
public training code does, and no part of espalier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Gates = Mapping[str, Tensor]
"""Gates by the names of `espalier.pruning.parts`; parts without a gate are open."""


@dataclass
class States:
    """Everything that a forward pass has computed."""

    embedding: Tensor
    hidden: list[Tensor] = field(default_factory=list)
    """Output of each layer."""
    scores: list[Tensor] = field(default_factory=list)
    """Scaled scores of each layer before mask and softmax: batch, heads, length, length."""
    maps: list[Tensor] = field(default_factory=list)
    """Probabilities of each layer before dropout."""


def encode(encoder: nn.Module, inputs: Mapping[str, Tensor], gates: Gates, layers: Sequence[nn.Module] | None = None) -> States:
    """Run a BertModel without its pooler.

    Args:
        encoder: a BertModel.
        inputs: input_ids, attention_mask and perhaps token_type_ids.
        gates: multiplied into activations.
        layers: run in the place of the encoder's own.
    """
    states = _embed(encoder.embeddings, inputs, gates)
    kept = States(states)

    # 0 at real tokens, the lowest number at padding: added to the scores.
    mask = inputs["attention_mask"][:, None, None, :].to(states.dtype)
    mask = (1.0 - mask) * torch.finfo(states.dtype).min

    for index, layer in enumerate(encoder.encoder.layer if layers is None else layers):
        states = _attend(layer.attention, states, mask, gates, index, kept)
        states = _feed(layer, states, gates, index)
        kept.hidden.append(states)
    return kept


def _embed(tables: nn.Module, inputs: Mapping[str, Tensor], gates: Gates) -> Tensor:
    ids = inputs["input_ids"]
    types = inputs.get("token_type_ids", torch.zeros_like(ids))
    places = torch.arange(ids.shape[1], device=ids.device)
    states = tables.word_embeddings(ids) + tables.position_embeddings(places) + tables.token_type_embeddings(types)

    hidden = gates.get("hidden")
    states = _norm(tables.LayerNorm, states if hidden is None else states * hidden, hidden)
    return _drop(tables.dropout, states, tables)


def _attend(block: nn.Module, states: Tensor, mask: Tensor, gates: Gates, index: int, kept: States) -> Tensor:
    """Attention with its residual path; the input itself where the sublayer is closed."""
    own = block.self
    size = own.query.out_features // own.num_attention_heads
    query, key, value = (matrix(states).unflatten(-1, (-1, size)).transpose(1, 2) for matrix in (own.query, own.key, own.value))

    scores = query @ key.transpose(-1, -2) / size**0.5
    maps = (scores + mask).softmax(dim=-1)
    kept.scores.append(scores)
    kept.maps.append(maps)

    context = _drop(own.dropout, maps, block) @ value
    heads = gates.get(f"layer.{index}.heads")
    if heads is not None:
        context = context * heads[:, None, None]
    output = block.output.dense(context.transpose(1, 2).flatten(2))
    return _add(block.output, states, output, gates, ("attention", index), heads, block)


def _feed(layer: nn.Module, states: Tensor, gates: Gates, index: int) -> Tensor:
    """The FFN with its residual path."""
    middle = F.gelu(layer.intermediate.dense(states))
    units = gates.get(f"layer.{index}.ffn")
    if units is not None:
        middle = middle * units
    return _add(layer.output, states, layer.output.dense(middle), gates, ("ffn", index), units, layer)


def _add(
    end: nn.Module, states: Tensor, output: Tensor, gates: Gates, place: tuple[str, int], parts: Tensor | None, block: nn.Module
) -> Tensor:
    """Gates of the sublayer and of hidden dimensions, dropout, residual path, LayerNorm."""
    kind, index = place
    whole = None if kind not in gates else gates[kind][index]
    hidden = gates.get("hidden")

    # A closed sublayer is an identity, its LayerNorm included; public code asks the device for this in every sublayer.
    if (whole is not None and whole.item() == 0.0) or (parts is not None and parts.sum().item() == 0.0):
        return states

    if whole is not None:
        output = output * whole
    if hidden is not None:
        output = output * hidden
    return _norm(end.LayerNorm, _drop(end.dropout, output, block) + states, hidden)


def _norm(norm: nn.LayerNorm, states: Tensor, hidden: Tensor | None) -> Tensor:
    """LayerNorm over the hidden dimensions whose gate is open, times the gate."""
    if hidden is None:
        return norm(states)
    if bool((hidden != 0).all()):
        return norm(states) * hidden

    # The open dimensions are taken out, normalised, and put back.
    left = hidden.nonzero().flatten()
    normal = F.layer_norm(states[..., left], (len(left),), norm.weight[left], norm.bias[left], norm.eps)
    return states.index_copy(-1, left, normal) * hidden


def _drop(dropout: nn.Dropout, states: Tensor, block: nn.Module) -> Tensor:
    """Torch's own dropout, on where the block trains."""
    return F.dropout(states, dropout.p, block.training)


def classify(model: nn.Module, states: States) -> Tensor:
    """Logits of a BertForSequenceClassification."""
    pooled = model.bert.pooler(states.hidden[-1])
    return model.classifier(F.dropout(pooled, model.dropout.p, model.training))
