"""Several labels a row, grades of texts, and up to four columns: what files may look like, and what is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from espalier.stages.data import prepare

TAGS = {"kind": "multilabel", "text": ["text"], "label": "tags", "metric": "micro-f1", "thresholds": "half", "holdout": 0.0}
GRADES = {"kind": "ranking", "text": ["query", "text"], "label": "grade", "metric": "ndcg@10"}
WANTED = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
"""Rows a and c, nothing, b."""


def run(folder: Path, ending: str, settings: dict[str, Any], train: str | bytes, validation: str | bytes | None = None) -> Path:
    """The stage `prepare` on two files; the folder that it wrote."""
    for name, content in (("train", train), ("validation", train if validation is None else validation)):
        (folder / f"{name}{ending}").write_bytes(content.encode() if isinstance(content, str) else content)
    paths = {name: str(folder / f"{name}{ending}") for name in ("train", "validation")}
    task = Task.model_validate({"source": "files", **paths, **settings})
    out = {name: folder / "out" / name for name in ("train", "evaluation", "task")}
    prepare.run(PrepareSpec(name="mine", task=task).model_dump_json(), **out)
    return folder / "out"


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def with_names(table: pa.Table, feature: Any) -> bytes:
    """Parquet as the library `datasets` writes it."""
    stored = {"info": {"features": {"tags": feature}}}
    return parquet(table.replace_schema_metadata({"huggingface": json.dumps(stored)}))


TEXTS = ["One", "Two", "Three"]
BY_CLASS = {"label": None, "classes": ["a", "b", "c"]}
NUMBERS = pa.table({"text": TEXTS, "tags": pa.array([[0, 2], [], [1]], pa.list_(pa.int64()))})
FORMS = {
    "lists in jsonl": (
        ".jsonl",
        lines({"text": "One", "tags": ["c", "a"]}, {"text": "Two", "tags": []}, {"text": "Three", "tags": ["b"]}),
        {},
    ),
    "lists in parquet": (".parquet", parquet(pa.table({"text": TEXTS, "tags": [["a", "c"], [], ["b"]]})), {}),
    "numbers of declared classes": (".parquet", parquet(NUMBERS), {"classes": ["a", "b", "c"]}),
    "numbers of classes that the file names": (
        ".parquet",
        with_names(NUMBERS, {"_type": "List", "feature": {"_type": "ClassLabel", "names": ["a", "b", "c"]}}),
        {},
    ),
    "a sign between labels": (".csv", 'text,tags\nOne,a; c\nTwo,\nThree,"b"\n', {"separator": ";"}),
    "blanks between labels": (".tsv", "text\ttags\nOne\ta c\nTwo\t\nThree\tb\n", {"separator": " "}),
    "columns of 0 and 1": (
        ".csv",
        "text,c,a,b\nOne,1,1,0\nTwo,0,0,0\nThree,0,0,1\n",
        {"label": None, "classes": ["a", "b", "c"]},
    ),
    "columns of true and false": (
        ".parquet",
        parquet(pa.table({"text": TEXTS, "a": [True, False, False], "b": [0.0, 0.0, 1.0], "c": [1, 0, 0]})),
        BY_CLASS,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_label_sets_gives_the_same_rows(tmp_path, form):
    ending, content, settings = FORMS[form]
    out = run(tmp_path, ending, TAGS | settings, content)
    table = pq.read_table(out / "train").to_pydict()
    assert table["labels"] == WANTED and table["text_a"] == TEXTS
    assert read_json(out / "task")["classes"] == ["a", "b", "c"]


def test_a_query_is_its_own_text_where_no_column_tells_it(tmp_path):
    rows = "query,text,grade\nred shoes,Shoes,4\nblue hat,Hat,0\nred shoes,Hat,1\n"
    table = pq.read_table(run(tmp_path, ".csv", GRADES, rows) / "train").to_pydict()
    assert table["query"] == ["red shoes", "blue hat", "red shoes"] == table["text_a"]
    assert table["label"] == [4.0, 0.0, 1.0] and table["relevance"] == [1.0, 0.0, 0.25]


def test_a_held_out_part_and_a_sample_tear_no_query(tmp_path):
    rows = "query,id,text,grade\n" + "".join(f"q,{row // 3},t{row},{row % 2}\n" for row in range(60))
    out = run(tmp_path, ".csv", GRADES | {"query": "id", "rows": 40, "holdout": 0.25}, rows)
    train = pq.read_table(out / "train").to_pandas()
    evaluation = pq.read_table(out / "evaluation").to_pandas()
    held_out = evaluation[evaluation["set"] == "selection"]
    # 40 rows hold 13 whole queries, and a quarter of their 39 rows holds 3
    assert (len(train), len(held_out)) == (30, 9)
    assert (train.groupby("query").size() == 3).all() and not set(train["query"]) & set(held_out["query"])


def test_queries_without_an_answer_are_counted(tmp_path, capsys):
    run(tmp_path, ".csv", GRADES, "query,text,grade\na,One,1\na,Two,0\nb,Three,0\n")
    assert "mine: train 2 queries, 1 of them without a text of a grade above 0, which count as 0" in capsys.readouterr().out


def test_columns_are_joined_and_some_may_be_empty(tmp_path):
    rows = lines({"query": "q", "title": "T", "body": None, "grade": 1}, {"query": "q", "title": " ", "body": "B", "grade": 0})
    settings = GRADES | {"text": ["query", "title", "body"]}
    assert pq.read_table(run(tmp_path, ".jsonl", settings, rows) / "train").to_pydict()["text_b"] == ["T", "B"]
    settings |= {"template": ["{query}", "{title}: {body}"]}
    assert pq.read_table(run(tmp_path, ".jsonl", settings, rows) / "train").to_pydict()["text_b"] == ["T: ", " : B"]


GOOD = lines({"text": "One", "tags": ["a", "b"]})
BROKEN: dict[str, tuple[str, dict[str, Any], str | bytes, str | bytes | None, str]] = {
    "labels missing": (
        ".jsonl",
        TAGS,
        lines({"text": "One", "tags": ["a", "b"]}, {"text": "Two", "tags": None}),
        None,
        "train.jsonl, data row 2, column 'tags': the labels are missing; a row without labels has an empty list",
    ),
    "a text in the place of a list": (
        ".jsonl",
        TAGS,
        lines({"text": "One", "tags": "a;b"}),
        None,
        "data row 1, column 'tags': got 'a;b'; a list of labels is needed; where a sign stands between labels, name it",
    ),
    "a list in the place of a text": (".jsonl", TAGS | {"separator": ";"}, GOOD, None, "a text is needed"),
    "an empty label": (
        ".csv",
        TAGS | {"separator": ";"},
        "text,tags\nOne,a;b\nTwo,a;;b\n",
        None,
        "train.csv, data row 2, column 'tags': got 'a;;b'; every label must be a text, a number, true or false, and not empty",
    ),
    "a label twice": (
        ".jsonl",
        TAGS,
        lines({"text": "One", "tags": ["a", "b", "a"]}),
        None,
        "data row 1, column 'tags': got a label twice in ['a', 'b', 'a']; every label may stand once",
    ),
    "a label outside the classes": (
        ".jsonl",
        TAGS,
        GOOD,
        lines({"text": "One", "tags": ["a"]}, {"text": "Two", "tags": ["a", "B"]}),
        "validation.jsonl, data row 2, column 'tags': got the label 'B', which is outside the classes; allowed: a, b",
    ),
    "one class alone": (".jsonl", TAGS, lines({"text": "One", "tags": ["a"]}), None, "got 1 class (a); at least 2 are needed"),
    "a class without training rows": (
        ".jsonl",
        TAGS | {"classes": ["a", "b", "c"]},
        GOOD,
        None,
        "task mine: no training row has the class c; every class needs training rows",
    ),
    "neither 0 nor 1": (
        ".csv",
        TAGS | {"label": None, "classes": ["a", "b"]},
        "text,a,b\nOne,1,1\nTwo,0,2\n",
        None,
        "train.csv, data row 2, column 'b': got '2'; 1 is needed where a row has the class, else 0",
    ),
    "rows that nobody labelled": (
        ".parquet",
        TAGS | {"label": None, "classes": ["a", "b"]},
        parquet(pa.table({"text": ["One"], "a": [1], "b": [1]})),
        parquet(pa.table({"text": ["One"], "a": [-1], "b": [-1]})),
        "validation.parquet, data row 1, column 'a': got -1; 1 is needed where a row has the class, else 0; -1 may mark rows",
    ),
    "a class without its column": (
        ".csv",
        TAGS | {"label": None, "classes": ["a", "bb"]},
        "text,a,b\nOne,1,1\n",
        None,
        "train.csv: there is no column 'bb'",
    ),
    "a grade that is no number": (
        ".csv",
        GRADES,
        "query,text,grade\nq,One,1\nq,Two,good\n",
        None,
        "train.csv, data row 2, column 'grade': got the label 'good'; a finite number is needed",
    ),
    "a negative grade": (
        ".csv",
        GRADES,
        "query,text,grade\nq,One,1\nq,Two,-1\n",
        None,
        "train.csv, data row 2, column 'grade': got the grade -1; a grade is 0 or more; -1 may mark rows that nobody graded",
    ),
    "no answer at all": (".csv", GRADES, "query,text,grade\nq,One,0\n", None, "task mine: every training row has the grade 0"),
    "a query that is missing": (
        ".jsonl",
        GRADES | {"query": "id"},
        lines({"query": "q", "text": "One", "grade": 1, "id": None}),
        None,
        "data row 1, column 'id': got None; a text or a whole number that tells queries apart is needed",
    ),
    "a query that is a fraction": (
        ".jsonl",
        GRADES | {"query": "id"},
        lines({"query": "q", "text": "One", "grade": 1, "id": 0.5}),
        None,
        "data row 1, column 'id': got 0.5; a text or a whole number that tells queries apart is needed",
    ),
    "pairwise without pairs": (
        ".csv",
        GRADES | {"loss": "pairwise"},
        "query,text,grade\nq,One,1\nr,Two,0\n",
        None,
        "task mine: loss pairwise compares texts of one query, and no query of the training rows has texts of two grades",
    ),
    "one query to hold out of": (
        ".csv",
        GRADES | {"holdout": 0.5},
        "query,text,grade\nq,One,1\nq,Two,0\n",
        None,
        "task mine: holdout: all training rows are of one query, so none can be held out",
    ),
    "no text in any of several columns": (
        ".csv",
        GRADES | {"text": ["query", "title", "body"]},
        "query,title,body,grade\nq,One,,1\nq, ,,0\n",
        None,
        "train.csv, data row 2, column 'title, body': got no text; every row needs some text in one of these columns",
    ),
}
"""What is wrong → ending, settings, training file, validation file, message."""


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(tmp_path, case):
    ending, settings, train, validation, message = BROKEN[case]
    with pytest.raises(UserError) as error:
        run(tmp_path, ending, settings, train, validation)
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()
