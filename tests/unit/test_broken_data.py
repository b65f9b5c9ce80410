"""Broken data files, each refused by the prepare stage with a message that says where and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec
from espalier.runtime.errors import UserError
from espalier.stages.data import prepare

TEXTS = ["One", "Two"]
TRAIN = "text,label\nOne,a\nTwo,b\nThree,a\n"
VALIDATION = "text,label\nFour,a\nFive,b\n"
TASK = {"kind": "classification", "source": "files", "text": ["text"], "label": "label", "metric": "accuracy"}


def run(folder: Path, ending: str, others: dict[str, Any]) -> None:
    paths = {split: str(folder / f"{split}{ending}") for split in ("train", "validation")}
    settings = PrepareSpec(name="mine", task=Task.model_validate(TASK | paths | others))
    out = {name: folder / "out" / name for name in ("train", "evaluation", "task")}
    prepare.run(settings.model_dump_json(), **out)


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


NUMBERS = {"kind": "regression", "metric": "pearson"}
BROKEN: dict[str, tuple[str, str | bytes, str | bytes, dict[str, Any], str]] = {
    "missing column": (
        ".csv",
        "txt,label\nOne,a\nTwo,b\n",
        VALIDATION,
        {},
        "train.csv: there is no column 'text'; did you mean 'txt'?; columns: txt, label",
    ),
    "unknown label": (
        ".csv",
        TRAIN,
        "text,label\nOne,a\nTwo,c\n",
        {},
        "validation.csv, data row 2, column 'label': got the label 'c', which is outside the classes; allowed: a, b",
    ),
    "number outside the classes": (
        ".csv",
        "text,label\nOne,0\nTwo,2\n",
        VALIDATION,
        {"classes": ["x", "y"]},
        "train.csv, data row 2, column 'label': got the label '2', which is outside the classes; allowed: 0 to 1 (x, y)",
    ),
    "label -1": (
        ".parquet",
        parquet(text=TEXTS, label=[0, 1]),
        parquet(text=TEXTS, label=[-1, -1]),
        {"classes": ["x", "y"]},
        "validation.parquet, data row 1, column 'label': got the label -1, which is outside the classes; "
        "allowed: 0 to 1 (x, y); -1 marks rows without a label, as in GLUE's test splits: use a labelled split "
        "(1 more such row)",
    ),
    "empty split": (".csv", TRAIN, "text,label\n", {}, "validation.csv: got 0 rows; at least 1 is needed"),
    "empty training split": (
        ".parquet",
        parquet(text=pa.array([], pa.string()), label=pa.array([], pa.int64())),
        parquet(text=TEXTS, label=[0, 1]),
        {"classes": ["x", "y"]},
        "train.parquet: got 0 rows; at least 1 is needed",
    ),
    "empty file": (".csv", "", VALIDATION, {}, "train.csv: the file is empty; a line of column names is needed"),
    "missing text": (
        ".parquet",
        parquet(text=["One", None], label=[0, 1]),
        parquet(text=TEXTS, label=[0, 1]),
        {},
        "train.parquet, data row 2, column 'text': the text is missing; every row needs one",
    ),
    "all texts missing": (
        ".jsonl",
        '{"text": null, "label": 0}\n{"text": null, "label": 1}\n',
        '{"text": "One", "label": 0}\n',
        {},
        "train.jsonl, data row 1, column 'text': the text is missing",
    ),
    "blank text": (
        ".csv",
        TRAIN,
        'text,label\nOne,a\n" \t",b\n',
        {},
        "validation.csv, data row 2, column 'text': got the empty text ' \\t'; every row needs some text",
    ),
    "text of another type": (
        ".parquet",
        parquet(text=[1, 2], label=[0, 1]),
        parquet(text=TEXTS, label=[0, 1]),
        {},
        "train.parquet, column 'text': got type int64; a column of text is needed",
    ),
    "class absent from training": (
        ".csv",
        TRAIN,
        VALIDATION,
        {"classes": ["a", "b", "c"]},
        "train.csv: no row has the class c; every class needs training rows",
    ),
    "one class": (
        ".csv",
        "text,label\nOne,a\nTwo,a\n",
        VALIDATION,
        {},
        "train.csv, column 'label': got 1 class (a); at least 2 are needed",
    ),
    "bad UTF-8": (
        ".csv",
        b"text,label\nOne,a\nCaf\xe9,b\n",
        VALIDATION,
        {},
        "train.csv, line 3: got the byte 0xe9, which is not UTF-8; save the file as UTF-8",
    ),
    "damaged parquet": (
        ".parquet",
        parquet(text=TEXTS, label=[0, 1])[:-20],
        parquet(text=TEXTS, label=[0, 1]),
        {},
        "train.parquet: cannot be read as parquet, it is damaged or something else:",
    ),
    "jsonl cut off": (".jsonl", '{"text": "One", "label": 0}\n{"text": "Tw', "", {}, "train.jsonl, data row 2: is not JSON ("),
    "jsonl of lists": (".jsonl", "[1]\n", "", {}, "train.jsonl, data row 1: got list; an object with named fields is needed"),
    "jsonl of mixed types": (
        ".jsonl",
        '{"text": "One", "label": 0}\n{"text": 2, "label": 1}\n',
        '{"text": "One", "label": 0}\n',
        {},
        "train.jsonl, data row 2, column 'text': got 2; a text is needed in every row",
    ),
    "missing label": (
        ".parquet",
        parquet(text=TEXTS, label=[0, None]),
        parquet(text=TEXTS, label=[0, 1]),
        {"classes": ["x", "y"]},
        "train.parquet, data row 2, column 'label': the label is missing; allowed: x, y",
    ),
    "label that is no number": (
        ".csv",
        "text,label\nOne,1.5\nTwo,high\n",
        VALIDATION,
        NUMBERS,
        "train.csv, data row 2, column 'label': got the label 'high'; a finite number is needed",
    ),
    "label not finite": (
        ".parquet",
        parquet(text=TEXTS, label=[1.0, float("nan")]),
        parquet(text=TEXTS, label=[0.0, 1.0]),
        NUMBERS,
        "train.parquet, data row 2, column 'label': got the label nan; a finite number is needed",
    ),
    "label missing in regression": (
        ".parquet",
        parquet(text=TEXTS, label=[1.0, None]),
        parquet(text=TEXTS, label=[0.0, 1.0]),
        NUMBERS,
        "train.parquet, data row 2, column 'label': got the label None; a finite number is needed",
    ),
    "too many fields": (
        ".csv",
        "text,label\nOne,a\nTwo, too,b\n",
        VALIDATION,
        {},
        "train.csv, data row 2: got 3 fields; 2 are needed: text, label",
    ),
    "too few fields": (
        ".tsv",
        "text\tlabel\nOne\ta\nTwo\n",
        "text\tlabel\nOne\ta\n",
        {},
        "train.tsv, data row 2: got 1 fields; 2 are needed: text, label",
    ),
    "open quote": (".csv", 'text,label\n"One,a\nTwo,b\n', VALIDATION, {}, "train.csv: cannot be read as csv:"),
    "column twice": (
        ".csv",
        "text,label,text\nOne,a,One\n",
        VALIDATION,
        {},
        "train.csv: the column 'text' occurs 2 times; it must occur once",
    ),
}
"""What is wrong → ending, training file, validation file, settings, message."""


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, case: str) -> None:
    ending, train, validation, others, message = BROKEN[case]
    for name, content in (("train", train), ("validation", validation)):
        (tmp_path / f"{name}{ending}").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as error:
        run(tmp_path, ending, others)
    assert message in str(error.value) and str(tmp_path) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_every_file_is_looked_for_before_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(b"\xff")
    with pytest.raises(
        UserError, match=r"validation\.csv: there is no such file \(the validation rows of the task\); looked in "
    ):
        run(tmp_path, ".csv", {})
