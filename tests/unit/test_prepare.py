"""What the prepare stage writes, and the broken data files that it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec
from espalier.config.known_tasks import overlay
from espalier.runtime.errors import UserError
from espalier.stages.data import prepare

ROOT = Path(__file__).parents[2]
TRAIN = "text,label\nOne,a\nTwo,b\nThree,a\nFour,b\nFive,a\nSix,b\nSeven,a\nEight,b\nNine,a\nTen,a\n"
VALIDATION = "text,label\nEleven,a\nTwo,b\nTwelve,a\n"


def spec(folder: Path, ending: str = ".csv", **others: Any) -> str:
    block = {
        "kind": "classification",
        "source": "files",
        "train": str(folder / f"train{ending}"),
        "validation": str(folder / f"validation{ending}"),
        "text": ["text"],
        "label": "label",
        "metric": "accuracy",
    }
    return PrepareSpec(name="mine", task=Task.model_validate(block | others)).model_dump_json()


def run(folder: Path, settings: str) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    paths = {
        "train": folder / "out/train.parquet",
        "evaluation": folder / "out/evaluation.parquet",
        "task": folder / "out/task.json",
    }
    prepare.run(settings, **paths)
    return pq.read_table(paths["train"]), pq.read_table(paths["evaluation"]), json.loads(paths["task"].read_text())


def write(folder: Path, train: str | bytes = TRAIN, validation: str | bytes = VALIDATION, ending: str = ".csv") -> None:
    for name, content in (("train", train), ("validation", validation)):
        (folder / f"{name}{ending}").write_bytes(content.encode() if isinstance(content, str) else content)


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    train, evaluation, task = run(tmp_path, spec(tmp_path))
    assert train.column_names == ["text_a", "label"] and train.num_rows == 10
    assert evaluation.to_pydict() == {
        "text_a": ["Eleven", "Two", "Twelve"],
        "label": [0, 1, 0],
        "set": ["validation"] * 3,
    }
    sources = task.pop("sources")
    assert task == {
        "name": "mine",
        "kind": "classification",
        "classes": ["a", "b"],
        "sets": ["validation"],
        "rows": {"train": 10, "validation": 3},
        "class_counts": {"train": {"a": 6, "b": 4}, "validation": {"a": 2, "b": 1}},
        "majority": {"validation": pytest.approx(2 / 3)},
        "leaked": {"validation": 1},
    }
    assert [source.keys() for source in sources] == [{"split", "sha256"}] * 2, "content decides, not where a file lies"
    said = capsys.readouterr().out
    assert "mine: train 10 rows: a 6, b 4" in said
    assert "warning: 1 of 3 rows of validation have a text that is also a training row's" in said


def test_rows_and_holdout_keep_the_balance(tmp_path: Path) -> None:
    write(tmp_path, "text,label\n" + "".join(f"Text {row},{'aab'[row % 3]}\n" for row in range(90)))
    train, evaluation, task = run(tmp_path, spec(tmp_path, rows=60, holdout=0.25))
    assert task["rows"] == {"train": 45, "validation": 3, "selection": 15} and task["sets"] == ["validation", "selection"]
    assert task["class_counts"]["train"] == {"a": 30, "b": 15} and task["class_counts"]["selection"] == {"a": 10, "b": 5}
    numbers = [int(text.split()[1]) for text in train["text_a"].to_pylist()]
    assert numbers == sorted(numbers)
    held = evaluation.filter(pa.compute.equal(evaluation["set"], "selection"))
    assert not set(held["text_a"].to_pylist()) & set(train["text_a"].to_pylist())
    again, *_ = run(tmp_path, spec(tmp_path, rows=60, holdout=0.25))
    assert again.equals(train)


def test_all_rows_may_be_asked_for(tmp_path: Path) -> None:
    write(tmp_path)
    assert run(tmp_path, spec(tmp_path, rows=10))[0].num_rows == 10


def test_several_evaluation_sets_keep_their_order(tmp_path: Path) -> None:
    write(tmp_path)
    paths = {"matched": str(tmp_path / "validation.csv"), "again": str(tmp_path / "train.csv")}
    _, evaluation, task = run(tmp_path, spec(tmp_path, validation=paths))
    assert task["sets"] == ["matched", "again"] and evaluation["set"].to_pylist() == ["matched"] * 3 + ["again"] * 10


def test_regression(tmp_path: Path) -> None:
    write(tmp_path, "text,label\nOne,1\nTwo,2\n", "text,label\nThree,3.5\n")
    train, evaluation, task = run(tmp_path, spec(tmp_path, kind="regression", metric="pearson"))
    assert train.schema.field("label").type == pa.float64() and evaluation["label"].to_pylist() == [3.5]
    assert task["classes"] is task["class_counts"] is task["majority"] is None


def test_text(tmp_path: Path) -> None:
    write(tmp_path)
    train, evaluation, task = run(tmp_path, spec(tmp_path, kind="text", label=None, metric=None))
    assert task["leaked"] == {"train": 1}, "training rows, since a corpus is read once"
    assert train.column_names == ["text_a"] and evaluation.column_names == ["text_a", "set"]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"rows": 11}, "task mine: rows: got 11; there are 10 training rows"),
        ({"holdout": 0.01}, "task mine: holdout: 0.01 of 10 training rows is 0 rows"),
        ({"rows": 1}, "only 1 training rows are left, none of the class b"),
    ],
)
def test_too_few_rows(tmp_path: Path, others: dict[str, Any], message: str) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match="task mine: ") as error:
        run(tmp_path, spec(tmp_path, **others))
    assert message in str(error.value)


def test_f1_needs_two_classes(tmp_path: Path) -> None:
    write(tmp_path, TRAIN + "Eleven,c\n")
    with pytest.raises(UserError, match="task mine: metric f1 needs 2 classes; got 3; use macro-f1"):
        run(tmp_path, spec(tmp_path, metric="f1"))


@pytest.mark.parametrize("name", ["rte", "cola", "stsb"])
def test_glue_files_beside_the_repository(tmp_path: Path, name: str) -> None:
    folder = ROOT.parent / "shared/data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    block = overlay(name, {"source": "files", **{split: str(folder / f"{split}.parquet") for split in ("train", "validation")}})
    _, _, task = run(tmp_path, PrepareSpec(name=name, task=Task.model_validate(block)).model_dump_json())
    assert task["rows"] == {
        "rte": {"train": 2490, "validation": 277},
        "cola": {"train": 8551, "validation": 1043},
        "stsb": {"train": 5749, "validation": 1500},
    }[name]  # fmt: skip
