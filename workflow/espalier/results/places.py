"""Which base, task, seed, plan and target a result file belongs to, from its path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from espalier.config.project import TEACHER
from espalier.config.targets import PERCENT, position
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json

_PLACE = re.compile(rf"([^/]+)/([^/]+)/seed(\d+)/([^/]+)/({PERCENT})/(?:recovered/)?[^/]+$")


class Place(NamedTuple):
    """Where a student (or a teacher) stands in a project; read from the end of its path."""

    base: str
    task: str
    seed: int
    plan: str
    percent: str

    @property
    def target(self) -> float | None:
        """Target sparsity, in [0, 1); None where the path aims at something else."""
        return round(float(self.percent) / 100, 6) if self.percent[-1].isdigit() else None

    @property
    def position(self) -> float:
        """Place in the path: the larger, the smaller the model."""
        return position(self.percent)

    @property
    def order(self) -> tuple[str, str, bool, str, float, int]:
        """Sorts by base, task, plan (the teacher first), place in the path and seed."""
        return self.base, self.task, self.plan != TEACHER, self.plan, self.position, self.seed

    def __str__(self) -> str:
        return f"{self.base}/{self.task}/seed{self.seed}/{self.plan}/{self.percent}"


def place_of(path: Path) -> Place:
    """The student a file belongs to.

    Raises:
        UserError: the path does not end like one of the pipeline.
    """
    match = _PLACE.search(path.as_posix())
    if not match:
        raise UserError(f"{path}: the path must end in base/task/seed<number>/plan/percent/[recovered/]file")
    base, task, seed, plan, percent = match.groups()
    return Place(base, task, int(seed), plan, percent)


def is_recovery(path: Path) -> bool:
    """Whether a file comes from the recovery of a student rather than from its compression."""
    return path.parent.name == "recovered"


def by_place(paths: Sequence[Path]) -> dict[Place, Path]:
    """Place → file, in table order.

    Raises:
        UserError: two files claim the same place.
    """
    found: dict[Place, Path] = {}
    for path in paths:
        place = place_of(path)
        if place in found:
            raise UserError(f"{place} has two files of one kind: {found[place]} and {path}")
        found[place] = path
    return dict(sorted(found.items(), key=lambda item: item[0].order))


def split_recoveries(paths: Sequence[Path]) -> tuple[dict[Place, Path], dict[Place, Path]]:
    """Files of the stages, and files of the recoveries."""
    return by_place([path for path in paths if not is_recovery(path)]), by_place([path for path in paths if is_recovery(path)])


def read_fields(path: Path, needed: Sequence[str]) -> dict[str, Any]:
    """A JSON object that has at least the `needed` keys.

    Raises:
        UserError: it lacks one.
    """
    content = read_json(path)
    if missing := [key for key in needed if key not in content]:
        raise UserError(f"{path}: no {', '.join(missing)}; it has {', '.join(content)}")
    return content
