"""What the jobs read that take in a teacher of one's own."""

from __future__ import annotations

from espalier.config.job_specs import FetchSpec, TrainingSpec, finetune_spec
from espalier.config.kinds import FINE_TUNED
from espalier.config.project import Config
from espalier.config.teachers.sources import source_of_teacher
from espalier.config.training import Matching


class AdmitSpec(TrainingSpec):
    """Check a fine-tuned checkpoint and score it: the teacher."""

    matching: Matching
    """How the classes of its head are matched with the task's."""


def fetch_teacher_spec(config: Config, base: str, task: str) -> FetchSpec:
    """What `fetch_teacher` reads.

    Raises:
        ValueError: the teacher is fine-tuned here.
    """
    source = source_of_teacher(config.teacher_on(base, task))
    if source is None:
        raise ValueError(f"the teacher of {base} on {task} is fine-tuned here")
    return FetchSpec(base=source)


def admit_spec(config: Config, base: str, task: str, seed: int) -> AdmitSpec:
    """What `admit` reads: what every training stage reads, and how classes are matched."""
    trained = finetune_spec(config, task, seed)
    own = {name: getattr(trained, name) for name in TrainingSpec.model_fields}
    return AdmitSpec(**own, matching=config.teacher_on(base, task).classes)


def own_teachers(config: Config) -> list[tuple[str, str]]:
    """Base and task of every teacher that is not fine-tuned here."""
    pairs = [(base, task) for base in config.compressed_bases for task in config.tasks_of(*FINE_TUNED)]
    return [(base, task) for base, task in pairs if source_of_teacher(config.teacher_on(base, task)) is not None]


def is_the_base(config: Config, base: str, task: str) -> bool:
    """Whether the teacher's checkpoint is the base itself, whose files are there already."""
    source = source_of_teacher(config.teacher_on(base, task))
    return source == config.bases[base].model_copy(update={"licence": None})
