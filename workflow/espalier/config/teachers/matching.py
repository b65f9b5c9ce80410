"""Whether a fine-tuned checkpoint fits its task and base: classes by name, and the architecture. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from espalier.config.blocks import printable, short_yaml

GENERIC = re.compile(r"LABEL_\d+")
"""Names that transformers gives to classes that nobody has named."""
ARCHITECTURE_KEYS = (
    *("model_type", "vocab_size", "max_position_embeddings", "type_vocab_size", "position_embedding_type"),
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "embedding_size"),
    *("dim", "n_layers", "n_heads", "hidden_dim"),
    *("hidden_act", "hidden_activation", "activation", "layer_norm_eps", "norm_eps", "pad_token_id"),
)
"""Keys of config.json that decide which shapes an encoder's weights have, and what it computes with them."""


def class_order(own: Sequence[str], wanted: Sequence[str], *, by_position: bool) -> list[int]:
    """For each class of the task, the place that it has in the checkpoint's head.

    Names are equal where they differ in nothing but upper and lower case.

    Args:
        own: names of the checkpoint's classes, in the order of its outputs.
        wanted: names of the task's classes, in order.
        by_position: take the outputs as they come, whatever their names are.

    Raises:
        ValueError: the numbers of classes differ, or names do not say which class is which.
    """
    both = f"the checkpoint has {len(own)}: {_listed(own)}; the task has {len(wanted)}: {_listed(wanted)}"
    if len(own) != len(wanted):
        raise ValueError(f"the numbers of classes differ: {both}")

    places = {name.strip().casefold(): place for place, name in enumerate(own)}
    names = [name.strip().casefold() for name in wanted]
    named = len(places) == len(set(names)) == len(own) and places.keys() == set(names)
    if by_position:
        if named and list(places) != names:
            raise ValueError(f"classes: by-position would mix classes up that have the same names in another order: {both}")
        return list(range(len(own)))

    if named:
        return [places[name] for name in names]
    if all(GENERIC.fullmatch(name) for name in own):
        raise ValueError(
            f"names do not say which class is which: {both}; where the outputs stand for the task's classes in this order, "
            "write classes: by-position"
        )
    only = [name for name in own if name.strip().casefold() not in names]
    missing = [name for name in wanted if name.strip().casefold() not in places]
    differing = f"; only in the checkpoint: {_listed(only)}; only in the task: {_listed(missing)}" if only or missing else ""
    raise ValueError(f"the names of the classes differ: {both}{differing}")


def class_names_in(model: Mapping[str, Any]) -> list[str] | None:
    """Names of the classes in a checkpoint's config.json, in the order of its outputs; None where it names none."""
    named = model.get("id2label")
    if not isinstance(named, Mapping) or not all(str(place) in map(str, named) for place in range(len(named))):
        return None
    by_place = {str(place): str(name) for place, name in named.items()}
    return [by_place[str(place)] for place in range(len(by_place))]


def architecture_problem(own: Mapping[str, Any], base: Mapping[str, Any]) -> str | None:
    """How a checkpoint's architecture differs from its base's, by the contents of both config.json; None if it does not."""
    differing = [key for key in ARCHITECTURE_KEYS if key in own and key in base and own[key] != base[key]]
    if not differing:
        return None
    said = ", ".join(f"{key} {short_yaml(own[key])} against {short_yaml(base[key])}" for key in differing)
    return (
        f"the checkpoint is not of the base's architecture: {said}; students are made of the base, so name the encoder that "
        "was fine-tuned, or leave bases out to make the checkpoint itself the base"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name in names) or "none"
