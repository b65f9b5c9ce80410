"""Configurations of compact models: that of another shape, and the stock one where a shape needs no class of ours.

Only who makes models needs this; `modeling_espalier` alone opens them.
"""

from __future__ import annotations

from transformers import PreTrainedConfig

from espalier.models.modeling_espalier import (
    ATTENTION,
    COMPACT_CONFIGS,
    FFN,
    HEAD_ROWS,
    MARK,
    OWN_KEYS,
    RANK,
    Shape,
    family_of,
    shape_of,
    whole_heads,
)


def compact_config(config: PreTrainedConfig, shape: Shape) -> PreTrainedConfig:
    """The configuration of a model of the same family with another shape.

    Raises:
        ValueError: a layer has lost some of its heads, in a family whose layers keep all or none.
    """
    family = family_of(config)
    if (whole := whole_heads(config)) and not {heads for heads, _ in shape.layers} <= {0, whole}:
        raise ValueError(f"layers of {family.stem} models share {family.head_table}, so each keeps its {whole} heads or none")

    layers = {}
    for index, (heads, ffn) in enumerate(shape.layers):
        # under the family's own name of the FFN width, because stock configurations refuse keys that they do not know
        sizes = {"num_attention_heads": heads, family.units: ffn}
        skip = [word for word, size in ((ATTENTION, heads), (FFN, ffn)) if not size]
        layers[index] = {name: size for name, size in sizes.items() if size} | ({"skip": skip} if skip else {})

    changes = {"hidden_size": shape.hidden, "head_dim": shape.head_dim, MARK: shape.pooled}
    if shape.rows:
        changes[HEAD_ROWS] = [rows and [rows.size, list(rows.queries), list(rows.values)] for rows in shape.rows]
    # layers say their own sizes; a stock class that overlooks them makes matrices of 0 units, into which no weight fits
    changes[family.units] = 0
    for key in ("embedding_size", "pooler_hidden_size"):
        if getattr(config, key, None) == config.hidden_size:
            changes[key] = shape.hidden

    old = _without(config, "per_layer_config", "model_type", "architectures", HEAD_ROWS)
    result = COMPACT_CONFIGS[family.stem].from_dict(old | changes)
    result.per_layer_config = layers
    return result


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

    result = family.config.from_dict(_without(config, *OWN_KEYS))
    result.num_hidden_layers = sum(layer != (0, 0) for layer in shape.layers)
    result.num_attention_heads = heads
    setattr(result, family.units, ffn)
    if hasattr(result, "head_dim"):
        result.head_dim = shape.head_dim  # such a configuration has worked it out from the number of heads before
    return result


def _without(config: PreTrainedConfig, *keys: str) -> dict:
    return {key: value for key, value in config.to_dict().items() if key not in keys}
