"""Students whose gates missed their target, so that the landing on the exact size removed or put back what training had not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier.results.places import Place, files_by_place, read_fields

SAVED = {"sparsity": "of the encoder's weights", "saved_latency": "of the latency"}
"""What a landing counts → its words."""


def missed_target(structure: Mapping[str, Any]) -> str | None:
    """How far a student's gates were from its target before landing; None where they were near enough or there were none.

    Args:
        structure: the content of structure.json.
    """
    landing = structure.get("landing")
    if landing is None or abs(landing["expected"] - landing["target"]) <= landing["tolerance"]:
        return None

    expected, decided, landed, target = (f"{100 * landing[key]:.1f} %" for key in ("expected", "decided", "landed", "target"))
    way = "closing more" if landing["landed"] > landing["decided"] else "opening some again"
    return (
        f"the gates missed the target: at the end of training they expected to remove {expected} {SAVED[landing['of']]} and "
        f"had decided on {decided}, where the target is {target}; {way} brought it to {landed} without any training. "
        "Train longer with gates (pruning_epochs) for a student that training has shaped"
    )


def read_missed(structures: Sequence[Path]) -> dict[Place, str]:
    """Student → how far its gates were from the target, for students whose gates missed it; in table order."""
    said = {
        place: missed_target(read_fields(path, ("target", "sparsity"))) for place, path in files_by_place(structures).items()
    }
    return {place: sentence for place, sentence in said.items() if sentence}
