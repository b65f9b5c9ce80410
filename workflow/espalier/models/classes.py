"""Model classes: the one for a configuration, the Auto class that opens it, and the stock form of a compact model."""

from __future__ import annotations

import torch
import transformers
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from espalier.models.modeling_espalier import family_of, shape_of, stock_config


@torch.no_grad()
def as_stock(model: PreTrainedModel) -> PreTrainedModel | None:
    """A compact model as an equal model of transformers' own class; None where its layers differ in shape."""
    config = stock_config(model.config)
    if config is None:
        return None

    # a stock model has no empty layers, so the remaining ones are renumbered: its layer i is layer remaining[i] here
    family = family_of(config)
    place = f"{model.base_model_prefix}.{family.layers}."
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
    return getattr(transformers, f"AutoModelFor{type(model).__name__.rpartition('For')[2]}")
