"""Copies of Snakemake's notes beside the results that they describe, and results without a note.

Snakemake keeps its notes on all projects in one folder, which DVC replaces as a whole: at a checkout of a version that does
not know a project, the project's results stay and their notes go. The copies lie in `results/{project}/records/snakemake/`,
travel with the results, and are brought back when a workflow is planned. A job's own record tells which note is on the job that
wrote a file last: its end lies between the note's beginning and end. Results that still have no note are not done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from espalier.provenance.job_records import METADATA, RECORDS, SLACK_SECONDS, described_by, finished_times
from espalier.runtime.files import atomic

NOTES = f"{RECORDS}/snakemake"


def keep_notes(root: str) -> None:
    """Copy the notes on a project's results beside them, and remove copies of notes on files that are gone."""
    kept = Path(root, NOTES)
    for name in _names(METADATA):
        output, copy = described_by(name), kept / name
        if not output.startswith(f"{root}/") or not Path(output).exists():
            continue
        note = (METADATA / name).read_bytes()
        if not copy.is_file() or copy.read_bytes() != note:
            _write(copy, note)

    for name in _names(kept):
        if not Path(described_by(name)).exists():
            (kept / name).unlink()


def bring_back_notes(root: str) -> None:
    """Copy back the notes that Snakemake lost, and those that it has of another job than the one that wrote what is there."""
    kept = Path(root, NOTES)
    doubtful = [
        name for name in _names(kept) if Path(described_by(name)).exists() and _is_doubtful(METADATA / name, kept / name)
    ]
    finished = finished_times(root) if doubtful else {}

    for name in doubtful:
        note, copy, ended = METADATA / name, (kept / name).read_bytes(), finished.get(described_by(name))
        if note.exists() and _is_of_last_job(note.read_bytes(), ended):
            continue
        if _is_of_last_job(copy, ended):
            _write(note, copy)
        else:
            note.unlink(missing_ok=True)


def _is_doubtful(note: Path, copy: Path) -> bool:
    """Whether a note is lost, or was written after its copy and differs from it."""
    if not note.exists():
        return True
    return note.stat().st_mtime_ns > copy.stat().st_mtime_ns and note.read_bytes() != copy.read_bytes()


def without_note(outputs: Iterable[str]) -> list[str]:
    """The outputs that are there although Snakemake knows no job that wrote them."""
    described = {described_by(name) for name in _names(METADATA)}
    return [output for output in outputs if output not in described and Path(output).exists()]


def has_more_files_than_notes(root: str) -> bool:
    """Whether there are files in a project's folder that no note describes."""
    described = {described_by(name) for name in _names(METADATA)}
    folders = (name for name in _names(Path(root)) if not name.startswith(f"{RECORDS}/"))
    return any(f"{root}/{name}" not in described for name in folders)


def _is_of_last_job(note: bytes, finished: float | None) -> bool:
    """Whether a note is on the job that, by its own record, wrote an output last; `finished` is None without a record."""
    try:
        content = json.loads(note)
        began, ended = content["starttime"] - SLACK_SECONDS, content["endtime"] + SLACK_SECONDS
    except (ValueError, KeyError, TypeError):
        return False
    return finished is None or began <= finished <= ended


def _names(folder: Path) -> Iterator[str]:
    """Paths of all files below a folder, relative to it; none where there is no such folder."""
    start = len(str(folder)) + 1
    for place, _, files in os.walk(folder):
        yield from (f"{place}/{file}"[start:] for file in files)


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)
