"""Every method's settings, told apart by the key `method`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from espalier.config.homodistil import HomodistilPlan
from espalier.config.plans import DensePlan, DistilPlan, MagnitudePlan, MovementPlan, RandomPlan, SdpPlan
from espalier.config.spd import SpdPlan
from espalier.config.specialise import SpecialisePlan
from espalier.config.structured import CofiPlan, HeadsPlan, L0Plan, SmallDensePlan

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
