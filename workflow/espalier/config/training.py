"""Settings of training runs: teachers, text teachers, and what the plans of all methods share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.blocks import Block, Commit, HubId, Many, Sha256, short_yaml
from espalier.config.families import ENCODERS, HEADED
from espalier.config.kinds import FINE_TUNED, KIND_RULES, Kind
from espalier.config.starts import Start
from espalier.config.targets import Target, TargetKind, check_path, target_key, target_kind
from espalier.config.teacher_outputs import Reads

Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Epochs = NonNegative
ClipScope = Literal["trainable", "all"]
"""Which gradients count in the norm that is clipped: those of parameters that are trained, or those of frozen ones too."""
Matching = Literal["by-name", "by-position"]
"""How the classes of a fine-tuned checkpoint are matched with a task's."""
Removal = Literal["nothing", "weights", "structure"]
"""What a method removes: single weights, which leaves zeros in matrices of the same shape, or whole parts."""


def _rows_or_auto(value: object) -> object:
    """A value that may have three types, with one message instead of three."""
    if value is None or value == "auto" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f"got {short_yaml(value)}; allowed: a whole number >= 1, auto, null")


class Training(Block):
    """Settings that every training run has."""

    learning_rate: Positive = 3.0e-5
    """Peak learning rate of AdamW. [inferred: SDP]"""
    schedule: Literal["linear", "constant"] = "linear"
    """How the learning rate goes on after warm-up: it falls linearly to 0, or stays constant. [common]"""
    warmup: Fraction = 0.1
    """Part of each learning-rate interval in which the rate rises from 0 to its peak. [fraction; common]"""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows in one optimiser step. [rows; inferred: SDP]"""
    micro_batch_size: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"] | None, BeforeValidator(_rows_or_auto)] = None
    """Rows in one forward pass, counted over all processes; fewer rows save memory and leave the gradient as it is. null means
    batch_size; auto starts at batch_size and halves it whenever memory runs out, which needs a single process. [rows; ours]"""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay of AdamW; biases and LayerNorms are not decayed. [inferred: SDP]"""
    clip_norm: Positive = 1.0
    """Gradients are scaled down to at most this norm, taken over all trainable parameters. [L2 norm; inferred: SDP]"""
    evaluate_every: Epochs = 1.0
    """Epochs between two evaluations; 0 evaluates at the end only. [epochs; ours]"""
    evaluate_train: bool = False
    """Also score training rows at each evaluation, as many as the evaluation set has, to show how much a run overfits. Only for
    tasks of kind classification and regression. [ours]"""
    checkpoint: Literal["last", "best"] = "last"
    """Weights to keep: the last step's, or the best evaluation's. A plan compares only evaluations at its target. [ours]"""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if isinstance(self.micro_batch_size, int) and self.micro_batch_size > self.batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} is larger than batch_size {self.batch_size}")
        return self

    @property
    def reads(self) -> Reads | None:
        """What is read of the teacher's outputs that can be stored; None where nothing is, or where the teacher must run."""
        return None


class FineTuning(Training):
    """Fine-tuning of a base on a task."""

    epochs: Positive = 3.0
    """Passes over the training rows. [epochs; inferred: SDP]"""
    per_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Other settings for single tasks, for example {rte: {epochs: 6.0}}. [task → keys of this block; ours]"""


class Teacher(FineTuning):
    """The teachers: bases that are fine-tuned here, or checkpoints that somebody has fine-tuned already."""

    source: Literal["finetune", "local", "hub"] = "finetune"
    """Where teachers come from: finetune trains them; local and hub take a fine-tuned checkpoint with its head, which is
    checked and scored and not trained. Its weights must be safetensors, its architecture and tokenizer the base's. Where it is
    the base itself, leave `bases` out. [ours]"""
    path: Annotated[str, Field(min_length=1)] | None = None
    """Source local: folder of the checkpoint, with config.json, model.safetensors and a tokenizer. Its contents count, not
    where it lies. [path; ours]"""
    id: HubId | None = None
    """Source hub: name of the checkpoint on the hub. [hub name; ours]"""
    revision: Commit | None = None
    """Source hub: commit of the checkpoint, so that the same configuration always reads the same files. [commit; ours]"""
    sha256: Sha256 | None = None
    """SHA-256 digest of the checkpoint's model.safetensors; if given, the run stops when the file has another. Digests of all
    files stand in source.json and in run.json of the teacher. [digest; ours]"""
    classes: Matching = "by-name"
    """How the classes of a checkpoint's head are matched with the task's: by-name puts the head's rows in the task's order, and
    refuses names that differ in more than upper and lower case; by-position takes the outputs as they come, for heads whose
    classes have no names, such as LABEL_0. [ours]"""
    per_base: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Another checkpoint for single bases: the keys source, path, id, revision, sha256 and classes. Inside per_task for a base
    on a task; a task that names a checkpoint itself takes none of these over. [base → keys of this block; ours]"""

    @model_validator(mode="after")
    def _of_one_source(self) -> Self:
        needed = {"finetune": (), "local": ("path",), "hub": ("id", "revision")}
        own = needed[self.source]
        if missing := [key for key in own if getattr(self, key) is None]:
            raise ValueError(f"source {self.source} needs {', '.join(missing)}")
        others = [key for key in ("path", "id", "revision") if key not in own and getattr(self, key) is not None]
        if others:
            raise ValueError(f"source {self.source} has no {', '.join(others)}; allowed: {', '.join(needed)} as source")
        if self.source == "finetune" and self.sha256 is not None:
            raise ValueError("source finetune has no sha256: what is trained here has no digest beforehand")
        return self


class Pretrain(Training):
    """Masked-language modelling with a base, which makes the teacher of a text task."""

    train: Literal["head", "all"] = "head"
    """What is trained: head trains only the prediction head and leaves the encoder and the word embeddings as they are; all
    trains everything, usually with a lower rate such as 1.0e-4. [ours]"""
    epochs: Epochs | None = None
    """Passes over the corpus. 0 copies the base unchanged. null means 0 for a base that brings a prediction head, and 1 for any
    other base. [epochs; ours]"""
    learning_rate: Positive = 5.0e-4
    """Peak learning rate of AdamW. [ours]"""
    per_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Other settings for single tasks, for example {docs-corpus: {epochs: 2.0}}. [task → keys of this block; ours]"""


class Recover(Block):
    """Training after a stage with nothing more removed. The exported model comes from it; the next stage does not start from
    it."""

    epochs: Epochs = 1.0
    """Passes over the training rows; 0 exports the stage's student as it is. [epochs; inferred: SDP, which has 3]"""
    learning_rate: Positive | None = None
    """Peak learning rate; null takes the plan's. [ours]"""
    schedule: Literal["linear", "constant"] | None = None
    """How the learning rate goes on after warm-up; null takes the plan's. [ours: constant in CoFi's paper]"""
    warmup: Fraction | None = None
    """Part of the recovery in which the rate rises from 0 to its peak; null takes the plan's. [fraction; ours]"""
    int8: bool = False
    """Let linear maps round as an int8 model does in the last epoch, so that weights learn to bear it: quantisation-aware
    training, for models that lose more than deploy.max_drop in int8. [ours: Jacob et al. 2018]"""

    @model_validator(mode="after")
    def _has_an_epoch_to_round(self) -> Self:
        if self.int8 and self.epochs < 1.0:
            raise ValueError(
                f"int8 rounds in the last of the recovery's epochs, so epochs must be at least 1; got {self.epochs}"
            )
        return self


class Plan(Training):
    """Settings that every method has."""

    if TYPE_CHECKING:
        method: str  # each plan's own literal, by which the classes are told apart
    target_kinds: ClassVar[frozenset[TargetKind]] = frozenset({"sparsity", "parameters"})
    """Kinds of target that the method can reach."""
    kinds: ClassVar[frozenset[Kind]] = frozenset(FINE_TUNED)
    """Kinds of task that the method can work on."""
    no_vectors: ClassVar[str] = "it trains on labels, which rows of this kind do not have"
    """Why the method does not work on tasks of kind embedding, where it does not."""
    no_text: ClassVar[str] = "it trains on labels, which texts do not have"
    """Why the method does not work on tasks of kind text, where it does not."""
    no_labels: ClassVar[str] = ""
    """Why the method does not work on some kinds of task whose rows have labels, where it does not."""
    rule: ClassVar[Literal["compress", "specialise", "adopt"]] = "compress"
    """Rule of the workflow that runs a stage."""
    removes: ClassVar[Removal] = "weights"
    """What the method removes."""
    leaves_rows: ClassVar[bool] = False
    """Whether heads of a student may have lost single dimensions."""
    goes_on_from_rows: ClassVar[bool] = False
    """Whether a structured method goes on from such a student."""
    trains_whole: ClassVar[bool] = False
    """Whether the path may be [0.0], which trains under the method's objective and removes nothing."""
    learning_rate: Positive = 5.0e-5
    """Peak learning rate of AdamW; usually higher for sparsities above 0.7. [inferred: SDP, grid 2.0e-5, 5.0e-5, 1.0e-4]"""
    path: Annotated[tuple[Target, ...], Many, Field(min_length=1)]
    """Targets, all of one kind, from the largest model to the smallest; each target is one cached job. A number is a sparsity:
    the fraction of the encoder's weights to remove, at least 0 and below 1, with at most three decimals. [targets]"""
    start: Start = "pretrained"
    """Model that the first stage starts from: the pre-trained base with a new head, the fine-tuned teacher, or a student of
    another plan, such as {plan: homodistil, at: 0.5}. [ours]"""
    recover: Recover = Recover()
    """Training after a stage at its final masks, before export. [inferred: SDP]"""
    chain: bool = True
    """Start each target from the student of the target before it. With false every target starts as the first one does, and its
    run is as long as a first one: one run a target, as in the papers of CoFi and SPD. [ours]"""
    per_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Other settings for single tasks, for example {rte: {recover: {epochs: 6.0}}}; path and method cannot differ. [task → keys
    of the plan; ours]"""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        check_path(self.path)
        return self

    @model_validator(mode="after")
    def _aims_right(self) -> Self:
        if not self.can_aim_at(self.path[0]):
            allowed = ", ".join(sorted(self.target_kinds))
            raise ValueError(f"method {self.method} cannot aim at {target_key(self.path[0])}; allowed: {allowed}")
        if self.removes != "nothing" and self.path[0] == 0.0 and (len(self.path) > 1 or not self.trains_whole):
            control = "; [0.0] alone trains under the same objective and removes nothing" if self.trains_whole else ""
            raise ValueError(f"path must begin above 0, got {self.path[0]}; the method 'dense' is the control{control}")
        return self

    @classmethod
    def can_aim_at(cls, target: Target) -> bool:
        """Whether the method knows how to reach this kind of target."""
        return target_kind(target) in cls.target_kinds

    @classmethod
    def why_not_on(cls, kind: Kind) -> str | None:
        """Why the method does not work on a kind of task; None where it does."""
        if kind in cls.kinds:
            return None
        rules = KIND_RULES[kind]
        if rules.vectors:
            return cls.no_vectors
        return cls.no_labels if rules.labelled else cls.no_text

    @property
    def families(self) -> tuple[str, ...]:
        """Model types of the bases that the method works on."""
        return HEADED if self.removes == "structure" else ENCODERS

    @property
    def keeps_layers_alike(self) -> bool:
        """Whether all layers of a student have one shape, which transformers' own classes can express."""
        return self.removes != "structure"

    @property
    def distils(self) -> bool:
        """Whether a term compares with the teacher's outputs, for which a row needs no label."""
        return False

    @property
    def needs_whole(self) -> bool:
        """Whether a student must have the shape of the base, because its hidden states are compared with the teacher's."""
        return False

    def parts(self, *, first_stage: bool) -> list[float]:
        """Lengths, in epochs, of the parts of a stage."""
        raise NotImplementedError

    def removal_steps(self, *, bounds: Sequence[int], first_stage: bool) -> list[int]:
        """Steps before which the stage removes something, given the steps at which its parts end.

        None where nothing is removed, and where the method says itself when it removes.
        """
        return []

    @property
    def removal_schedule(self) -> Literal["uniform", "geometric", "cubic"]:
        """How sparsity rises over the removals of `removal_steps`."""
        return "uniform"

    def schedule_ends(self, bounds: Sequence[int]) -> list[int]:
        """Steps at which learning-rate schedules end, given the steps at which the parts of the stage end."""
        return list(bounds)

    def decay_ends(self, bounds: Sequence[int]) -> list[int]:
        """Steps at which a linear schedule would be 0, one for each of `schedule_ends`; later ones are cut off there."""
        return self.schedule_ends(bounds)

    def for_recovery(self) -> Self:
        """These settings with what `recover` says of the learning rate in place of the plan's own."""
        own = {"learning_rate": self.recover.learning_rate, "schedule": self.recover.schedule, "warmup": self.recover.warmup}
        return self.model_copy(update={name: value for name, value in own.items() if value is not None})


class PrunedPlan(Plan):
    """Settings of methods that remove single weights, in one or several removals a stage."""

    prune_steps: Annotated[int, Field(ge=1)] = 1
    """Removals in a stage; the last one reaches the stage's target. [removals; ours]"""
    prune_schedule: Literal["uniform", "geometric", "cubic"] = "uniform"
    """How sparsity rises over the removals of a stage: by equal steps, by the same share of what is left, or fast first.
    [inferred: SDP]"""
    restart_schedule: bool = True
    """Begin the learning-rate schedule anew with every part of a stage, such as after each removal. [inferred: SDP]"""
    allocation: Literal["layer", "global"] = "layer"
    """Remove the same fraction of every matrix, or rank the weights of all matrices together. [inferred: SDP]"""
    prune_embeddings: bool = False
    """Also prune the word embeddings. [inferred: SDP]"""
    evaluate_removals: bool = False
    """Also evaluate just before and just after each removal. With evaluate_every a tenth of epochs_per_step, the report shows
    how students recover. [ours: for SDP's analysis]"""

    def removal_steps(self, *, bounds: Sequence[int], first_stage: bool) -> list[int]:
        """Steps before which weights are removed, given the steps at which the parts of the stage end."""
        raise NotImplementedError

    @property
    def removal_schedule(self) -> Literal["uniform", "geometric", "cubic"]:
        """As the settings say."""
        return self.prune_schedule

    def schedule_ends(self, bounds: Sequence[int]) -> list[int]:
        """The end of every part, or of the last one alone."""
        return list(bounds) if self.restart_schedule else [bounds[-1]]
