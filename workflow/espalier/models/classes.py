"""Model classes: the one for a configuration, the Auto class that opens it, and the stock form of a compact model."""

from __future__ import annotations

import torch
import transformers
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from espalier.models.modeling_espalier import MARK, PREFIX, RANK, family_of, shape_of

OWN_KEYS = ("per_layer_config", "head_dim", MARK, "auto_map", "architectures", "model_type")
"""Keys of a compact configuration that a stock one has not."""


@torch.no_grad()
def as_stock(model: PreTrainedModel) -> PreTrainedModel | None:
    """A compact model as an equal model of transformers' own class; None where its layers differ in shape."""
    config = stock_config(model.config)
    if config is None:
        return None

    # a stock model has no empty layers, so the remaining ones are renumbered: its layer i is layer remaining[i] here
    family = family_of(config)
    place = f"{encoder_prefix(model)}{family.layers}."
    remaining = [index for index, layer in enumerate(shape_of(model.config).layers) if layer != (0, 0)]

    state = model.state_dict()
    stock = model_class(config, auto_class(model))(config)
    for name, target in stock.state_dict().items():
        if name.startswith(place):
            index, _, rest = name.removeprefix(place).partition(".")
            name = f"{place}{remaining[int(index)]}.{rest}"
        target.copy_(state[name])

    return stock.to(model.device).train(model.training)


def is_compact(config: PreTrainedConfig) -> bool:
    """Whether a configuration gives every layer its own size."""
    return config.model_type.startswith(PREFIX)


def stock_config(config: PreTrainedConfig) -> PreTrainedConfig | None:
    """The stock configuration of a compact model whose remaining layers are whole and alike, or None."""
    family = family_of(config)
    shape = shape_of(config)

    # all layers that are not empty must have one shape; empty ones are dropped where layers may be renumbered
    kinds = {layer for layer in shape.layers if layer != (0, 0)}
    if len(kinds) != 1 or ((0, 0) in shape.layers and not family.movable) or shape.pooled != shape.hidden:
        return None

    # stock classes take the head size to be hidden / heads, and have one table of words and no way to leave a sublayer out
    heads, ffn = kinds.pop()
    if not ffn or heads * shape.head_dim != shape.hidden or shape.rows or getattr(config, RANK, None):
        return None

    result = family.config.from_dict({key: value for key, value in config.to_dict().items() if key not in OWN_KEYS})
    result.num_hidden_layers = sum(layer != (0, 0) for layer in shape.layers)
    result.num_attention_heads = heads
    setattr(result, family.units, ffn)
    if hasattr(result, "head_dim"):
        result.head_dim = shape.head_dim  # such a configuration has worked it out from the number of heads before
    return result


def model_class(config: PreTrainedConfig, auto: type = AutoModelForSequenceClassification) -> type[PreTrainedModel]:
    """The model of a stock or compact configuration that an Auto class would open."""
    return auto._model_mapping[type(config)]


def auto_class(model: PreTrainedModel) -> type:
    """The Auto class that opens such models."""
    # an encoder without a head is called …Model, and names such as RoFormerModel have a "For" in them
    head = "" if has_no_head(model) else f"For{type(model).__name__.rpartition('For')[2]}"
    return getattr(transformers, f"AutoModel{head}")


def has_no_head(model: PreTrainedModel) -> bool:
    """Whether a model is an encoder alone."""
    return model.base_model is model


def encoder_prefix(model: PreTrainedModel) -> str:
    """What the names of the encoder's parameters begin with in a model, which may be the encoder itself."""
    return "" if has_no_head(model) else f"{model.base_model_prefix}."
