"""Labels that look like numbers or truth values, in files of every form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from espalier.data.labelled import LabelledTables
from espalier.kinds.base import read_task
from espalier.runtime.errors import UserError
from tests.field.files import FORMS, task, write


def read(folder: Path, labels: list[Any], form: str = ".csv", later: list[Any] | None = None, **others: Any) -> LabelledTables:
    """Training rows with these labels, and evaluation rows with `later` or the same."""
    ending = others.pop("ending", form)
    for name, values, suffix in (("train", labels, form), ("validation", labels if later is None else later, ending)):
        write(folder / f"{name}{suffix}", {"text": [f"text {row}" for row in range(len(values))], "label": values})
    return read_task("mine", task(folder, form, ending, **others))


def labels_of(tables: LabelledTables) -> list[str]:
    """The class of each evaluation row, by name."""
    return [tables.classes[place] for place in tables.evaluation["validation"]["label"].to_pylist()]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "classes",
    [["1", "2", "3", "4"], ["4", "3", "2", "1"], ["2019", "2020", "2021"], ["-1", "0", "1"], ["1", "0"], ["10", "9", "100"]],
    ids=",".join,
)
def test_names_that_are_numbers_are_names(tmp_path: Path, form: str, classes: list[str]) -> None:
    """Text or number, a label is a name first, and no place in the list. JH-DSAI/text-detection-baselines#34"""
    for labels in ([str(name) for name in classes], [int(name) for name in classes]):
        found = read(tmp_path, labels, form, classes=classes)
        assert found.classes == tuple(classes)
        assert found.train["label"].to_pylist() == list(range(len(classes)))


@pytest.mark.parametrize("form", FORMS)
def test_a_number_outside_names_that_are_numbers_is_refused(tmp_path: Path, form: str) -> None:
    """Own audit: 0 was the first class, and so every label stood for the class before it."""
    with pytest.raises(UserError) as error:
        read(tmp_path, [0, 1, 2, 3], form, classes=["1", "2", "3", "4"])
    assert (
        f"train{form}, data row 1, column 'label': got the label {0 if form in ('.jsonl', '.parquet') else repr('0')}, "
        in str(error.value)
    )
    assert "allowed: 1, 2, 3, 4" in str(error.value)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "labels", [["01", "02", "10"], ["007", "7", "70"], ["1", "+1", "0x10"], ["1e3", "1_000", "１"]], ids=",".join
)
def test_text_that_is_no_plain_number_stays_as_it_is(tmp_path: Path, form: str, labels: list[str]) -> None:
    """Codes lost their zeros, and 0x10 became 16. wireservice/csvkit#977, apache/arrow#46853"""
    found = read(tmp_path, labels, form)
    assert set(found.classes) == set(labels) and labels_of(found) == labels


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", [int, str])
def test_numbers_are_in_the_order_of_numbers(tmp_path: Path, form: str, number: type) -> None:
    """Class 10 came before class 2. fastai/fastai#3945"""
    found = read(tmp_path, [number(value) for value in (10, 2, 0, 1, 100)], form)
    assert found.classes == ("0", "1", "2", "10", "100") and labels_of(found) == ["10", "2", "0", "1", "100"]


@pytest.mark.parametrize("form", FORMS)
def test_numbers_of_twenty_digits_are_names(tmp_path: Path, form: str) -> None:
    """Labels beyond 64 bits, such as ids. pandas-dev/pandas#30320"""
    labels = ["31900441201190696999", "9" * 40, "5"] if form == ".parquet" else [31900441201190696999, int("9" * 40), 5]
    assert read(tmp_path, labels, form).classes == ("5", "31900441201190696999", "9" * 40)


SPELLED = [("False", "True"), ("false", "true"), ("FALSE", "TRUE")]


@pytest.mark.parametrize("spelled", SPELLED, ids=",".join)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("later", FORMS)
def test_truth_values_mean_the_same_in_every_form(tmp_path: Path, form: str, later: str, spelled: tuple[str, str]) -> None:
    """Labelled True and False; forms could not be mixed. deepset-ai/FARM#66"""
    train, validation = (
        [bool(row % 2) if ending in (".jsonl", ".parquet") else spelled[row % 2] for row in range(4)]
        for ending in (form, later)
    )
    found = read(tmp_path, train, form, validation, ending=later)
    assert found.classes == (("False", "True") if form in (".jsonl", ".parquet") else spelled)
    assert found.evaluation["validation"]["label"].to_pylist() == [0, 1, 0, 1]
    assert read(tmp_path, train, form, classes=["true", "false"]).train["label"].to_pylist() == [1, 0, 1, 0]
    assert read(tmp_path, train, form, classes=["no", "yes"]).train["label"].to_pylist() == [0, 1, 0, 1], "0 and 1 are places"


@pytest.mark.parametrize("labels", [[0, 1], ["0", "1"], [0.0, 1.0], ["0.0", "1.0"]], ids=str)
def test_zero_and_one_are_truth_values_where_the_classes_are(tmp_path: Path, labels: list[Any]) -> None:
    """Own audit."""
    found = read(tmp_path, [False, True], ".parquet", labels)
    assert found.classes == ("False", "True") and labels_of(found) == ["False", "True"]


def test_spellings_of_one_column_are_one_class(tmp_path: Path) -> None:
    """Own audit: a spreadsheet wrote some of the rows."""
    found = read(tmp_path, ["true", "FALSE", "TRUE", "false"])
    assert found.classes == ("False", "True") and found.train["label"].to_pylist() == [1, 0, 1, 0]


def test_truth_values_beside_numbers_are_refused(tmp_path: Path) -> None:
    """Own audit: are 1 and true one class?"""
    with pytest.raises(
        UserError, match=r"column 'label': the labels are truth values and numbers, such as True and 1; write one"
    ):
        read(tmp_path, [True, 1, False, 0], ".jsonl")
    assert read(tmp_path, ["true", "false", "half-true"]).classes == ("false", "half-true", "true")


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_numbers_with_a_gap_before_it_means_the_same(tmp_path: Path, form: str) -> None:
    """pandas writes 1 as 1.0 where a label was missing in another row of the file. Own audit."""
    found = read(tmp_path, [1, 2, 3], form, [1.0, 2.0, 3.0])
    assert found.classes == ("1", "2", "3") and labels_of(found) == ["1", "2", "3"]


def test_numbers_and_text_of_one_json_field_are_names(tmp_path: Path) -> None:
    """Paragraphs 1, 2 and 1a. huggingface/datasets#6324"""
    found = read(tmp_path, [1, "1a", 2, "1"], ".jsonl")
    assert found.classes == ("1", "1a", "2") and labels_of(found) == ["1", "1a", "2", "1"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (["a"], "got the label ['a']; a text, a number, true or false is needed"),
        ({"name": "a"}, "got the label {'name': 'a'}; a text, a number"),
        ([], "got the label []; "),
    ],
)
@pytest.mark.parametrize("form", [".jsonl", ".parquet"])
def test_labels_that_are_lists_or_objects_are_refused(tmp_path: Path, form: str, value: Any, said: str) -> None:
    """Several labels a row. huggingface/datasets#4210 (labels of a type that the loader does not know)"""
    for others in ({}, {"classes": ["a", "b"]}, {"kind": "regression", "metric": "pearson"}):
        with pytest.raises(UserError) as error:
            read(tmp_path, [value, value], form, **others)
        expected = said if "kind" not in others else "a finite number is needed"
        assert f"train{form}, data row 1, column 'label': " in str(error.value) and expected in str(error.value)


def test_names_that_the_file_stores_keep_their_places(tmp_path: Path) -> None:
    """Numbers stand for the names beside them, whatever these look like; another order is refused. huggingface/datasets#8481"""
    for names in (["1", "2", "3"], ["neg", "neutral", "pos"]):
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 2]}, features=features)
        for split in ("train", "validation"):
            data.to_parquet(str(tmp_path / f"{split}.parquet"))
        found = read_task("mine", task(tmp_path, ".parquet"))
        assert found.classes == tuple(names) and found.train["label"].to_pylist() == [0, 1, 2]

        # a class that stands in both lists stands at one place
        with pytest.raises(UserError, match="write them in one order"):
            read_task("mine", task(tmp_path, ".parquet", classes=[names[2], "other", names[0], "more"]))


@pytest.mark.parametrize(("value", "number"), [("1e-3", 0.001), (" 2 ", 2.0), (3, 3.0), ("-.5", -0.5)])
def test_numbers_for_regression(tmp_path: Path, value: Any, number: float) -> None:
    """Own audit."""
    found = read(tmp_path, [value, value], ".jsonl", kind="regression", metric="pearson")
    assert found.train["label"].to_pylist() == [number] * 2


@pytest.mark.parametrize("value", [True, "True", "1_000", 10**400, "1,5", "inf", [1.0]])
def test_what_is_no_number_for_regression(tmp_path: Path, value: Any) -> None:
    """Own audit: 1_000 was a number, and 400 digits ended in a traceback."""
    with pytest.raises(
        UserError, match=r"train\.jsonl, data row 1, column 'label': got the label .*; a finite number is needed"
    ):
        read(tmp_path, [value, 1.0], ".jsonl", kind="regression", metric="pearson")
