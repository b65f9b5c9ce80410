"""What works with what: families × methods, methods × kinds, families × kinds, read from what a study is refused by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from espalier.config.families import ENCODERS, families_with, why_not
from espalier.config.kinds import KIND_RULES, KINDS
from espalier.config.methods import METHODS
from espalier.config.reference import PLANS
from espalier.config.training import Plan

LEAST_KEYS: dict[str, dict[str, Any]] = {"specialise": {"start": {"plan": "homodistil"}}, "ready-made": {"base": "small"}}
"""Method → keys that a plan must have, besides the path."""
_NO_HEADS = {"gates": ["units", "attention", "ffn", "hidden"]}
WIDER: dict[str, dict[str, Any]] = {
    "spd": {"attention_weight": 0.0},
    "cofi": _NO_HEADS,
    "l0": _NO_HEADS,
    "heads": {"parts_to_prune": ["units"]},
}
"""Method → settings with which it works on more families than as it is set by default."""


class Verdict(NamedTuple):
    """Whether two of a family, a method and a kind go together."""

    why_not: str | None = None
    """Reason; None where they do."""
    settings: Mapping[str, Any] | None = None
    """What the plan has to say for it; None where its defaults do."""


def plan_of(method: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A plan with what it must say, and these settings."""
    path = {"path": [0.5]} if PLANS[method].model_fields["path"].is_required() else {}
    return {"method": method, **path, **LEAST_KEYS.get(method, {}), **(settings or {})}


def checked_plan(method: str, settings: Mapping[str, Any] | None = None) -> Plan:
    """The settings class of such a plan."""
    return PLANS[method].model_validate(plan_of(method, settings))


def family_and_method(family: str, method: str) -> Verdict:
    """Whether a method works on a family, as it is set by default or otherwise."""
    families = checked_plan(method).families
    if family in families:
        return Verdict()
    if method in WIDER and family in checked_plan(method, WIDER[method]).families:
        return Verdict(settings=WIDER[method])
    return Verdict(why_not(family, families))


def method_and_kind(method: str, kind: str) -> Verdict:
    """Whether a method works on a kind of task."""
    return Verdict(PLANS[method].why_not_on(kind))


def family_and_kind(family: str, kind: str) -> Verdict:
    """Whether transformers has a model of a family with the head of a kind."""
    families = families_with(KIND_RULES[kind].auto_class)
    return Verdict(None if family in families else why_not(family, families))


def works(family: str, method: str, kind: str) -> bool:
    """Whether a method works on a family and a kind of task."""
    verdicts = (family_and_method(family, method), method_and_kind(method, kind), family_and_kind(family, kind))
    return all(verdict.why_not is None for verdict in verdicts)


def cells() -> list[tuple[str, str, str]]:
    """Every family, method and kind that go together."""
    return [
        (family, method, kind) for family in ENCODERS for method in METHODS for kind in KINDS if works(family, method, kind)
    ]
