"""The figures that have an aim, taken out of what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Found = Mapping[str, Any]
TASKS = {"rte": "RTE-like lengths", "cola": "CoLA-like lengths"}
PRECISIONS = {"fp32": "fp32 on both sides", "bf16": "ours in hardware bf16"}


@dataclass(frozen=True)
class Aim:
    """A figure beside its aim."""

    name: str
    what: str
    value: float | None
    """None where this machine cannot tell."""
    aim: float
    sense: Literal["at least", "at most"]

    @property
    def met(self) -> bool | None:
        """Whether the value is on the right side; None where there is none."""
        if self.value is None:
            return None
        return self.value >= self.aim if self.sense == "at least" else self.value <= self.aim

    def as_json(self) -> dict[str, Any]:
        """For the JSON file."""
        return asdict(self) | {"met": self.met}


def aims_of(found: Found) -> list[Aim]:
    """All aims of issue 22, in its order."""
    return [*_of_cofi(found), *_of_methods(found), *_of_steps(found), *_of_start(found["start"])]


def _of_cofi(found: Found) -> list[Aim]:
    """Whole stage and whole path against the reference, and the path against its own first stage."""
    aims = []
    wholes = {"whole_stage": ("a whole stage to 0.80", 3.5, 6.0), "whole_path": ("a whole path to 0.95", 5.0, 10.0)}
    for precision, said in PRECISIONS.items():
        for whole, (words, in_fp32, in_bf16) in wholes.items():
            for task, lengths in TASKS.items():
                study = found["cofi"][task].get(precision)
                aims.append(
                    Aim(
                        name=f"cofi_{whole}_{task}_{precision}",
                        what=f"CoFi, {words}, {lengths}, {said}: samples a second over the reference's",
                        value=study and study[whole]["ratio"],
                        aim=in_fp32 if precision == "fp32" else in_bf16,
                        sense="at least",
                    )
                )
    for task, lengths in TASKS.items():
        value = found["cofi"][task]["fp32"]["whole_path"]["of_first_stages"]
        what = f"CoFi, the path [0.6, 0.8, 0.95], {lengths}: time over stages × first stage"
        aims.append(Aim(f"cofi_path_of_first_stages_{task}", what, value, 0.5, "at most"))
    return aims


def _of_methods(found: Found) -> list[Aim]:
    """The other methods against their references, and HomoDistil against itself."""
    aims = []
    for name, numbers in found["methods"].items():
        method, _, task = name.partition("_")
        called = "HomoDistil" if method == "homodistil" else method.upper()
        what = f"{called}, {TASKS.get(task, '128 tokens a row')}, fp32: samples a second over the reference's"
        aims.append(Aim(f"{name}_fp32", what, numbers["ratio"], 2.5, "at least"))
    what = "HomoDistil at half the encoder: rows a second over those of its dense start"
    return [*aims, Aim("homodistil_half_size", what, found["homodistil_narrower"]["faster"], 1.4, "at least")]


def _of_steps(found: Found) -> list[Aim]:
    """Share of the machine's peak, and what is outside models and optimiser."""
    share = "Matrix products of a dense CoFi step: share of what the machine does at its peak in that time"
    outside = "Dense CoFi step: share of its time outside models and optimiser"
    return [
        Aim("matmul_share", share, found["matmul"]["share"], 0.6, "at least"),
        Aim("outside_models_and_optimiser", outside, found["split"]["cofi"]["outside_models_and_optimiser"], 0.08, "at most"),
    ]


def _of_start(start: Found) -> list[Aim]:
    """Start-up of a stage, and planning."""
    seconds = start["stage_that_trains_seconds"]
    aims = [Aim("stage_start_seconds", "Seconds until a stage that trains has started", seconds, 4.0, "at most")]
    for numbers, limit in zip(start["planning"], (5.0, 12.0), strict=True):
        what = f"snakemake -n of {numbers['jobs']:,} jobs: processor seconds"
        value = numbers["processor_seconds"]
        aims.append(Aim(f"planning_{round(numbers['jobs'], -3)}_processor_seconds", what, value, limit, "at most"))
    return aims
