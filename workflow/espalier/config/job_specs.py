"""What one job reads: its resolved part of the configuration, passed as JSON in `params.spec`."""

from __future__ import annotations

from typing import Any, Literal

from espalier.config.blocks import Block
from espalier.config.chains import Student, epochs_to, runs_on, share_of, student_before, target_of
from espalier.config.data import Base, Task
from espalier.config.kinds import Kind, Metric, ReportedMetric
from espalier.config.methods import AnyPlan
from espalier.config.project import Analysis, Config, Device, Measure, Precision, Progress
from espalier.config.targets import Target, stage_of
from espalier.config.teacher_outputs import NumberFormat, Reads
from espalier.config.training import FineTuning, Plan, Pretrain

SERVING = "espalier"
"""Section of an exported model's config.json that holds a `Serving`."""


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
    share: float | None = None
    """Part of an epoch's rows that has no labels; None where no such rows are read."""


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

    settings: FineTuning


class PretrainSpec(TrainingSpec):
    """Make the teacher of a text task."""

    settings: Pretrain


class TeachSpec(Block):
    """Compute a teacher's outputs for all training rows."""

    kind: Kind
    machine: Machine
    reads: Reads
    precision: NumberFormat | None
    """Number format of outputs of layers; None where none are read."""


class Storing(Block):
    """What decides whether the outputs of layers are stored. No result depends on it but by rounding."""

    store: Literal["auto", "always"]
    budget_gib: float
    passes: float
    """How often all jobs together read the outputs of layers for every row."""


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


class Serving(Block):
    """What whoever asks a model must know. It travels in config.json of the exported folder."""

    task: str
    kind: Kind
    text: tuple[str, ...]
    """Names of the text columns, as the task's files have them."""
    max_length: int
    """Tokens of a row; longer texts are cut, longer contexts are read in windows."""
    stride: int | None = None
    """Kind span: tokens by which windows overlap."""
    max_answer_length: int | None = None
    """Kind span: longest answer, in tokens."""
    template: tuple[str, ...] | None = None
    """How columns make the one or two texts of a row; None where they are joined as they stand."""
    thresholds: tuple[float, ...] | None = None
    """Kind multilabel: probability of each class from which on it counts as predicted."""
    no_answer_threshold: float | None = None
    """Kind span: null score above which a question has no answer; None where every question has one."""


class ExportSpec(Serving):
    """Write a model that others can open."""


class EvaluateSpec(Block):
    """Score a model on every evaluation set."""

    kind: Kind
    metrics: tuple[Metric | ReportedMetric, ...]
    """The first one is the score."""
    device: Device


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


class LinearSpec(Block):
    """Fit, score and time a linear model."""

    batch_sizes: tuple[int, ...]
    repeats: int


def _goal(task: Task, share: float | None) -> TaskGoal:
    return TaskGoal(kind=task.kind, metric=task.metrics[0], share=share)


def _machine(config: Config) -> Machine:
    return Machine(device=config.device, precision=config.precision)


def _training(config: Config, task: str, seed: int, share: float | None = None) -> dict[str, Any]:
    """What every training stage reads."""
    return {"seed": seed, "goal": _goal(config.tasks[task], share), "machine": _machine(config), "progress": config.progress}


def fetch_spec(config: Config, base: str) -> FetchSpec:
    """What `fetch` reads; the licence is the card's business."""
    return FetchSpec(base=config.bases[base].model_copy(update={"licence": None}))


def prepare_spec(config: Config, task: str) -> PrepareSpec:
    """What `prepare` reads; packed rows of a corpus are counted by `pack`, texts without labels are read by `collect`, and
    languages by `card`."""
    block, whole = config.tasks[task], {"rows": None, "evaluation_rows": None}
    own = {"unlabelled": None, "language": ()} | ({} if block.rules.labelled else whole)
    return PrepareSpec(name=task, task=block.model_copy(update=own))


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
    # a base that teaches by itself is not trained, so no setting counts
    settings = FineTuning() if config.tasks[task].rules.vectors else config.teacher_for(task)
    return FinetuneSpec(**_training(config, task, seed), settings=settings)


def readers(config: Config, task: str) -> dict[str, Reads]:
    """The plans that read the stored outputs of a task's teachers, and what they read.

    Text is masked anew in every epoch, so outputs for it are not stored; nor are vectors of all words.
    """
    rules = config.tasks[task].rules
    if config.teacher_outputs.store == "never" or not rules.labelled:
        return {}
    plans = {plan: config.plan_for(plan, task) for plan in config.plans if runs_on(config, plan, task)}
    # texts without labels are among the stored rows, and only plans that distil read them
    mixed = config.tasks[task].unlabelled is not None
    plans = {name: plan for name, plan in plans.items() if plan.distils or not mixed}
    read = {name: plan.reads for name, plan in plans.items()}
    return {name: reads for name, reads in read.items() if reads and (rules.one_vector or not reads.representation)}


def teach_spec(config: Config, task: str, part: str) -> TeachSpec:
    """What `teach` reads, but for what decides whether layers are stored."""
    reads = next(reads for reads in readers(config, task).values() if reads.name == part)
    precision = None if reads.layers is None else config.teacher_outputs.precision
    return TeachSpec(kind=config.tasks[task].kind, machine=_machine(config), reads=reads, precision=precision)


def storing(config: Config, task: str, part: str) -> Storing:
    """What decides whether `teach` stores outputs of layers."""
    passes = 0.0
    for name, reads in readers(config, task).items():
        if reads.name == part:
            plan = config.plan_for(name, task)
            firsts = [not (stage and plan.chain) for stage in range(len(plan.path))]
            passes += sum(sum(plan.parts(first_stage=first)) + plan.recover.epochs for first in firsts)

    settings = config.teacher_outputs
    store: Any = settings.store  # never "never": then there is no such job
    return Storing(store=store, budget_gib=settings.budget_gib, passes=passes)


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
        **_training(config, student.task, seed, share_of(config, student.task, student.plan)),
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
    block = config.tasks[task]
    return ExportSpec(
        task=task,
        kind=block.kind,
        # a vector is that of one text, whatever columns the task has
        text=block.text[:1] if block.rules.vectors else block.text,
        template=block.template,
        max_length=block.max_length,
        stride=block.stride,
        max_answer_length=block.max_answer_length,
    )


def evaluate_spec(config: Config, task: str) -> EvaluateSpec:
    """What `evaluate` reads."""
    block = config.tasks[task]
    return EvaluateSpec(kind=block.kind, metrics=block.metrics, device=config.device)


def analyse_spec(config: Config, task: str, plan: str) -> AnalyseSpec:
    """What `analyse` reads."""
    block, analyses = config.tasks[task], config.analyses[plan]
    metric: Any = block.metrics[0]  # never a text task's: those are not analysed
    return AnalyseSpec(kind=block.kind, metric=metric, machine=_machine(config), analyses=analyses)


def measure_spec(config: Config, task: str) -> MeasureSpec:
    """What `measure` reads."""
    return MeasureSpec(kind=config.tasks[task].kind, machine=_machine(config), measure=config.measure)


def linear_spec(config: Config) -> LinearSpec:
    """What `linear` reads."""
    return LinearSpec(batch_sizes=config.measure.batch_sizes, repeats=config.measure.repeats)
