"""Snakemake's notes are kept beside the results, and come back when they were lost or belong to another job."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from pathlib import Path

import pytest

from espalier.provenance.job_records import METADATA
from espalier.provenance.kept_notes import NOTES, bring_back_notes, has_more_files_than_notes, keep_notes, without_note

ROOT = "results/mine"
OUTPUT = f"{ROOT}/tiny/seed42/run.json"
NAME = urlsafe_b64encode(OUTPUT.encode()).decode()
NOTE, COPY = METADATA / NAME, Path(ROOT, NOTES, NAME)


def note(began: float, **more: object) -> str:
    return json.dumps({"starttime": began, "endtime": began + 10, **more})


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """One result, Snakemake's note on its job, and the job's own record."""
    monkeypatch.chdir(tmp_path)
    for path, text in {OUTPUT: "{}", str(NOTE): note(100.0)}.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    ended(109.0)
    keep_notes(ROOT)


def ended(when: float) -> None:
    """The job's record says that it ended then."""
    record = Path(ROOT, "records/compress/tiny.json")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"outputs": {OUTPUT: "0"}, "finished": datetime.fromtimestamp(when, UTC).isoformat()}))


def test_a_note_is_copied_and_brought_back():
    assert COPY.read_text() == note(100.0) and not has_more_files_than_notes(ROOT)
    NOTE.unlink()
    assert has_more_files_than_notes(ROOT) and without_note([OUTPUT, "results/mine/missing"]) == [OUTPUT]
    bring_back_notes(ROOT)
    assert NOTE.read_text() == note(100.0) and not has_more_files_than_notes(ROOT)


def test_a_note_in_folders_too():
    """Snakemake cuts a name that is too long for the file system."""
    output = f"{ROOT}/{'x' * 90}/{'y' * 90}"
    name = urlsafe_b64encode(output.encode()).decode()
    parts = METADATA / f"@{name[:100]}" / name[100:]
    for path in (Path(output), parts):
        path.parent.mkdir(parents=True)
        path.write_text(note(100.0))
    keep_notes(ROOT)
    parts.unlink()
    bring_back_notes(ROOT)
    assert parts.exists()


def test_a_copy_of_an_earlier_job_is_not_brought_back():
    """The job ran again, was killed before its note was copied, and the note is gone."""
    NOTE.unlink()
    ended(209.0)
    bring_back_notes(ROOT)
    assert not NOTE.exists() and without_note([OUTPUT]) == [OUTPUT]


@pytest.mark.parametrize(
    ("last", "left"), [(109.0, note(100.0)), (209.0, note(200.0)), (309.0, None)], ids=["as copied", "as noted", "neither"]
)
def test_of_two_notes_the_one_on_the_last_job_counts(last, left):
    """A checkout has put the note of another version into place."""
    NOTE.write_text(note(200.0))
    os.utime(NOTE, (2e9, 2e9))
    ended(last)
    bring_back_notes(ROOT)
    assert (NOTE.read_text() if NOTE.exists() else None) == left


def test_other_projects_and_files_that_are_gone_are_left_alone():
    other = METADATA / urlsafe_b64encode(b"results/other/run.json").decode()
    other.write_text(note(100.0))
    keep_notes(ROOT)
    assert [path.name for path in Path(ROOT, NOTES).iterdir()] == [NAME]
    Path(OUTPUT).unlink()
    keep_notes(ROOT)
    assert not COPY.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"starttime": null}'])
def test_a_damaged_note_is_no_note(text):
    COPY.write_text(text)
    NOTE.unlink()
    bring_back_notes(ROOT)
    assert not NOTE.exists()


def test_where_nothing_is_there_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "results")
    bring_back_notes(ROOT)
    keep_notes(ROOT)
    assert not has_more_files_than_notes(ROOT)
