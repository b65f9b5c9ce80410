"""What the job reads that makes rows of texts without labels."""

from __future__ import annotations

from espalier.config.blocks import Block
from espalier.config.job_specs import TokeniseSpec, tokenise_spec
from espalier.config.kinds.unlabelled import Unlabelled
from espalier.config.project import Config


class CollectSpec(Block):
    """Read texts without labels and turn them into token ids."""

    name: str
    """Name of the task."""
    rows: TokeniseSpec
    """How the task's rows become tokens."""
    text: tuple[str, ...]
    """The task's columns of text."""
    pair: bool
    """Whether two columns make a row together; otherwise each text of each column is a row."""
    unlabelled: Unlabelled


def collect_spec(config: Config, task: str) -> CollectSpec:
    """What `collect` reads; the share of these rows is the business of those who train on them."""
    block = config.tasks[task]
    default = Unlabelled.model_fields["share"].default
    return CollectSpec(
        name=task,
        rows=tokenise_spec(config, task),
        text=block.text,
        pair=len(block.text) == 2 and not block.rules.vectors,
        unlabelled=block.unlabelled.model_copy(update={"share": default}),
    )
