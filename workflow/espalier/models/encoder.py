"""Finding an encoder's layers, prunable weights and embeddings, and counting its weights."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from espalier.models.modeling_espalier import FAMILIES, find
from espalier.runtime.errors import UserError


def encoder_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and module of the stack of encoder layers.

    Raises:
        UserError: the model has no stack of `num_hidden_layers` layers.
    """
    layers = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return name, module
    raise UserError(f"model type {model.config.model_type!r}: found no stack of {layers} layers to prune")


def prunable_weights(model: nn.Module, embeddings: bool = False) -> dict[str, nn.Parameter]:
    """The encoder's matrices: attention and FFN projections of each layer, and the word embeddings where asked for.

    Source: docs/methods/sdp.md §3.2 and docs/methods/spd.md §3.4: 6 matrices a layer in the BERT layout; biases,
    LayerNorm, pooler and classifier are never pruned.
    """
    prefix, stack = encoder_layers(model)
    weights = {
        f"{prefix}.{name}.weight": module.weight for name, module in stack.named_modules() if isinstance(module, nn.Linear)
    }

    if embeddings:
        table = model.get_input_embeddings().weight
        weights |= {name: parameter for name, parameter in model.named_parameters() if parameter is table}
    return weights


def count_weights(model: nn.Module, embeddings: bool = False) -> int:
    """Number of weights that `prunable_weights` returns, zeros included."""
    return sum(weight.numel() for weight in prunable_weights(model, embeddings).values())


def embedding_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Parameters of the embedding tables, their projections to the residual stream, and the LayerNorms that read them.

    In a family that `models.modeling_espalier` does not know: all parameters of the module that holds the word table.
    """
    family = FAMILIES.get(model.config.model_type.removeprefix("compact-"))
    if family is None:
        words = model.get_input_embeddings()
        modules = [module for module in model.modules() if words in module.children()]
    else:
        paths = (*family.embeddings, *family.projections, *family.embedding_norms, family.head_table)
        modules = [module for path in filter(None, paths) if (module := find(model.base_model, path)) is not None]

    return [parameter for module in modules for parameter in module.parameters()]
