"""Training histories of a path, its stages one after another on one axis of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import pyarrow.parquet as parquet

from espalier.config.data import TRAIN
from espalier.config.pictures import HistoryColumn
from espalier.results.places import Place, split_recoveries
from espalier.results.recovery import Recovery, recoveries

MOST_POINTS = 250
"""Largest number of points of a line; longer histories are thinned evenly."""
DISCREPANCY = "discrepancy"
COMPARED = {DISCREPANCY: "KL from the teacher (nats a masked token)", "loss": "held-out loss (nats a masked token)"}
"""Quantities by which plans of a text task are compared, with the title of their panel; logged with every evaluation."""
RATE = ("samples_per_second", "throughput in training (rows a second)")
"""One more such quantity, which every row of history has."""


class Line(NamedTuple):
    """One seed's values of one quantity in one stage, or in one recovery."""

    seed: int
    percent: str
    recovery: bool
    steps: list[float]
    values: list[float]
    quantity: str = ""
    """Which of a panel's quantities; empty where it shows one."""
    is_goal: bool = False
    """Whether the other lines of the panel should come here."""


class Panel(NamedTuple):
    """One quantity over the steps of a path, or several that belong together."""

    name: str
    kind: Literal["loss", "score", "group"]
    """A group has the columns that a method declares for one panel."""
    lines: list[Line]
    unit: str = ""
    """Unit of the values; empty where there is none."""
    logarithmic: bool = False
    """Whether the axis may be logarithmic, besides that of a loss."""

    @property
    def quantities(self) -> list[str]:
        """What its lines show, in order."""
        return list(dict.fromkeys(line.quantity for line in self.lines))


class Curves(NamedTuple):
    """Everything that was logged for one base, task and plan."""

    base: str
    task: str
    plan: str
    borders: list[tuple[str, float]]
    """Percent → step at which that stage ends, in path order."""
    panels: list[Panel]
    """Loss terms in the order in which they were logged, the score, and the panels that the plan's method declares."""
    compared: tuple[Panel, ...] = ()
    """What is compared among plans; nothing where no distance from a teacher was logged."""
    recoveries: tuple[tuple[int, str, tuple[Recovery, ...]], ...] = ()
    """Seed, percent, and how the score came back after each removal; nothing where removals were not evaluated."""
    overfitting: tuple[Panel, ...] = ()
    """Loss and score on training and on held-out rows; nothing where training rows were not scored."""
    turns: tuple[float, ...] = ()
    """Steps, as logged, inside a stage: its sparsity changes for the last time, or a column that its method declares as one
    that marks a turn."""
    removals: tuple[float, ...] = ()
    """Steps of the removals that were evaluated just before and just after."""

    @property
    def seeds(self) -> int:
        """Number of seeds drawn."""
        return len({line.seed for panel in self.panels for line in panel.lines})

    @property
    def last_step(self) -> float:
        """Where the axis ends: the last stage, or a recovery after it."""
        drawn = [line.steps[-1] for panel in self.panels for line in panel.lines]
        return max([1.0, *(step for _, step in self.borders), *drawn])


class _Run(NamedTuple):
    place: Place
    recovery: bool
    offset: float
    history: pd.DataFrame


def read_curves(
    histories: Sequence[Path],
    steps: Mapping[Place, int],
    scoring: Mapping[tuple[str, str], tuple[str, str]],
    columns: Mapping[str, Sequence[HistoryColumn]],
) -> list[Curves]:
    """The curves of every base, task and plan, in table order.

    A recovery begins where its stage ends and leaves the next stage's start alone, so it is a line of its own.

    Args:
        histories: history.parquet of every stage, teacher and recovery.
        steps: place → steps of that stage, from its record.
        scoring: (base, task) → set and metric that give the score.
        columns: plan → the columns that its method declares.
    """
    stages, recoveries = split_recoveries(histories)
    curves = []
    for base, task, plan in dict.fromkeys((place.base, place.task, place.plan) for place in stages):
        here = [place for place in stages if (place.base, place.task, place.plan) == (base, task, plan)]

        borders = _borders(here, steps)
        runs = _runs(here, borders, stages, recoveries)
        score = scoring.get((base, task))
        declared = columns.get(plan, ())
        curves.append(
            Curves(
                *(base, task, plan, borders, _panels(runs, score, declared)),
                compared=tuple(_compared_panels(runs, score)),
                recoveries=tuple(_recoveries_of(runs, score)),
                overfitting=tuple(_overfitting(runs, score)),
                turns=tuple(sorted(set(_turns(runs, declared)))),
                removals=tuple(sorted(set(_removals(runs, score)))),
            )
        )
    return curves


def _runs(
    places: Sequence[Place],
    borders: Sequence[tuple[str, float]],
    stages: Mapping[Place, Path],
    recoveries: Mapping[Place, Path],
) -> list[_Run]:
    """The stages of one plan, then their recoveries, each with the step at which it begins."""
    # A stage begins where the stage before it ends; a recovery begins where its own stage ends.
    end = dict(borders)
    begin = dict(zip(end, [0.0, *end.values()], strict=False))

    runs = [_Run(place, False, begin[place.percent], _read_history(stages[place])) for place in places]
    for place in places:
        if place in recoveries:
            runs.append(_Run(place, True, end[place.percent], _read_history(recoveries[place])))
    return runs


def _read_history(path: Path) -> pd.DataFrame:
    return parquet.read_table(path).to_pandas()


def _borders(places: Sequence[Place], steps: Mapping[Place, int]) -> list[tuple[str, float]]:
    borders, last = [], 0.0
    for percent in dict.fromkeys(place.percent for place in places):
        last += max(float(steps.get(place, 0)) for place in places if place.percent == percent)
        borders.append((percent, last))
    return borders


def _panels(runs: Sequence[_Run], score: tuple[str, str] | None, columns: Sequence[HistoryColumn]) -> list[Panel]:
    panels = [
        Panel(column.removeprefix("loss/"), "loss", _lines(runs, column)) for column in _columns_with_prefix(runs, "loss/")
    ]
    column = _score_column(runs, score)
    if column:
        panels.append(Panel(column.replace("/", " ", 1), "score", _lines(runs, column)))
    panels += _declared([run for run in runs if not run.recovery], columns)
    return [panel for panel in panels if panel.lines]


def _declared(stages: Sequence[_Run], columns: Sequence[HistoryColumn]) -> Iterator[Panel]:
    """The panels that a method declares, in the order in which it names them."""
    for title in dict.fromkeys(column.panel for column in columns if column.panel):
        shown = [column for column in columns if column.panel == title]
        lines = [line for column in shown for line in _lines(stages, column.name, column.label, is_goal=column.is_goal)]
        unit = next((column.unit for column in shown if column.unit), "")
        yield Panel(title, "group", lines, unit, any(column.logarithmic for column in shown))


def _compared_panels(runs: Sequence[_Run], score: tuple[str, str] | None) -> Iterator[Panel]:
    """The quantities of `COMPARED` on the set that gives the score, and the rate."""
    stages = [run for run in runs if not run.recovery]
    if score and _score_column(stages, (score[0], DISCREPANCY)):
        for name, said in COMPARED.items():
            yield Panel(said, "loss", _lines(stages, str(_score_column(stages, (score[0], name)))))
        column, said = RATE
        yield Panel(said, "group", _lines(stages, column))


def _recoveries_of(runs: Sequence[_Run], score: tuple[str, str] | None) -> Iterator[tuple[int, str, tuple[Recovery, ...]]]:
    """Seed, target and recoveries of every stage whose removals were evaluated."""
    column = _score_column(runs, score)
    for run in runs:
        rows: Any = run.history[["step", column]].dropna() if column in run.history and not run.recovery else []
        if not len(rows):
            continue

        removals = recoveries(rows["step"].tolist(), rows[column].tolist())
        if removals:
            yield run.place.seed, run.place.percent, tuple(removals)


def _removals(runs: Sequence[_Run], score: tuple[str, str] | None) -> Iterator[float]:
    """Steps that were evaluated more than once."""
    column = _score_column(runs, score)
    for run in (run for run in runs if not run.recovery and column in run.history):
        steps = run.history[["step", column]].dropna()["step"]
        yield from (run.offset + float(step) for step in steps[steps.duplicated()])


def _overfitting(runs: Sequence[_Run], score: tuple[str, str] | None) -> Iterator[Panel]:
    """Loss and score, each on training rows and on the rows that give the score."""
    stages = [run for run in runs if not run.recovery]
    if score and any(f"{TRAIN}/{score[1]}" in run.history for run in stages):
        for name in ("loss", score[1]):
            yield Panel(name, "loss", [line for part in (TRAIN, score[0]) for line in _lines(stages, f"{part}/{name}", part)])


def _turns(runs: Sequence[_Run], columns: Sequence[HistoryColumn]) -> Iterator[float]:
    """Where a stage's sparsity has its last value, and where columns have that mark a turn: inside the stage."""
    turning = {"sparsity", *(column.name for column in columns if column.turn)}
    for run in (run for run in runs if not run.recovery):
        for column in sorted(turning & set(run.history)):
            rows: Any = run.history[["step", column]].dropna()
            steps, values = rows["step"].to_numpy(), rows[column].to_numpy()
            moving = [row for row, value in enumerate(values) if value != values[-1]]
            if moving and steps[moving[-1] + 1] < steps[-1]:
                yield run.offset + float(steps[moving[-1] + 1])


def _columns_with_prefix(runs: Sequence[_Run], prefix: str) -> list[str]:
    """The logged columns that begin like this, in the order in which they were first logged."""
    return list(dict.fromkeys(str(column) for run in runs for column in run.history if str(column).startswith(prefix)))


def _score_column(runs: Sequence[_Run], score: tuple[str, str] | None) -> str | None:
    """The metric on the set that gives the score; where that was not watched, on another set."""
    if not score:
        return None
    chosen, metric = score
    there = [str(column) for run in runs for column in run.history if str(column).endswith(f"/{metric}")]
    return f"{chosen}/{metric}" if f"{chosen}/{metric}" in there else next(iter(there), None)


def _lines(runs: Sequence[_Run], column: str, quantity: str = "", is_goal: bool = False) -> list[Line]:
    lines = []
    for run in runs:
        rows: Any = run.history[["step", column]].dropna() if column in run.history else []
        if len(rows):
            # Every n-th row, and always the last one: the value with which a stage ends.
            every = -(-len(rows) // MOST_POINTS)
            kept = [*range(0, len(rows) - 1, every), len(rows) - 1]
            rows = rows.iloc[kept]
            steps = [float(step) + run.offset for step in rows["step"]]
            values = [float(value) for value in rows[column]]
            lines.append(Line(run.place.seed, run.place.percent, run.recovery, steps, values, quantity, is_goal))
    return lines
