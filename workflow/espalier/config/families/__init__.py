"""Which model families the methods work on, and what is said of a base of another family. No torch here.

The names are `model_type` in a base's config.json. `tests/unit/test_families.py` holds the tables against the code that
opens, prunes and exports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STRUCTURED = (
    *("bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta-v2", "distilbert", "modernbert"),
    *("mpnet", "nomic_bert", "gte"),
)
"""Families whose FFN units, hidden dimensions and sublayers can be removed: those of models/modeling_espalier.py."""
HEADED = tuple(family for family in STRUCTURED if family != "mpnet")
"""Families of which single heads can be removed, too."""
RECORDABLE = tuple(family for family in STRUCTURED if family not in ("deberta-v2", "mpnet"))
"""Families whose attention can be recorded, because transformers looks it up by name."""
NARROWED = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert")
"""Families whose widths can be narrowed: no rotation, no stacked matrices, no relative positions."""
ENCODERS = (
    *STRUCTURED,
    *("deberta", "ernie", "roformer", "rembert", "data2vec-text", "megatron-bert", "mobilebert", "convbert"),
    *("xlm-roberta-xl", "roberta-prelayernorm", "eurobert"),
)
"""Families that can be fine-tuned, whose single weights can be removed, and that can be exported."""
WITHOUT_HEAD = {"AutoModelForQuestionAnswering": ("nomic_bert", "gte", "eurobert")}
"""Auto class of transformers → families that it has no model of."""
ASKED_FOR = {
    "new": "the code of such a model comes with it, and none is ever run; transformers' own class of these encoders is gte",
    "albert": "all its layers are one, so no layer can differ from another",
}
"""Family that people ask for → why it is none of ENCODERS."""
BaseUses = Mapping[str, tuple[str, ...]]
"""What is to be done with a base, such as `method cofi` → the families with which it can be done."""

_NO_TABLE = "no table says where its heads and FFN units lie (models/modeling_espalier.py)"
_NOT_DESCRIBED = {
    "eurobert": "its norms are RMSNorms, over which no hidden dimension can be gated, and its heads may share keys and values",
}
"""Family outside STRUCTURED → why it has no table, where that is known."""
_RECORDED_BY_NAME = "transformers does not look its attention up by name, so no map can be recorded"
_ROTATED = "it rotates the dimensions of a head in pairs, so no single one can go"
_WHY_NOT: dict[tuple[str, ...], dict[str, str]] = {
    HEADED: {
        "mpnet": "all its layers share one table of position biases with a column for each head, so no layer can lose a head; "
        "plans that leave heads alone can: docs/families.md",
    },
    RECORDABLE: {"deberta-v2": _RECORDED_BY_NAME, "mpnet": _RECORDED_BY_NAME},
    NARROWED: {
        "deberta-v2": "its relative positions have matrices of their own, as wide as a head",
        "mpnet": "transformers does not look its attention up by name, so no scores can be compared",
        **dict.fromkeys(("modernbert", "nomic_bert", "gte"), _ROTATED),
    },
}
"""Families with which something can be done → other families → why not, where more is known than that no table has them."""


def why_not(family: str, families: tuple[str, ...]) -> str:
    """Why a family is not among those with which something can be done."""
    for auto_class, lacking in WITHOUT_HEAD.items():
        if family in lacking and families == families_with(auto_class):
            return f"transformers has no {auto_class} of it"
    return _WHY_NOT.get(families, {}).get(family) or _NOT_DESCRIBED.get(family, _NO_TABLE)


def families_with(auto_class: str) -> tuple[str, ...]:
    """Families of which an Auto class of transformers has a model."""
    return tuple(family for family in ENCODERS if family not in WITHOUT_HEAD.get(auto_class, ()))


def family_name(model: Mapping[str, Any]) -> str:
    """The family of a base or of a compact model, from the contents of config.json."""
    return str(model.get("model_type")).removeprefix("compact-")


def family_problems(place: str, model: Mapping[str, Any], needs: BaseUses) -> list[str]:
    """Why a base cannot be used for all that is to be done with it, one line for each reason.

    Args:
        place: the base, for the message.
        model: contents of config.json.
        needs: what is to be done.
    """
    family = family_name(model)
    if family not in ENCODERS:
        return [_not_supported(place, family, tuple(needs), ENCODERS)]
    if model.get("is_decoder") is True:
        said = "config.json says is_decoder, but every token of an encoder sees the tokens behind it"
        return [f"{place}: this {family} model is no encoder, so {_listed(tuple(needs))} cannot use it: {said}"]

    by_families: dict[tuple[str, ...], list[str]] = {}
    for what, families in needs.items():
        if family not in families:
            by_families.setdefault(families, []).append(what)
    problems = [_not_supported(place, family, tuple(names), families) for families, names in by_families.items()]
    return problems or [f"{place}: {problem}" for problem in _parts_in_the_way(model, needs)]


def _not_supported(place: str, family: str, names: tuple[str, ...], supported: tuple[str, ...]) -> str:
    said = f"{place}: {_listed(names)} cannot work on model type {family!r}; supported: {', '.join(supported)}"
    reason = why_not(family, supported) if family in ENCODERS else ASKED_FOR.get(family)
    return said + (f"; reason: {reason}" if reason else "")


def _parts_in_the_way(model: Mapping[str, Any], needs: BaseUses) -> Iterator[str]:
    """Parts that some models of a supported family have, and that some methods cannot prune around."""
    family = family_name(model)
    structured = tuple(what for what, families in needs.items() if families in (STRUCTURED, HEADED, NARROWED))
    narrowed = tuple(what for what, families in needs.items() if families == NARROWED)

    if structured and family == "deberta-v2" and model.get("conv_kernel_size"):
        yield f"{_listed(structured)} cannot work on a {family} model with conv_kernel_size; supported: without it"
    relative = family == "deberta-v2" and model.get("relative_attention")
    if structured and relative and "layer_norm" not in str(model.get("norm_rel_ebd")):
        yield f"{_listed(structured)} cannot work on a {family} model without layer_norm in norm_rel_ebd; supported: with"

    # without the key, embeddings are narrower than the encoder: that is the family's default
    if narrowed and family == "electra" and model.get("embedding_size", 128) != model.get("hidden_size", 256):
        said = "embedding_size equal to hidden_size"
        yield f"{_listed(narrowed)} cannot work on an {family} model that projects its embeddings; supported: {said}"


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def read_object(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None where there is no such file, or no object in it."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def own_code(path: Path) -> str | None:
    """The problem with a settings file that asks to run code of the base; None if it does not."""
    if "auto_map" not in (read_object(path) or {}):
        return None
    return f"{path}: 'auto_map' asks to run code that comes with the model; such a base is refused"
