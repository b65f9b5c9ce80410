"""Missing labels, blanks around labels, fractions, and many classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.config.data import Task
from espalier.data.labelled import LabelledTables
from espalier.data.labels import fraction_in, some, stated
from espalier.kinds.base import read_task
from espalier.runtime.errors import UserError


def read(folder: Path, train: list[Any], validation: list[Any], ending: str = ".parquet", **others: Any) -> LabelledTables:
    paths = {"train": str(folder / f"train{ending}"), "validation": str(folder / f"validation{ending}")}
    for labels, path in zip((train, validation), paths.values(), strict=True):
        if ending == ".csv":
            Path(path).write_text("text,label\n" + "".join(f"a,{label}\n" for label in labels))
        else:
            pq.write_table(pa.table({"text": ["a"] * len(labels), "label": pa.array(labels)}), path)
    block = {"kind": "classification", "source": "files", "text": ["text"], "label": "label", "metric": "accuracy"}
    return read_task("mine", Task.model_validate(block | paths | others))


@pytest.mark.parametrize(
    ("ending", "labels"),
    [
        (".csv", ["yes", "", "no"]),
        (".csv", ["yes", "  ", "no"]),
        (".parquet", ["yes", "\t", "no"]),
        (".parquet", [1.0, float("nan"), 0.0]),
        (".parquet", [1.0, None, 0.0]),
    ],
)
def test_a_missing_label_is_no_class(tmp_path: Path, ending: str, labels: list[Any]) -> None:
    with pytest.raises(UserError, match=r"train.*, data row 2, column 'label': the label is missing; allowed: (no, yes|0, 1)"):
        read(tmp_path, labels, labels, ending)


def test_blanks_around_labels_do_not_count(tmp_path: Path) -> None:
    found = read(tmp_path, ["no ", "yes", " no"], ["yes "], ".csv")
    assert found.classes == ("no", "yes")
    assert found.train["label"].to_pylist() == [0, 1, 0] and found.evaluation["validation"]["label"].to_pylist() == [1]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_fractions_are_no_classes(tmp_path: Path, ending: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, [0.0, 0.067, 5.0], [1.0], ending)
    assert "column 'label': the labels are fractions such as 0.067; use kind: regression, or write class names" in str(
        error.value
    )


def test_fractions_may_be_named_as_classes(tmp_path: Path) -> None:
    assert read(tmp_path, [0.5, 1.5], [0.5], classes=["0.5", "1.5"]).train["label"].to_pylist() == [0, 1]


def test_of_many_classes_the_first_are_named(tmp_path: Path) -> None:
    many = [f"c{number:03}" for number in range(140)]
    with pytest.raises(UserError, match=r"outside the classes; allowed: c000, .*, c019 and 120 more$"):
        read(tmp_path, many, ["other"])


def test_the_parts() -> None:
    assert [stated(value) for value in (1, None, " a ", " ", float("nan"))] == [1, None, "a", None, None]
    assert fraction_in(["1", "2.5", "-.5"]) == "2.5"
    assert fraction_in(["1", "a", "2.5"]) is None and fraction_in(["1", "2.0"]) is None
    assert some(["a", "b"]) == "a, b"
