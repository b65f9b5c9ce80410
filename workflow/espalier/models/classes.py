"""Model classes: the one for a configuration, the Auto class that opens it, and the stock form of a compact model."""

from __future__ import annotations

import torch
import transformers
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from espalier.models.compact_config import stock_config
from espalier.models.modeling_espalier import family_of, shape_of


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
