"""Rows from files, from the hub and built in come out in one form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.config.data import Task
from espalier.data.builtin import tasks as docs
from espalier.data.samples import split, stratified
from espalier.kinds.base import read_task
from espalier.runtime.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def task(folder: Path, ending: str, **others: Any) -> Task:
    block = {"kind": "classification", "source": "files", "text": ["text"], "label": "label", "metric": "accuracy"}
    paths = {"train": str(folder / f"train{ending}"), "validation": str(folder / f"validation{ending}")}
    return Task.model_validate(block | paths | others)


def write(folder: Path, ending: str, train: str, validation: str) -> None:
    (folder / f"train{ending}").write_text(train, encoding="utf-8")
    (folder / f"validation{ending}").write_text(validation, encoding="utf-8")


def test_csv_has_the_usual_quoting(tmp_path: Path) -> None:
    write(tmp_path, ".csv", 'text,label\n"One, two\nand ""three""",no\nFour,yes\n', "text,label\nFive,no\n")
    found = read_task("mine", task(tmp_path, ".csv"))
    assert found.train.to_pydict() == {"text_a": ['One, two\nand "three"', "Four"], "label": [0, 1]}
    assert found.classes == ("no", "yes")
    assert found.evaluation["validation"].to_pydict() == {"text_a": ["Five"], "label": [0]}


def test_tsv_takes_quotes_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, ".tsv", 'label\ttext\n0\t"Open, he said\n1\tIt\'s "so"\n', "label\ttext\n1\tNo\n")
    found = read_task("mine", task(tmp_path, ".tsv"))
    assert found.train["text_a"].to_pylist() == ['"Open, he said', 'It\'s "so"']
    assert found.classes == ("0", "1")


SPAN = {"kind": "span", "text": ["question", "context"], "label": "answers", "metric": "squad-f1"}


def questions(*rows: tuple[str, str, dict[str, Any]], **others: Any) -> str:
    return "".join(json.dumps(dict(zip(("question", "context", "answers"), row, strict=True)) | others) + "\n" for row in rows)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_spans(tmp_path: Path, ending: str) -> None:
    first = ("Who?", "It was I.", {"text": ["I", "I."], "answer_start": [7, 7]})
    content = questions(first, ("When?", "Né en 1066.", {"answer_start": [6], "text": ["1066"]}))
    write(tmp_path, ".jsonl", content, questions(first, id=17))
    if ending == ".parquet":
        for split in ("train", "validation"):
            lines = map(json.loads, (tmp_path / f"{split}.jsonl").read_text(encoding="utf-8").splitlines())
            pq.write_table(pa.Table.from_pylist(list(lines)), tmp_path / f"{split}.parquet")
    found = read_task("mine", task(tmp_path, ending, **SPAN))
    assert found.train.to_pydict() == {
        "text_a": ["Who?", "When?"],
        "text_b": ["It was I.", "Né en 1066."],
        "answers": [{"text": ["I", "I."], "answer_start": [7, 7]}, {"text": ["1066"], "answer_start": [6]}],
        "id": ["1", "2"],
    }
    assert found.evaluation["validation"]["id"].to_pylist() == ["17"] and found.classes is None


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"text": [], "answer_start": []}, "got no answer; every question needs one, unless the task says no_answer: true"),
        ({"text": [""], "answer_start": [0]}, "got the answer ''; some text is needed"),
        ({"text": ["was"], "answer_start": [3, 4]}, "two lists of equal length"),
        ({"text": ["was"]}, "needed: {text: [...], answer_start: [...]}"),
        ("was", "got 'was'; needed: {text: [...], answer_start: [...]}"),
        ({"text": ["was"], "answer_start": [40]}, "got answer_start 40; allowed: 0 to 9, a character of the context"),
        ({"text": ["was"], "answer_start": ["3"]}, "got answer_start '3'"),
        (
            {"text": ["was"], "answer_start": [4]},
            "'was' does not stand at character 4, where the context has 'as '; it stands",
        ),
        ({"text": ["is"], "answer_start": [3]}, "where the context has 'wa'; it stands nowhere in the context"),
        ({"text": ["It was"], "answer_start": [0]}, None),
        (
            {"text": ["s\u00a0I"], "answer_start": [5]},
            "differs from the context 's I' at character 5 in white space; write it",
        ),
    ],
)
def test_an_answer_must_stand_where_it_is_said_to(tmp_path: Path, answers: Any, message: str | None) -> None:
    content = questions(("Who?", "It was I. ", answers))
    write(tmp_path, ".jsonl", content, content)
    if message is None:
        read_task("mine", task(tmp_path, ".jsonl", **SPAN))
        return
    with pytest.raises(UserError) as error:
        read_task("mine", task(tmp_path, ".jsonl", **SPAN))
    assert f"{tmp_path / 'train.jsonl'}, data row 1, column 'answers': " in str(error.value) and message in str(error.value)


def test_a_column_of_text_may_hold_numbers_only(tmp_path: Path) -> None:
    write(tmp_path, ".csv", "text,label\n1984,a\n2001,b\n", "text,label\n7,a\n")
    assert read_task("mine", task(tmp_path, ".csv")).train["text_a"].to_pylist() == ["1984", "2001"]


def test_jsonl_pairs_with_declared_classes(tmp_path: Path) -> None:
    lines = [{"a": "x", "b": "y", "label": 1}, {"a": "z", "b": "w", "label": 0}]
    write(tmp_path, ".jsonl", "\n".join(map(json.dumps, lines)) + "\n", json.dumps(lines[0]))
    found = read_task("mine", task(tmp_path, ".jsonl", text=["a", "b"], classes=["yes", "no"]))
    assert found.train.to_pydict() == {"text_a": ["x", "z"], "text_b": ["y", "w"], "label": [1, 0]}
    assert found.classes == ("yes", "no")


def test_class_names_are_read_from_parquet(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": ["bad", "good"], "label": [0, 1]}, features=features)
    for name in ("train", "validation"):
        data.to_parquet(str(tmp_path / f"{name}.parquet"))
    found = read_task("mine", task(tmp_path, ".parquet"))
    assert found.classes == ("neg", "pos")
    assert found.train["label"].to_pylist() == [0, 1]


def test_class_names_in_another_order_are_refused(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": ["bad", "good"], "label": [0, 1]}, features=features)
    for name in ("train", "validation"):
        data.to_parquet(str(tmp_path / f"{name}.parquet"))
    with pytest.raises(UserError, match=r"column 'label': its numbers stand for neg, pos in this order, but .* are pos, neg"):
        read_task("mine", task(tmp_path, ".parquet", classes=["pos", "neg"]))
    assert read_task("mine", task(tmp_path, ".parquet", classes=["no", "yes"])).classes == ("no", "yes"), "a renaming"


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0], [False, True], ["0", "1"], ["no", "yes"]])
def test_labels_of_many_types_mean_the_same(tmp_path: Path, labels: list[Any]) -> None:
    for name in ("train", "validation"):
        pq.write_table(pa.table({"text": ["a", "b"], "label": labels}), tmp_path / f"{name}.parquet")
    found = read_task("mine", task(tmp_path, ".parquet", classes=["no", "yes"]))
    assert found.train["label"].to_pylist() == [0, 1]


def test_dictionary_columns_are_read(tmp_path: Path) -> None:
    column = pa.array(["a", "b"]).dictionary_encode()
    for name in ("train", "validation"):
        pq.write_table(pa.table({"text": column, "label": column}), tmp_path / f"{name}.parquet")
    assert read_task("mine", task(tmp_path, ".parquet")).train.to_pydict() == {"text_a": ["a", "b"], "label": [0, 1]}


def test_regression_and_text(tmp_path: Path) -> None:
    write(tmp_path, ".csv", "text,label\nOne,1\nTwo,2.5\n", "text,label\nThree,3\n")
    found = read_task("mine", task(tmp_path, ".csv", kind="regression", metric="pearson"))
    assert found.train["label"].to_pylist() == [1.0, 2.5] and found.train.schema.field("label").type == pa.float64()
    found = read_task("mine", task(tmp_path, ".csv", kind="text", label=None, metric=None))
    assert found.train.column_names == ["text_a"] and found.classes is None


def test_sources_carry_digests(tmp_path: Path) -> None:
    write(tmp_path, ".csv", "text,label\nOne,a\nTwo,b\n", "text,label\nThree,a\n")
    assert [len(source["sha256"]) for source in read_task("mine", task(tmp_path, ".csv")).sources] == [64, 64]


def hub_task(**others: Any) -> Task:
    block = {"kind": "classification", "source": "hub", "id": "who/what", "name": "part", "revision": COMMIT}
    columns = {"train": "train", "validation": {"matched": "dev"}, "text": ["text"], "label": "label", "metric": "accuracy"}
    return Task.model_validate(block | columns | others)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every call of load_dataset; it gives two small splits."""
    calls = []
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": ["bad", "good"], "label": [0, 1]}, features=features)

    def load_dataset(identifier: str, **options: Any) -> datasets.DatasetDict:
        calls.append({"id": identifier, **options})
        return datasets.DatasetDict({"train": data, "dev": data})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_hub_is_asked_for_the_pinned_revision(hub: list[dict[str, Any]]) -> None:
    found = read_task("mine", hub_task())
    assert hub == [{"id": "who/what", "name": "part", "revision": COMMIT}]
    assert found.classes == ("neg", "pos")
    assert found.evaluation["matched"].to_pydict() == {"text_a": ["bad", "good"], "label": [0, 1]}
    assert found.sources == [{"id": "who/what", "name": "part", "revision": COMMIT}]


def test_hub_split_must_exist(hub: list[dict[str, Any]]) -> None:
    with pytest.raises(
        UserError, match=r"data set who/what: there is no split 'devv'; did you mean 'dev'\?; allowed: train, dev"
    ):
        read_task("mine", hub_task(validation="devv"))


def test_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(identifier: str, **options: Any) -> None:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=f"data set who/what at revision {COMMIT}: no route to the hub"):
        read_task("mine", hub_task())


def builtin_task(**others: Any) -> Task:
    return Task.model_validate(
        {"kind": "classification", "source": "builtin", "text": ["text"], "label": "label", "metric": "accuracy"} | others
    )


def test_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"text_a": ["x"], "text_b": ["y"], "label": [1]})
    monkeypatch.setattr(docs, "build", lambda name: {"train": table, "validation": table})
    found = read_task("docs-pair", builtin_task())
    assert found.classes == ("unrelated", "follows") and list(found.evaluation) == ["validation"]


@pytest.mark.parametrize(
    ("name", "others", "message"),
    [
        ("docs-pairs", {}, "there is no built-in task of this name; did you mean 'docs-pair'?"),
        ("docs-pair", {"classes": ["a", "b"]}, "got classes a, b; its classes are unrelated, follows"),
    ],
)
def test_builtin_refusals(name: str, others: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        read_task(name, builtin_task(**others))
    assert message in str(error.value)


def test_samples_are_stratified_and_repeatable() -> None:
    labels = [0] * 60 + [1] * 30 + [2] * 10
    taken = stratified(labels, 10, 100)
    assert taken == sorted(taken) == stratified(labels, 10, 100)
    assert [sum(labels[row] == label for row in taken) for label in range(3)] == [6, 3, 1]


@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_samples_have_the_exact_size(count: int) -> None:
    assert len(stratified([row % 3 for row in range(100)], count, 100)) == count
    assert len(stratified(None, count, 100)) == count


def test_split_parts_every_row_once() -> None:
    table = pa.table({"text_a": [str(row) for row in range(20)]})
    sample, rest = split(table, None, 6)
    assert sorted(sample["text_a"].to_pylist() + rest["text_a"].to_pylist(), key=int) == table["text_a"].to_pylist()
    assert rest["text_a"].to_pylist() == sorted(rest["text_a"].to_pylist(), key=int)
