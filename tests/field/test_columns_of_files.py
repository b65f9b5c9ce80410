"""Files with columns that the task does not use, and columns that are stored in unusual ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.config.job_specs import PrepareSpec
from espalier.kinds.base import read_task
from espalier.runtime.errors import UserError
from espalier.stages.data import prepare
from tests.field.files import FORMS, task, write

TEXTS, LABELS = ["one", "two"], ["a", "b"]


def both(folder: Path, ending: str, content: str | pa.Table) -> Path:
    """The same content for training and evaluation."""
    for split in ("train", "validation"):
        path = folder / f"{split}{ending}"
        pq.write_table(content, path) if isinstance(content, pa.Table) else path.write_text(content, encoding="utf-8")
    return folder


def rows(folder: Path, ending: str, **others: Any) -> dict[str, list[Any]]:
    """The training rows as the pipeline has them."""
    return read_task("mine", task(folder, ending, **others)).train.to_pydict()


def corpus(folder: Path, ending: str) -> list[str]:
    """The training rows of a text task."""
    block = task(folder, ending, kind="text", label=None, metric=None)
    paths = {name: folder / f"out/{name}" for name in ("train", "evaluation", "task")}
    prepare.run(PrepareSpec(name="mine", task=block).model_dump_json(), **paths)
    return pq.read_table(paths["train"])["text_a"].to_pylist()


MIXED = {
    "text and numbers": ["x", 1],
    "numbers and truth values": [True, 0],
    "lists of several types": [[1, "Protein"], [["a"]]],
    "objects of several types": [{"title": "x"}, {"title": 7}],
    "more than 64 bits": [2**64, 5],
    "less than -64 bits": [-(2**70), 1],
    "hundreds of digits": [10**500, 1],
    "half a character": ["\ud800", "x"],
    "not a number": [float("nan"), float("inf")],
}


@pytest.mark.parametrize("extra", MIXED)
def test_a_json_field_that_is_not_asked_for_may_hold_anything(tmp_path: Path, extra: str) -> None:
    """RUC-NLPIR/FlashRAG#132, huggingface/datasets#6460 (mixed types), huggingface/datasets#6007 (integers)"""
    lines = [
        {"text": text, "label": label, "extra": value} for text, label, value in zip(TEXTS, LABELS, MIXED[extra], strict=True)
    ]
    both(tmp_path, ".jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert rows(tmp_path, ".jsonl") == {"text_a": TEXTS, "label": [0, 1]}
    assert corpus(tmp_path, ".jsonl") == TEXTS


def test_a_number_of_thousands_of_digits_is_no_obstacle(tmp_path: Path) -> None:
    """Python refuses to read more than 4,300 digits. Own audit."""
    both(tmp_path, ".jsonl", "".join(f'{{"n": {"7" * 9000}, "text": "{text}", "label": "{text}"}}\n' for text in TEXTS))
    assert rows(tmp_path, ".jsonl")["text_a"] == TEXTS


def test_a_deeply_nested_line_is_refused(tmp_path: Path) -> None:
    """Own audit."""
    both(tmp_path, ".jsonl", '{"text": "one", "label": "a", "deep": ' + "[" * 90_000 + "]" * 90_000 + "}\n")
    with pytest.raises(UserError, match=r"train\.jsonl, data row 1: is too deeply nested"):
        rows(tmp_path, ".jsonl")


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
@pytest.mark.parametrize(
    "header", ["text,label,", "text,label,,", ",text,label", "text,note,note,label", ",,text,label,,x,x", "text,label, "]
)
def test_header_cells_may_be_empty_or_repeated(tmp_path: Path, ending: str, header: str) -> None:
    """Kaggle's spam.csv. dotnet/machinelearning#5979, databricks/spark-csv#61, NeilMacMullen/kusto-loco#123"""
    names = header.split(",")
    lines = [
        [{"text": text, "label": label}.get(name, "?") for name in names] for text, label in zip(TEXTS, LABELS, strict=True)
    ]
    separator = "," if ending == ".csv" else "\t"
    both(tmp_path, ending, "".join(separator.join(line) + "\n" for line in [names, *lines]))
    assert rows(tmp_path, ending) == {"text_a": TEXTS, "label": [0, 1]}
    assert corpus(tmp_path, ending) == TEXTS


@pytest.mark.parametrize("name", ["text", "label"])
def test_a_repeated_column_that_is_asked_for_is_refused(tmp_path: Path, name: str) -> None:
    """perspective-dev/perspective#1911"""
    both(tmp_path, ".csv", f"text,label,{name}\none,a,x\ntwo,b,y\n")
    with pytest.raises(UserError, match=rf"train\.csv: the column '{name}' occurs 2 times; it must occur once"):
        rows(tmp_path, ".csv")


@pytest.mark.parametrize("ending", FORMS)
def test_a_field_may_be_longer_than_131072_characters(tmp_path: Path, ending: str) -> None:
    """gwforg/gwf#177, simonw/datasette-lite#84, alan-turing-institute/CleverCSV#21"""
    long = ["word " * 40_000 + "end", "x" * 131_073]
    for split in ("train", "validation"):
        write(tmp_path / f"{split}{ending}", {"text": long, "label": LABELS, "note": ["y" * 140_000] * 2})
    assert rows(tmp_path, ending)["text_a"] == long
    assert corpus(tmp_path, ending) == long


def test_an_open_quote_is_named_with_its_row(tmp_path: Path) -> None:
    """Own audit: nothing bounds a field any more, so the quote takes all that follows."""
    both(tmp_path, ".csv", 'text,label\none,a\n"two,b\n' + "three,a\n" * 50_000)
    with pytest.raises(UserError, match=r"train\.csv: cannot be read as csv: .* in data row 2; a quote may be open"):
        rows(tmp_path, ".csv")


VIEWS = {
    "string_view": lambda values: pa.array(values).cast(pa.string_view()),
    "large_string": lambda values: pa.array(values, pa.large_string()),
    "dictionary": lambda values: pa.array(values).dictionary_encode(),
    "dictionary of large strings": lambda values: pa.array(values, pa.large_string()).dictionary_encode(),
    "json": lambda values: pa.ExtensionArray.from_storage(pa.json_(), pa.array(values)),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_text_in_any_of_arrow_s_types_is_read(tmp_path: Path, kind: str) -> None:
    """pola-rs/polars#26435, duckdb/duckdb-python#187"""
    both(tmp_path, ".parquet", pa.table({"text": VIEWS[kind](TEXTS), "label": VIEWS[kind](LABELS)}))
    assert rows(tmp_path, ".parquet") == {"text_a": TEXTS, "label": [0, 1]}
    assert corpus(tmp_path, ".parquet") == TEXTS


def test_columns_of_parquet_that_are_not_asked_for(tmp_path: Path) -> None:
    """A point in a name is no way into a nested column, and a repeated name elsewhere harms nothing. Own audit."""
    arrays = [pa.array(TEXTS), pa.array([3, 4]), pa.array(LABELS), pa.array([{"a": 1}] * 2), pa.array([1, 2]), pa.array([1, 2])]
    table = pa.table(arrays, names=["text", "text.length", "label", "nested", "twice", "twice"])
    both(tmp_path, ".parquet", table)
    assert rows(tmp_path, ".parquet") == {"text_a": TEXTS, "label": [0, 1]}
    assert corpus(tmp_path, ".parquet") == TEXTS


@pytest.mark.parametrize(
    "ids", [[[1], [2]], [{"a": 1}, {"a": 2}], [1.5, 2.5], [None, "x"], ["\ud800", "y"], [True, "z"]], ids=str
)
def test_an_id_that_names_no_row_is_left_out(tmp_path: Path, ids: list[Any]) -> None:
    """Nobody asked for the column. Own audit."""
    answers = {"text": ["I"], "answer_start": [7]}
    lines = [{"q": "Who?", "c": "It was I.", "answers": answers, "id": value} for value in ids]
    both(tmp_path, ".jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    found = rows(tmp_path, ".jsonl", kind="span", text=["q", "c"], label="answers", metric="squad-f1")
    assert found["id"] == ["1", "2"]


@pytest.mark.parametrize("starts", [[7, "7"], [7, 7.0], [7, 2**80]], ids=str)
def test_answers_of_several_types_are_refused_with_their_row(tmp_path: Path, starts: list[Any]) -> None:
    """Own audit: the file could not be read at all."""
    lines = [{"q": "Who?", "c": "It was I.", "answers": {"text": ["I"], "answer_start": [start]}} for start in starts]
    both(tmp_path, ".jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"train\.jsonl, data row 2, column 'answers': got answer_start "):
        rows(tmp_path, ".jsonl", kind="span", text=["q", "c"], label="answers", metric="squad-f1")
