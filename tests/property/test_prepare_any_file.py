"""Whatever stands in a file of the user's, `prepare` reads it or says in one sentence what is wrong."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from espalier.config.data import Task
from espalier.config.job_specs import PrepareSpec
from espalier.runtime.errors import UserError
from espalier.stages.data import prepare

KINDS: dict[str, dict[str, Any]] = {
    "classification": {"text": ["text"], "label": "label", "metric": "accuracy"},
    "regression": {"text": ["text", "other"], "label": "label", "metric": "pearson"},
    "span": {"text": ["text", "other"], "label": "label", "metric": "squad-f1"},
    "text": {"text": ["text"]},
}
NAMES = ("text", "other", "label", "id", "", "text ", "text.length", "label\n", "Text")
WORDS = (
    "a",
    "b",
    "1",
    "0",
    "01",
    "-1",
    "1.0",
    "2.5",
    "true",
    "False",
    "",
    " ",
    "nan",
    "null",
    "1e400",
    "\ufeff",
    "a\tb",
    'q"',
    "\x00",
)
words = st.sampled_from(WORDS) | st.text(max_size=5)
whole = st.integers(-2, 3) | st.integers(-(2**80), 2**80) | st.just(10**500)
scalars = words | whole | st.booleans() | st.floats() | st.none()
ANSWER = {"text": ["a"], "answer_start": [0]}
answers = st.fixed_dictionaries(
    {"text": st.lists(scalars, max_size=2) | scalars, "answer_start": st.lists(scalars, max_size=2) | scalars}
)
cells = scalars | st.just(ANSWER) | answers | st.lists(scalars, max_size=3) | st.dictionaries(words, scalars, max_size=2)
small = st.integers(0, 100)
usually = st.integers(0, 3).map(bool)
ARROW: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *((kind, words.filter(lambda text: "\ud800" not in text)) for kind in (pa.string(), pa.large_string(), pa.string_view())),
    *(
        (kind, small)
        for kind in (pa.int8(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.duration("s"), pa.time32("s"))
    ),
    (pa.bool_(), st.booleans()),
    (pa.binary(), st.binary(max_size=3)),
    (pa.decimal128(38, 2), st.decimals(-5, 5, places=2)),
    (pa.date32(), st.just(date(2020, 1, 1))),
    (pa.timestamp("us", "UTC"), st.just(datetime(2020, 1, 1))),
    (pa.null(), st.none()),
    (pa.list_(pa.string()), st.lists(words, max_size=2)),
    (pa.map_(pa.string(), pa.int64()), st.just([("a", 1)])),
    (pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())}), st.just(ANSWER)),
    (pa.list_(pa.struct({"text": pa.string(), "answer_start": pa.int32()})), st.just([{"text": "a", "answer_start": 0}])),
]


def told(kind: str, ending: str, train: bytes, validation: bytes, **others: Any) -> str | None:
    """What `prepare` says against two files; None where it reads them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {split: folder / f"{split}{ending}" for split in ("train", "validation")}
        for path, content in zip(paths.values(), (train, validation), strict=True):
            path.write_bytes(content)
        files = {split: str(path) for split, path in paths.items()}
        try:
            task = Task.model_validate({"kind": kind, "source": "files"} | KINDS[kind] | files | others)
        except ValidationError:
            return None  # the configuration is refused before a file is opened

        try:
            prepare.run(
                PrepareSpec(name="mine", task=task).model_dump_json(),
                **{part: folder / part for part in ("train", "evaluation", "task")},
            )
        except UserError as error:
            return str(error)
        assert json.loads((folder / "task").read_text())["rows"]["train"] > 0
        return None


def check(message: str | None) -> None:
    """A message is one sentence of a readable length, which names the file or the task."""
    if message is not None:
        assert ("/train." in message or "/validation." in message or "task mine: " in message) and len(message) < 1500, message
        assert "Traceback" not in message and "\n" not in message, message


@st.composite
def separated(draw: st.DrawFn, ending: str) -> bytes:
    """A csv or tsv file."""
    width = draw(st.integers(1, 5))
    names = draw(st.permutations([*NAMES, "note", "note"]))[:width] if draw(st.booleans()) else ["text", "label", "other", "id"]
    widths = st.just(len(names)) if draw(usually) else st.integers(1, 5)
    rows = [draw(st.lists(words, min_size=size, max_size=size)) for size in draw(st.lists(widths, max_size=4))]
    if ending == ".tsv":
        return "\n".join("\t".join(row) for row in [names, *rows]).encode("utf-8", "surrogatepass")
    file = io.StringIO()
    csv.writer(file).writerows([names, *rows])
    return file.getvalue().encode("utf-8", "surrogatepass")


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A jsonl file."""
    rows = st.fixed_dictionaries({"text": words | cells, "label": cells, "other": words}, optional={"id": cells, "note": cells})
    found = draw(
        st.lists(rows, min_size=1, max_size=5)
        if draw(usually)
        else st.lists(rows | cells | st.fixed_dictionaries({"text": words, "label": cells, "other": words}), max_size=4)
    )
    return "".join(json.dumps(row, ensure_ascii=draw(st.booleans())) + "\n" for row in found).encode("utf-8", "surrogatepass")


@st.composite
def table(draw: st.DrawFn) -> bytes:
    """A parquet file."""
    count = draw(st.integers(0, 4))
    arrays, names = (
        [],
        draw(st.sampled_from([["text", "label", "other"], ["text", "label", "other", "id"], ["label", "text", "text"]])),
    )
    for name in names:
        usual = ARROW[:3] if name in ("text", "other") and draw(st.booleans()) else ARROW
        kind, values = draw(st.sampled_from(usual))
        array = pa.array(draw(st.lists(values | st.none(), min_size=count, max_size=count)), kind)
        arrays.append(array.dictionary_encode() if kind in (pa.string(), pa.int64()) and draw(st.booleans()) else array)
    note = {
        "huggingface": draw(
            words | st.just(json.dumps({"info": {"features": {"label": {"names": ["a", "b"]}}}})) | st.just("[1]")
        )
    }
    content = pa.table(arrays, names=names).replace_schema_metadata(note if draw(st.booleans()) else None)
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink)
    return sink.getvalue().to_pybytes()


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with a few bytes changed, or without its end."""
    broken = bytearray(content)
    for _ in range(draw(st.integers(0, 3))):
        if broken:
            broken[draw(st.integers(0, len(broken) - 1))] = draw(st.integers(0, 255))
    return bytes(broken[: draw(st.integers(0, len(broken)))] if draw(st.booleans()) else broken)


FILES = {".csv": separated(".csv"), ".tsv": separated(".tsv"), ".jsonl": lines(), ".parquet": table()}
classes = st.none() | st.lists(
    st.sampled_from(["a", "b", "0", "1", "2", "true", "False", "no"]), min_size=2, max_size=3, unique=True
)
endings, kinds = st.sampled_from(list(FILES)), st.sampled_from(list(KINDS))
many = settings(max_examples=400, suppress_health_check=list(HealthCheck))


@many
@given(endings, kinds, classes, st.data())
def test_any_rows(ending: str, kind: str, names: list[str] | None, data: st.DataObject) -> None:
    content = data.draw(FILES[ending])
    other = data.draw(FILES[ending] | st.just(content))
    others = {"classes": names} if names and kind == "classification" else {}
    check(told(kind, ending, content, other, **others))


@many
@given(endings, kinds, st.data())
def test_any_damage(ending: str, kind: str, data: st.DataObject) -> None:
    content = data.draw(FILES[ending])
    check(told(kind, ending, data.draw(damaged(content)), content))


@many
@given(
    st.sampled_from([*FILES, ".txt"]),
    kinds,
    st.binary(max_size=60) | st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace")),
)
def test_any_bytes(ending: str, kind: str, content: bytes) -> None:
    check(told(kind, ending, content, content))


def good(ending: str) -> bytes:
    """A file that every kind but span reads."""
    columns: dict[str, list[Any]] = {"text": ["x", "y"], "other": ["z", "w"], "label": [0, 1]}
    if ending == ".jsonl":
        return "".join(
            json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in zip(*columns.values(), strict=True)
        ).encode()
    if ending == ".parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink)
        return sink.getvalue().to_pybytes()
    separator = "," if ending == ".csv" else "\t"
    return "\n".join(separator.join(map(str, row)) for row in [columns, *zip(*columns.values(), strict=True)]).encode()


def test_the_check_reads_what_is_good() -> None:
    """Else the tests above would test nothing."""
    for ending in FILES:
        assert [told(kind, ending, good(ending), good(ending)) for kind in ("classification", "regression", "text")] == [
            None
        ] * 3
        assert (told("classification", ending, good(ending)[:-3], good(ending)) is None) == (ending == "")
