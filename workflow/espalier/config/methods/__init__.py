"""Every method's settings, told apart by the key `method`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from espalier.config.methods.dense import DensePlan
from espalier.config.methods.homodistil import HomodistilPlan
from espalier.config.methods.pruning import DistilPlan, MagnitudePlan, MovementPlan, RandomPlan
from espalier.config.methods.sdp import SdpPlan
from espalier.config.methods.spd import SpdPlan
from espalier.config.methods.specialise import SpecialisePlan
from espalier.config.methods.structured import CofiPlan, HeadsPlan, L0Plan, SmallDensePlan

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
    "heads": "espalier.methods.heads:Heads",
    "small-dense": "espalier.methods.small_dense:SmallDense",
    "homodistil": "espalier.methods.homodistil:Homodistil",
    "specialise": "espalier.methods.specialise:Specialise",
}

AnyPlan = Annotated[
    DensePlan
    | RandomPlan
    | MagnitudePlan
    | MovementPlan
    | DistilPlan
    | SdpPlan
    | SpdPlan
    | HeadsPlan
    | SmallDensePlan
    | L0Plan
    | CofiPlan
    | HomodistilPlan
    | SpecialisePlan,
    Field(discriminator="method"),
]
