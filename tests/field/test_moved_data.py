"""Data that lie in another folder are the same data: nothing is made from them again."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

import pytest

from tests.conftest import MINILM, Clone
from tests.field.files import write

CARDS = {"card teacher 0", "card magnitude 50"}


def study(folder: str, ending: str = ".csv") -> dict[str, Any]:
    """A study on files in a folder: one task with labels, and a corpus."""
    sets = {name: f"{folder}/{name}{ending}" for name in ("easy", "hard")}
    rows = {"source": "files", "train": f"{folder}/train{ending}", "validation": sets, "text": ["text"]}
    return {
        "project": "moved",
        "rivals": {"linear": False},
        "deploy": {"formats": []},
        "bases": {"minilm": MINILM},
        "tasks": {
            "mine": {"kind": "classification", "label": "label", "metric": "accuracy", **rows},
            "words": {"kind": "text", **rows},
        },
        "plans": {"magnitude": {"method": "magnitude", "path": [0.5]}},
    }


def write_all(clone: Clone, folder: str, ending: str = ".csv") -> None:
    for number, split in enumerate(("train", "easy", "hard")):
        columns = {"text": [f"{split} {row}" for row in range(2 + number)], "label": ["a", "b", "a", "b"][: 2 + number]}
        write(clone.folder / folder / f"{split}{ending}", columns)


@pytest.fixture(scope="module")
def _done(make_clone, tmp_path_factory) -> Clone:
    clone = make_clone(tmp_path_factory.mktemp("moved") / "clone")
    write_all(clone, "data/old")
    clone.write_config(study("data/old"))
    clone.pretend_all()
    return clone


@pytest.fixture
def done(_done, tmp_path) -> Clone:
    """A clone in which every job of the study has been done, by a stand-in."""
    return _done.copied_to(tmp_path / "elsewhere")


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied with new times"])
def test_the_same_files_in_another_folder_train_nothing(done, copied) -> None:
    """Where the top part of a path changed, everything ran again. khanlab/snakebids#180"""
    (done.folder / "else").mkdir()
    if copied:
        shutil.copytree(done.folder / "data/old", done.folder / "else/new", copy_function=shutil.copyfile)
    else:
        (done.folder / "data/old").rename(done.folder / "else/new")
    done.write_config(study("else/new"))
    assert done.jobs() == CARDS

    # an absolute path is another name, too; and what ran is done
    done.write_config(study(str(done.folder / "else/new")))
    assert done.jobs() == CARDS
    assert done.snakemake("--cores", "2", "--quiet").returncode == 0
    assert done.jobs() == set()


def test_another_edit_at_the_same_time_is_seen(done) -> None:
    """Own audit."""
    (done.folder / "data/old").rename(done.folder / "data/new")
    config = study("data/new")
    config["plans"]["magnitude"]["learning_rate"] = 1.0e-4
    done.write_config(config)
    after = {f"{rule} magnitude 50" for rule in ("compress", "recover", "export", "evaluate", "measure")}
    assert done.jobs() == CARDS | after | {"table", "report"}


@pytest.mark.parametrize("file", ["train.csv", "hard.csv"])
@pytest.mark.parametrize("older", [False, True])
def test_other_rows_run_what_reads_them(done, file, older) -> None:
    """Also where the new file is older than the results: content decides, not time. Own audit."""
    path = done.folder / "data/old" / file
    path.write_text(path.read_text() + "one more,a\n")
    if older:
        os.utime(path, (1, 1))
    jobs = done.jobs()
    assert {"prepare", "tokenise", "pack", "finetune", "pretrain", "compress magnitude 50"} <= jobs and "fetch" not in jobs


def test_files_that_swap_their_places_are_other_rows(done) -> None:
    """Own audit."""
    easy, hard = (done.folder / f"data/old/{name}.csv" for name in ("easy", "hard"))
    first, second = easy.read_text(), hard.read_text()
    easy.write_text(second)
    hard.write_text(first)
    assert "prepare" in done.jobs()


def test_what_jobs_read_names_no_folder(clone) -> None:
    """Nor does what the rows' job is compared by."""
    write_all(clone, "data/secret-place")
    clone.write_config(study("data/secret-place"))
    result = clone.snakemake("--cores", "1", "--quiet", "--until", "prepare")
    assert result.returncode == 0, result.stderr
    prepared = sorted((clone.folder / "results/moved/prepared").rglob("*.*"))
    assert len(prepared) == 6 and not [path for path in prepared if b"secret-place" in path.read_bytes()]
    notes = [json.loads(path.read_text()) for path in (clone.folder / ".snakemake/metadata").iterdir()]
    assert notes and "secret-place" not in json.dumps([[note["params"], note["input"]] for note in notes]), "its command does"
