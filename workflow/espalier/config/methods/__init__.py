"""The tables of methods: where the code of a method is, its settings, and what it declares for the report.

A new method is a file here, a file in espalier/methods, and a line in these tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from espalier.config.methods.dense import DensePlan
from espalier.config.methods.grain import GRAIN_COLUMNS, GrainPlan
from espalier.config.methods.homodistil import WIDTH_COLUMNS, HomodistilPlan
from espalier.config.methods.obs import ObsPlan
from espalier.config.methods.pruning import DistilPlan, MagnitudePlan, MovementPlan, RandomPlan
from espalier.config.methods.ready_made import ReadyMadePlan
from espalier.config.methods.sdp import SdpPlan
from espalier.config.methods.spd import GRAFTING_COLUMNS, SpdPlan, grafting_curves
from espalier.config.methods.specialise import SpecialisePlan
from espalier.config.methods.structured import GATE_COLUMNS, CofiPlan, HeadsPlan, L0Plan, SmallDensePlan
from espalier.config.methods.untrained import KprunePlan, KwonPlan
from espalier.config.pictures import HistoryColumn, ScoreCurve

METHODS = {
    "dense": "espalier.methods.dense:Dense",
    "random": "espalier.methods.random:Random",
    "magnitude": "espalier.methods.magnitude:Magnitude",
    "movement": "espalier.methods.movement:Movement",
    "distil": "espalier.methods.distil:Distil",
    "sdp": "espalier.methods.sdp:Sdp",
    "spd": "espalier.methods.spd:Spd",
    "l0": "espalier.methods.cofi:L0",
    "cofi": "espalier.methods.cofi:Cofi",
    "grain": "espalier.methods.grain:Grain",
    "obs": "espalier.methods.obs:Obs",
    "heads": "espalier.methods.heads:Heads",
    "kwon": "espalier.methods.kwon:Kwon",
    "kprune": "espalier.methods.kprune:Kprune",
    "small-dense": "espalier.methods.small_dense:SmallDense",
    "ready-made": "espalier.methods.ready_made:ReadyMade",
    "homodistil": "espalier.methods.homodistil:Homodistil",
    "specialise": "espalier.methods.specialise:Specialise",
}
"""Method → its class, as `module:Class`. A job imports the code of its own method alone."""

PAPERS = {
    "magnitude": "1506.02626",
    "movement": "2005.07683",
    "distil": "1503.02531",
    "sdp": "2109.15014",
    "spd": "2110.08190",
    "l0": "1712.01312",
    "cofi": "2204.00408",
    "grain": "2212.07634",
    "obs": "2302.04089",
    "heads": "1905.10650",
    "kwon": "2204.09656",
    "kprune": "2308.03449",
    "homodistil": "2302.09632",
    "specialise": "2302.09632",
}
"""Method → number on arXiv of the paper that it follows; the others follow none."""

HISTORY_COLUMNS: dict[str, tuple[HistoryColumn, ...]] = {
    "spd": GRAFTING_COLUMNS,
    "l0": GATE_COLUMNS,
    "cofi": GATE_COLUMNS,
    "grain": GRAIN_COLUMNS,
    "homodistil": WIDTH_COLUMNS,
}
"""Method → the columns that it logs besides losses."""

SCORE_CURVES: dict[str, Callable[[dict[str, Any]], list[ScoreCurve]]] = {"spd": grafting_curves}
"""Method → which pictures of scores its plans of a study make; the plans come by their names."""

AnyPlan = Annotated[
    DensePlan
    | RandomPlan
    | MagnitudePlan
    | MovementPlan
    | DistilPlan
    | SdpPlan
    | SpdPlan
    | HeadsPlan
    | KwonPlan
    | KprunePlan
    | SmallDensePlan
    | ReadyMadePlan
    | L0Plan
    | CofiPlan
    | GrainPlan
    | ObsPlan
    | HomodistilPlan
    | SpecialisePlan,
    Field(discriminator="method"),
]
"""A plan of any method, told apart by the key `method`."""
