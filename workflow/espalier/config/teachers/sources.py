"""Where a teacher comes from that is not fine-tuned here."""

from __future__ import annotations

from typing import Any

from espalier.config.data import HubBase, LocalBase
from espalier.config.training import Teacher

OWN_BASE = "own"
"""Name of the base where the configuration names none: the teacher's checkpoint is the base, too."""
PLACES = {"local": ("path", "sha256"), "hub": ("id", "revision", "sha256")}
"""Source of a checkpoint → the keys that say where it is, which are those of a base."""
PER_BASE = ("source", "path", "id", "revision", "sha256", "classes")
"""Keys of the teacher block that can differ between bases."""


def source_of_teacher(teacher: Teacher) -> LocalBase | HubBase | None:
    """The checkpoint that is the teacher; None for one that is fine-tuned here."""
    if teacher.source == "local":
        return LocalBase(source="local", path=str(teacher.path), sha256=teacher.sha256)
    if teacher.source == "hub":
        return HubBase(source="hub", id=str(teacher.id), revision=str(teacher.revision), sha256=teacher.sha256)
    return None


def with_base(raw: dict[str, Any]) -> dict[str, Any]:
    """A configuration as read, with the teacher's checkpoint as the only base where it has no block `bases`."""
    teacher = raw.get("teacher")
    if "bases" in raw or not isinstance(teacher, dict) or teacher.get("source") not in PLACES:
        return raw
    keys = ("source", *PLACES[teacher["source"]])
    return {**raw, "bases": {OWN_BASE: {key: teacher[key] for key in keys if teacher.get(key) is not None}}}
