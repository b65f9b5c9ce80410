"""`espalier new-task`: from data files of many forms to tasks, and into a configuration whose comments stay."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from espalier.__main__ import COMMANDS, main
from espalier.config import parse
from espalier.data.guessing import kinds
from espalier.data.guessing.config_file import with_task
from tests import data_files
from tests.data_files import FILES, REAL, SPLIT, DataFile, as_csv, sentence

REAL_DATA = Path(__file__).parents[3] / "shared/data"
CONFIG = """\
# A study of mine.
project: mine

bases:
  tiny: {source: local, path: tiny}   # two layers

tasks:
  first:                       # the one that matters
    kind: classification
    source: files
    train: a.csv
    validation: b.csv
    text: [text]
    label: label
    metric: accuracy
    # max_length: 64

# Nothing is removed.
plans:
  dense: {method: dense, epochs: 1.0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def run(*arguments: object) -> int:
    return main(["new-task", *map(str, arguments)])


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict, str, str]:
    """Name and keys of the task that was printed, the text itself, and what was said beside it."""
    out, err = capsys.readouterr()
    ((name, keys),) = yaml.safe_load(out)["tasks"].items()
    return name, keys, out, err


def test_it_is_a_command() -> None:
    assert COMMANDS["new-task"].name == "new_task.py"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_becomes_a_task(file: DataFile, folder: Path, capsys) -> None:
    data_files.write(folder, file)
    assert run(file.name) == 0
    _, keys, text, said = printed(capsys)
    assert {key: keys.get(key) for key in file.keys} == file.keys
    lines = [line.strip() for line in text.splitlines()]
    unsure = {lines[place + 1].split(":")[0] for place, line in enumerate(lines) if line.startswith("# unsure: ")}
    assert unsure == set(file.doubts), "each doubt stands above the one line that says otherwise"
    assert all(f"unsure of {key}: " in said for key in file.doubts)
    config = yaml.safe_load(CONFIG)
    parse({**config, "tasks": {**config["tasks"], "new": keys}})


@pytest.mark.parametrize("name", REAL)
def test_a_real_file_becomes_a_task(name: str, folder: Path, capsys) -> None:
    if not (REAL_DATA / name).is_file():
        pytest.skip(f"{REAL_DATA / name} is not on this machine")
    assert run(REAL_DATA / name) == 0
    task, keys, _, _ = printed(capsys)
    wanted = REAL[name]
    assert {key: keys.get(key) for key in wanted} == wanted
    folder_name = name.split("/")[0].replace("_", "-")
    assert task in (folder_name, f"{folder_name}-files", f"{folder_name}-en"), "no known name, which brings keys of its own"
    validation = REAL_DATA / name.replace("train", "validation")
    assert (
        Path(keys["validation"]).samefile(validation)
        if validation.is_file()
        else keys["validation"].endswith("train.validation.parquet")
    )


def test_a_task_is_added_and_comments_stay(folder: Path, capsys) -> None:
    data_files.write(folder, FILES[0])
    assert run("reviews.csv", "--write") == 0
    text = (folder / "config.yaml").read_text()
    _, keys, block, _ = printed(capsys)
    before, _, after = CONFIG.partition("    # max_length: 64\n")
    assert text == before + "    # max_length: 64\n" + block.removeprefix("tasks:\n") + after
    assert keys["train"] == "reviews.train.csv" and parse(yaml.safe_load(text)).tasks["reviews"].metric == "accuracy"


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.name in ("reviews.csv", "nli.tsv", "asked.jsonl", "spam.parquet", "tagged.csv")]
)
def test_a_single_file_is_divided_and_no_row_is_lost(file: DataFile, folder: Path, capsys) -> None:
    path = data_files.write(folder, file)
    assert run(file.name, "--write") == 0
    parts = [path.with_name(f"{path.stem}.{split}{path.suffix}") for split in ("train", "validation")]
    whole, train, validation = (content(each) for each in (path, *parts))
    assert sorted(train + validation) == sorted(whole) and 0 < len(validation) <= 0.2 * len(whole)
    assert [row for row in whole if row in set(train)] == train, "rows stay in order, and as they are"


def content(path: Path) -> list[str]:
    if path.suffix == ".parquet":
        return [json.dumps(row) for row in pq.read_table(path).to_pylist()]
    return path.read_text().splitlines()[0 if path.suffix == ".jsonl" else 1 :]


def test_equal_texts_stay_on_one_side_and_every_class_is_trained(folder: Path) -> None:
    rows = [{"text": sentence(row % 30), "label": "rare" if row % 30 == 29 else ("a", "b")[row % 2]} for row in range(90)]
    as_csv(rows)(folder / "twice.csv")
    assert run("twice.csv", "--write") == 0
    train, validation = (content(folder / f"twice.{split}.csv") for split in ("train", "validation"))
    assert not set(train) & set(validation) and any(line.endswith(",rare") for line in train)


def test_texts_of_a_query_stay_on_one_side(folder: Path) -> None:
    data_files.write(folder, next(file for file in FILES if file.name == "searches.csv"))
    assert run("searches.csv", "--write") == 0
    train, validation = (
        {line.split(",")[0] for line in content(folder / f"searches.{split}.csv")} for split in ("train", "validation")
    )
    assert validation and not train & validation


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (CONFIG.replace("\n", "\r\n"), "\r\n  reviews:\r\n    kind: classification\r\n"),
        ("project: mine\nbases: {t: {source: local, path: t}}\nplans: {}\n", "\n\ntasks:\n  reviews:\n"),
        (
            "tasks:\n\n      sst2:\n        rows: 9\nproject: mine\nbases: {t: {source: local, path: t}}\nplans: {}\n",
            "rows: 9\n      reviews:\n",
        ),
        ("project: mine\nbases: {t: {source: local, path: t}}\nplans: {}\ntasks:\n  sst2:", "\n  sst2:\n  reviews:\n"),
    ],
    ids=["Windows line ends", "no tasks yet", "wide indent", "last line without an end"],
)
def test_configurations_of_other_forms_take_a_task(config: str, wanted: str, folder: Path) -> None:
    data_files.write(folder, FILES[0])
    (folder / "config.yaml").write_bytes(config.encode())
    assert run("reviews.csv", "--write") == 0
    text = (folder / "config.yaml").read_bytes().decode()
    assert wanted in text and set(yaml.safe_load(text)["tasks"]) == {*(yaml.safe_load(config).get("tasks") or {}), "reviews"}
    assert text.replace(wanted.split("reviews")[0], "") != text


def test_odd_names_survive_yaml(folder: Path) -> None:
    keys = {
        **yaml.safe_load(CONFIG)["tasks"]["first"],
        "train": "a #1: b.csv",
        "label": "yes",
        "text": ["true", "1e3", "ünï 'q'"][2:],
    }
    text = with_task(folder / "config.yaml", "odd", keys, {})
    assert yaml.safe_load(text)["tasks"]["odd"] == keys


# What users may get wrong: one sentence each, and nothing is written.


def refused(capsys, *arguments: object) -> str:
    before = {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()}
    assert run(*arguments) == 1
    assert {path: path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()} == before
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("new-task: ") and "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("none.csv", None, "there is no such file"),
        ("rows.xlsx", b"PK", "got the ending '.xlsx'; allowed: .parquet, .csv"),
        ("empty.csv", b"", "the first line is empty; a line of column names is needed"),
        ("head.csv", b"text,label\n", "got 0 rows; at least 1 is needed"),
        ("semicolons.csv", b"text;label\na b c;x\n", "fields seem to be separated by ';'; .csv needs a comma"),
        ("commas.tsv", b"text,label\na b c,x\n", "fields seem to be separated by ','; .tsv needs a tab"),
        ("twice.csv", b"text,text\na,b\n", "the column 'text' occurs 2 times; rename one"),
        ("unnamed.csv", b"text,\na,b\n", "a column has no name"),
        ("latin.csv", "text,label\nné,x\n".encode("latin-1"), "not UTF-8"),
        ("damaged.parquet", b"PAR1 no PAR1", "cannot be read as parquet"),
        ("damaged.jsonl", b'{"text": "a"}\n{"text": \n', "data row 2: is not JSON"),
        ("ragged.csv", b"text,label\na,b,c\n", "data row 1: got 3 fields; 2 are needed"),
        ("numbers.csv", b"x,y\n1,2\n3,4\n", "no column of text; columns: x (number), y (number)"),
        ("constant.csv", b"text,label\n" + b"some words here,same\n" * 20, "column 'label' has one value in all rows, 'same'"),
        (
            "no-names.csv",
            b"green hills,pos\n" + b"old trees,neg\nhigh walls,pos\n" * 9,
            "first line seems to be a row: 'pos' is also",
        ),
        ("words.conll", b"Ada\nwrote\n", "no line has a word and a tag"),
        ("empty.txt", b"\n", "the file is empty; text is needed"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and " " not in value else "",
)
def test_a_file_that_holds_no_task_is_refused(name: str, data: bytes | None, message: str, folder: Path, capsys) -> None:
    if data is not None:
        (folder / name).write_bytes(data)
    assert message in refused(capsys, name)


def test_lists_of_tags_need_a_version_with_that_kind(folder: Path, capsys, monkeypatch) -> None:
    pq.write_table(pa.table({"tokens": [["a", "b"], ["c"]], "tags": [[0, 1], [2]]}), folder / "tags.parquet")
    known = {name: rules for name, rules in kinds.KIND_RULES.items() if name != "tokens"}
    monkeypatch.setattr(kinds, "KIND_RULES", known)
    assert "the file has a tag for every word, which is kind tokens" in refused(capsys, "tags.parquet")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "config.yaml: there is no such file; --config names the configuration"),
        ("project: [", "this is not YAML"),
        ("- a\n", "got list; a configuration with a block `tasks` is needed"),
        ("project: mine\ntasks: {sst2: {}}\n", "line 2: the tasks stand in braces; write one task a line"),
        ("project: mine\ntasks: {}\n", "line 2: write `tasks:` without braces"),
        ("project: mine\ntasks: [sst2]\n", "tasks: got list; a block of tasks is needed"),
        (CONFIG.replace("  first:", "  reviews:"), "there is a task 'reviews' already; --name gives another"),
        (CONFIG.replace("method: dense", "method: densed"), "with the new task would have problems, so it stays as it is"),
    ],
    ids=["missing", "no YAML", "a list", "braces", "empty braces", "tasks a list", "name taken", "not valid"],
)
def test_a_configuration_that_takes_no_task_is_refused(config: str | None, message: str, folder: Path, capsys) -> None:
    data_files.write(folder, FILES[0])
    Path("config.yaml").unlink() if config is None else Path("config.yaml").write_text(config)
    assert message in refused(capsys, "reviews.csv", "--write")


def test_wrong_names_and_rows_that_cannot_be_divided_are_refused(folder: Path, capsys) -> None:
    data_files.write(folder, FILES[0])
    assert "--name: got 'Not Good'; allowed: lower-case letters" in refused(capsys, "reviews.csv", "--name", "Not Good")
    Path("few.csv").write_text("text,label\n" + "".join(f"some words {row},{'ab'[row % 2]}\n" for row in range(6)))
    assert "few.csv: got 6 rows; at least 10 are needed" in refused(capsys, "few.csv", "--write")
    Path("alone.txt").write_text("One.\n\nTwo.\n")
    assert ".txt files are not divided here" in refused(capsys, "alone.txt")
    as_csv(SPLIT)(folder / "split.csv")
    Path("split.train.csv").write_text("text,label\n")
    assert "split.train.csv: is there already" in refused(capsys, "split.csv", "--write")
