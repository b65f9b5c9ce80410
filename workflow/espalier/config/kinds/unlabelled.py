"""The key `unlabelled` of a task: texts without labels, which terms on the teacher's outputs alone see."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from espalier.config.blocks import Block, Many, short_yaml


class TextFile(Block):
    """A file of texts whose columns have other names than the task's."""

    path: Annotated[str, Field(min_length=1)]
    """The file: parquet, csv, tsv or jsonl. [path]"""
    text: Annotated[tuple[str, ...], Many, Field(min_length=1)]
    """Its columns of text. For tasks on pairs two, which make a row together; for others each text of each column is a row.
    [columns]"""


def _file(value: Any) -> Any:
    """A file's block from its path alone, which has the task's own columns."""
    if isinstance(value, str | dict | TextFile):
        return value
    raise ValueError(f"got {short_yaml(value)}; allowed: a path, or {{path: …, text: […]}}")


AnyFile = Annotated[str | TextFile, BeforeValidator(_file)]


class Unlabelled(Block):
    """Texts without labels beside a task's training rows. Plans that distil train on both: the task's loss is a mean over the
    rows with labels, terms on the teacher's outputs are means over all rows. Texts of training or evaluation rows are left out,
    and so is every text that occurs again."""

    files: Annotated[tuple[AnyFile, ...], Many, Field(min_length=1)]
    """Files of texts: a path where columns are called as the task's, or {path: …, text: […]}. [paths]"""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Number of rows to use, a seeded sample; null uses all. [rows; ours]"""
    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Part of the rows of every epoch, and of every batch, that has no labels. An epoch is one pass over the rows with labels;
    the next epoch goes on with the texts that come next, and begins again when all were seen. [fraction; ours]"""

    def columns_of(self, own: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
        """Each file's path and columns of text; `own` are the task's."""
        return [(file, own) if isinstance(file, str) else (file.path, file.text) for file in self.files]
