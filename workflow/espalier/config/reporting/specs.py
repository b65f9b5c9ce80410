"""What the jobs read that describe results: model cards, and the table and report of a project."""

from __future__ import annotations

from pydantic import Field

from espalier.config.blocks import Block
from espalier.config.chains import Student, source_of, student_before, students_of
from espalier.config.kinds import Kind
from espalier.config.kinds.sides import sides_of
from espalier.config.methods import HISTORY_COLUMNS, SCORE_CURVES
from espalier.config.pictures import HistoryColumn, ScoreCurve
from espalier.config.project import Config
from espalier.config.targets import Target, stage_of
from espalier.config.training import Plan


class CardSpec(Block):
    """Describe a model to whoever takes it away."""

    project: str
    base: str
    licence: str | None
    """The base's licence."""
    task: str
    kind: Kind
    max_length: int
    pair: bool = False
    """Whether a row is a pair of texts."""
    stride: int | None = None
    """Kind span: tokens by which windows overlap."""
    max_answer_length: int | None = None
    """Kind span: longest answer, in tokens."""
    plan: str
    method: str
    seed: int
    target: Target | None
    """None for a teacher."""
    taught_by: str | None = None
    """Base of the teacher, where the model is made from another base."""
    start: str | None = None
    """Student of another plan that the path began with."""
    max_drop: float = 0.01
    """Largest loss of score with which a format passes."""
    languages: tuple[str, ...] = ()
    """Languages of the texts, where the task names them."""
    files: dict[str, str] = Field(default_factory=dict)
    """Split → the user's file; what other jobs read does not hold these paths, so files may move."""


class ReportSpec(Block):
    """Gather a project's results."""

    project: str
    methods: dict[str, str]
    """Plan → method."""
    starts: dict[str, str] = Field(default_factory=dict)
    """Student → student of another plan that its path began with, where there is one; both as task/plan/percent."""
    before: dict[str, str] = Field(default_factory=dict)
    """Student → student that its own stage started from, where there is one; both as task/plan/percent."""
    columns: dict[str, tuple[HistoryColumn, ...]] = Field(default_factory=dict)
    """Method → the columns that it logs, for the methods of this study."""
    score_curves: list[ScoreCurve] = Field(default_factory=list)
    """Pictures of scores that methods of this study declare."""
    max_drop: float = 0.01
    """Loss of score beyond which a format is marked as failed."""


def card_spec(config: Config, base: str, task: str, plan: str, seed: int, percent: str) -> CardSpec:
    """What `card` reads."""
    block, settings = config.tasks[task], config.plans.get(plan)  # a teacher has no plan
    made_from = config.ready_made.get(plan, base)
    return CardSpec(
        project=config.project,
        base=made_from,
        licence=config.bases[made_from].licence,
        taught_by=base if made_from != base else None,
        task=task,
        kind=block.kind,
        max_length=block.max_length,
        pair=len(sides_of(block.text, block.template)) == 2 and not block.rules.vectors,
        stride=block.stride,
        max_answer_length=block.max_answer_length,
        plan=plan,
        method=settings.method if settings else plan,
        seed=seed,
        target=stage_of(settings.path, percent)[0] if settings else None,
        start=str(source) if settings and (source := source_of(config, Student(task, plan, percent))) else None,
        max_drop=config.deploy.max_drop,
        languages=block.language,
        files={"train": str(block.train), **block.evaluation_sets} if block.source == "files" else {},
    )


def report_spec(config: Config) -> ReportSpec:
    """What `table` and `report` read."""
    students = students_of(config)
    starts = {str(student): source_of(config, student) for student in students}
    before = {str(student): student_before(config, student) for student in students}

    by_method: dict[str, dict[str, Plan]] = {}
    for name, plan in config.plans.items():
        by_method.setdefault(plan.method, {})[name] = plan

    return ReportSpec(
        project=config.project,
        methods={name: plan.method for name, plan in config.plans.items()},
        starts={student: str(source) for student, source in starts.items() if source is not None},
        before={student: str(earlier) for student, earlier in before.items() if earlier is not None},
        columns={method: HISTORY_COLUMNS[method] for method in by_method if method in HISTORY_COLUMNS},
        score_curves=[
            curve for method, plans in by_method.items() if method in SCORE_CURVES for curve in SCORE_CURVES[method](plans)
        ],
        max_drop=config.deploy.max_drop,
    )
