"""What the jobs read that write, score and time models in their formats, and that gather the results."""

from __future__ import annotations

from espalier.config.blocks import Block
from espalier.config.deployment.embeddings import Factorise, KeptVocabulary
from espalier.config.deployment.formats import Format
from espalier.config.deployment.settings import Embeddings, WeightBits
from espalier.config.job_specs import TokeniseSpec, tokenise_spec
from espalier.config.kinds import Kind, Metric, ReportedMetric
from espalier.config.project import Config, Measure


class TrimSpec(Block):
    """Make a model's embeddings smaller."""

    kind: Kind
    max_length: int
    vocabulary: KeptVocabulary | None
    factorise: Factorise | None


class DeploySpec(Block):
    """Write, score and time a model in every format."""

    rows: TokeniseSpec
    """How the task's rows become tokens, and the kind of the task."""
    metrics: tuple[Metric | ReportedMetric, ...]
    """The first one is the score."""
    formats: tuple[Format, ...]
    embeddings: Embeddings
    weight_bits: WeightBits = 7
    measure: Measure


class GatherSpec(Block):
    """Gather every model in every format."""

    max_drop: float
    measure: Measure


def trim_spec(config: Config, task: str) -> TrimSpec:
    """What `trim` reads."""
    block, deploy = config.tasks[task], config.deploy
    return TrimSpec(kind=block.kind, max_length=block.max_length, vocabulary=deploy.vocabulary, factorise=deploy.factorise)


def deploy_spec(config: Config, task: str) -> DeploySpec:
    """What `deploy` reads; how much score a format may lose is the business of those who look at the results."""
    return DeploySpec(
        rows=tokenise_spec(config, task),
        metrics=config.tasks[task].metrics,
        formats=config.deploy.formats,
        embeddings=config.deploy.embeddings,
        weight_bits=config.deploy.weight_bits,
        measure=config.measure,
    )


def gather_spec(config: Config) -> GatherSpec:
    """What `gather` reads."""
    return GatherSpec(max_drop=config.deploy.max_drop, measure=config.measure)
