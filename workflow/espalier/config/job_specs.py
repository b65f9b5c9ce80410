"""What one job reads: its resolved part of the configuration, passed as JSON in `params.spec`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from espalier.config.blocks import Block
from espalier.config.chains import Student, epochs_to, source_of, student_before, students_of, target_of
from espalier.config.data import Base, Task
from espalier.config.kinds import Kind, Metric, ReportedMetric
from espalier.config.methods import HISTORY_COLUMNS, SCORE_CURVES, AnyPlan
from espalier.config.pictures import HistoryColumn, ScoreCurve
from espalier.config.project import Analysis, Config, Device, Measure, Precision, Progress
from espalier.config.targets import Target, stage_of
from espalier.config.training import Plan, Pretrain, Teacher


class FetchSpec(Block):
    """Get a base."""

    base: Base


class PrepareSpec(Block):
    """Read and check a task's rows."""

    name: str
    task: Task


class TokeniseSpec(Block):
    """Turn rows into token ids."""

    kind: Kind
    max_length: int
    stride: int | None
    """Kind span: tokens by which windows overlap."""
    max_answer_length: int | None
    """Kind span: longest answer, in tokens."""


class PackSpec(Block):
    """Turn a corpus into rows of one length."""

    max_length: int
    rows: int | None
    """Training rows to write; all where nothing is said."""
    evaluation_rows: int | None
    """Rows to write of each evaluation set; all where nothing is said."""


class Machine(Block):
    """How to compute."""

    device: Device
    precision: Precision


class TaskGoal(Block):
    """What training and selection need to know of a task."""

    kind: Kind
    metric: Metric | ReportedMetric


class TrainingSpec(Block):
    """What every training stage reads."""

    seed: int
    goal: TaskGoal
    machine: Machine
    progress: Progress
    first_epoch: int = 0
    """Passes over the rows that were begun before on the same path."""


class FinetuneSpec(TrainingSpec):
    """Train a teacher."""

    settings: Teacher


class PretrainSpec(TrainingSpec):
    """Make the teacher of a text task."""

    settings: Pretrain


class CompressSpec(TrainingSpec):
    """Run one stage of a path, or recover its student."""

    plan: AnyPlan
    """The plan's settings, among them the method's name. Its path holds this stage's target alone."""
    new_head: bool
    """Whether the student's head is new: it comes from the base, or from a text task."""
    before: Target | None
    """Target that the student which the stage starts from has reached; None for the base and the teacher."""

    @property
    def target(self) -> Target:
        """What the stage aims at."""
        return self.plan.path[0]


class LatencySpec(Block):
    """Time a base's sublayers."""

    device: Device
    batch_size: int
    length: int


class ExportSpec(Block):
    """Write a model that others can open."""

    kind: Kind


class EvaluateSpec(Block):
    """Score a model on every evaluation set."""

    kind: Kind
    metrics: tuple[Metric | ReportedMetric, ...]
    """The first one is the score."""
    machine: Machine


class AnalyseSpec(Block):
    """Analyse a student."""

    kind: Kind
    metric: Metric
    machine: Machine
    analyses: tuple[Analysis, ...]


class MeasureSpec(Block):
    """Count and time a model."""

    kind: Kind
    machine: Machine
    measure: Measure


class CardSpec(Block):
    """Describe a model to whoever takes it away."""

    project: str
    base: str
    licence: str | None
    """The base's licence."""
    task: str
    kind: Kind
    max_length: int
    plan: str
    method: str
    seed: int
    target: Target | None
    """None for a teacher."""
    start: str | None = None
    """Student of another plan that the path began with."""


class ReportSpec(Block):
    """Gather a project's results."""

    project: str
    methods: dict[str, str]
    """Plan → method."""
    starts: dict[str, str] = Field(default_factory=dict)
    """Student → student of another plan that its path began with, where there is one; both as task/plan/percent."""
    columns: dict[str, tuple[HistoryColumn, ...]] = Field(default_factory=dict)
    """Method → the columns that it logs, for the methods of this study."""
    score_curves: list[ScoreCurve] = Field(default_factory=list)
    """Pictures of scores that methods of this study declare."""


def _goal(task: Task) -> TaskGoal:
    return TaskGoal(kind=task.kind, metric=task.metrics[0])


def _machine(config: Config) -> Machine:
    return Machine(device=config.device, precision=config.precision)


def _training(config: Config, task: str, seed: int) -> dict[str, Any]:
    """What every training stage reads."""
    return {"seed": seed, "goal": _goal(config.tasks[task]), "machine": _machine(config), "progress": config.progress}


def fetch_spec(config: Config, base: str) -> FetchSpec:
    """What `fetch` reads; the licence is the card's business."""
    return FetchSpec(base=config.bases[base].model_copy(update={"licence": None}))


def prepare_spec(config: Config, task: str) -> PrepareSpec:
    """What `prepare` reads; how many packed rows of a corpus are used is the business of `pack`."""
    block, whole = config.tasks[task], {"rows": None, "evaluation_rows": None}
    return PrepareSpec(name=task, task=block if block.rules.labelled else block.model_copy(update=whole))


def tokenise_spec(config: Config, task: str) -> TokeniseSpec:
    """What `tokenise` reads."""
    block = config.tasks[task]
    return TokeniseSpec(
        kind=block.kind, max_length=block.max_length, stride=block.stride, max_answer_length=block.max_answer_length
    )


def pack_spec(config: Config, task: str) -> PackSpec:
    """What `pack` reads."""
    block = config.tasks[task]
    return PackSpec(max_length=block.max_length, rows=block.rows, evaluation_rows=block.evaluation_rows)


def pretrain_spec(config: Config, task: str, seed: int) -> PretrainSpec:
    """What `pretrain` reads."""
    return PretrainSpec(**_training(config, task, seed), settings=config.pretrain_for(task))


def finetune_spec(config: Config, task: str, seed: int) -> FinetuneSpec:
    """What `finetune` reads."""
    return FinetuneSpec(**_training(config, task, seed), settings=config.teacher_for(task))


def compress_spec(config: Config, task: str, plan: str, seed: int, percent: str) -> CompressSpec:
    """What `compress` and `specialise` read. How the student is recovered afterwards is not their business."""
    return _student_spec(config, Student(task, plan, percent), seed, unread={"chain", "per_task", "recover"})


def recover_spec(config: Config, task: str, plan: str, seed: int, percent: str) -> CompressSpec:
    """What `recover` reads: the stage's spec, and how to recover."""
    return _student_spec(config, Student(task, plan, percent), seed, unread={"chain", "per_task"})


def _student_spec(config: Config, student: Student, seed: int, *, unread: set[str]) -> CompressSpec:
    """What a stage of a plan reads; settings in `unread` do not count for it."""
    settings = config.plan_for(student.plan, student.task)
    before = student_before(config, student)
    target, _ = stage_of(settings.path, student.percent)

    return CompressSpec(
        **_training(config, student.task, seed),
        plan=_for_one_stage(settings, target, unread),
        new_head=settings.start == "pretrained" if before is None else before.task != student.task,
        before=target_of(config, before) if before else None,
        first_epoch=epochs_to(config, student, included="recover" not in unread),
    )


def _for_one_stage(settings: Plan, target: Target, unread: set[str]) -> Any:
    """A plan with one target and with the defaults of what nobody reads, so that a change there re-runs nothing."""
    fields = type(settings).model_fields
    defaults = {name: fields[name].get_default(call_default_factory=True) for name in unread & fields.keys()}
    return settings.model_copy(update={**defaults, "path": (target,)})


def latency_spec(config: Config, batch: str, length: str) -> LatencySpec:
    """What `latency` reads."""
    return LatencySpec(device=config.device, batch_size=int(batch), length=int(length))


def export_spec(config: Config, task: str) -> ExportSpec:
    """What `export` reads."""
    return ExportSpec(kind=config.tasks[task].kind)


def evaluate_spec(config: Config, task: str) -> EvaluateSpec:
    """What `evaluate` reads."""
    block = config.tasks[task]
    return EvaluateSpec(kind=block.kind, metrics=block.metrics, machine=_machine(config))


def analyse_spec(config: Config, task: str, plan: str) -> AnalyseSpec:
    """What `analyse` reads."""
    block, analyses = config.tasks[task], config.analyses[plan]
    metric: Any = block.metrics[0]  # never a text task's: those are not analysed
    return AnalyseSpec(kind=block.kind, metric=metric, machine=_machine(config), analyses=analyses)


def measure_spec(config: Config, task: str) -> MeasureSpec:
    """What `measure` reads."""
    return MeasureSpec(kind=config.tasks[task].kind, machine=_machine(config), measure=config.measure)


def card_spec(config: Config, base: str, task: str, plan: str, seed: int, percent: str) -> CardSpec:
    """What `card` reads."""
    block, settings = config.tasks[task], config.plans.get(plan)  # a teacher has no plan
    return CardSpec(
        project=config.project,
        base=base,
        licence=config.bases[base].licence,
        task=task,
        kind=block.kind,
        max_length=block.max_length,
        plan=plan,
        method=settings.method if settings else plan,
        seed=seed,
        target=stage_of(settings.path, percent)[0] if settings else None,
        start=str(source) if settings and (source := source_of(config, Student(task, plan, percent))) else None,
    )


def report_spec(config: Config) -> ReportSpec:
    """What `table` and `report` read."""
    starts = {str(student): source_of(config, student) for student in students_of(config)}

    by_method: dict[str, dict[str, Plan]] = {}
    for name, plan in config.plans.items():
        by_method.setdefault(plan.method, {})[name] = plan

    return ReportSpec(
        project=config.project,
        methods={name: plan.method for name, plan in config.plans.items()},
        starts={student: str(source) for student, source in starts.items() if source is not None},
        columns={method: HISTORY_COLUMNS[method] for method in by_method if method in HISTORY_COLUMNS},
        score_curves=[
            curve for method, plans in by_method.items() if method in SCORE_CURVES for curve in SCORE_CURVES[method](plans)
        ],
    )
