"""Records of jobs: digests of a job's outputs, written when it ends, read by the commands `trace` and `verify`.

Snakemake notes for every output which rule, settings, code and inputs made it, and the digests of those inputs. It notes
neither the digests of the outputs nor versions and commit. These records add them. They lie in
`results/{project}/records/`, so they travel with the results.
"""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from espalier.provenance.code_digest import package_digest
from espalier.provenance.row_contents import named_files
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, sha256, sha256_text, write_json

RESULTS = "results"
RECORDS = "records"
METADATA = Path(".snakemake/metadata")
"""Where Snakemake keeps a record of every output; the folder is versioned by DVC, too."""
SLACK_SECONDS = 1.0
"""Snakemake and the job take the time at different moments."""
VERSIONED_LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "datasets",
    "pyarrow",
    "numpy",
    "onnx",
    "onnxruntime",
)
"""Libraries that results depend on; a record gives the versions of those that the job has loaded."""


@dataclass(frozen=True)
class Job:
    """Snakemake's notes on one job."""

    rule: str
    settings: str
    """The spec that the stage read, as JSON."""
    code: str
    """Digest of the stage's code."""
    inputs: dict[str, str]
    """Path → SHA-256; empty where Snakemake noted none."""
    outputs: tuple[str, ...]
    started: float
    ended: float
    """Seconds since 1970."""


@contextmanager
def job_record(stage: str, paths: Iterable[Path], spec: str = "") -> Iterator[None]:
    """Write the record of the job that runs in this block, once the block has ended well.

    Args:
        stage: name of the job's stage.
        paths: files that the job reads or writes. The record lists those under results/ that the block wrote.
        spec: the job's part of the configuration, as JSON.
    """
    before, package = {path: _state(path) for path in paths}, package_digest()

    yield

    candidates = [path for path in before if path.parts[:1] == (RESULTS,) and len(path.parts) > 2]
    written = [path for path in candidates if path.is_file() and _state(path) != before[path]]
    if not written:
        return
    record = {
        "stage": stage,
        "spec_sha256": sha256_text(spec),
        "package": package,
        "inputs": {str(path): state[1:] for path, state in sorted(before.items()) if state and path not in written},
        "outputs": {str(path): sha256(path) for path in sorted(written)},
        "versions": package_versions(name for name in VERSIONED_LIBRARIES if name in sys.modules),
        "git_commit": git_commit(),
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    write_json(record_path(stage, written), record)


def record_path(stage: str, outputs: Iterable[Path]) -> Path:
    """Path of a job's record: named after its stage, then the folder that its outputs share, or its only output."""
    common = Path(os.path.commonpath(list(outputs)))

    results, project, *rest = common.parts
    path = Path(results, project, RECORDS, stage, *rest)
    return path.with_name(f"{path.name}.json")


def read_records(jobs: Mapping[str, Job]) -> dict[str, dict[str, Any]]:
    """Output → record of the job that wrote it, for all projects under results/.

    A record that is older than Snakemake's is left out: the file has since come from the cache between workflows.
    """
    last = {output: record for root in sorted(Path(RESULTS).glob("*")) for output, record in _last_records(root).items()}

    return {
        output: record
        for output, record in last.items()
        if output in jobs and datetime.fromisoformat(record["finished"]).timestamp() >= jobs[output].started - SLACK_SECONDS
    }


def vouched(root: str, specs: Mapping[str, str]) -> set[str]:
    """The outputs that the jobs that are wanted now have made, by the jobs' own records.

    Same part of the configuration, same code of the package, inputs as the job found them and outputs as it left them. What
    Snakemake does not know, because it was killed while the job ran, is known here.

    Args:
        root: the project's folder.
        specs: output → part of the configuration that its job would read now, as JSON.
    """
    records = _last_records(Path(root))
    return {output for output, spec in specs.items() if output in records and _made(records[output], output, spec)}


def _made(record: Mapping[str, Any], output: str, spec: str) -> bool:
    if (record.get("spec_sha256"), record.get("package")) != (sha256_text(spec), package_digest()):
        return False

    # Snakemake sets an output's time when the job has ended, so of outputs the content is compared.
    states = {path: _state(Path(path)) for path in record["inputs"]}
    unchanged = all(state and list(state[1:]) == record["inputs"][path] for path, state in states.items())
    return unchanged and sha256(Path(output)) == record["outputs"][output]


def finished_times(root: str) -> dict[str, float]:
    """Output → when the job that wrote it last ended, by its own record, in seconds since 1970."""
    records = _last_records(Path(root)).items()
    return {output: datetime.fromisoformat(record["finished"]).timestamp() for output, record in records}


def _last_records(root: Path) -> dict[str, dict[str, Any]]:
    """Output → record, for a project's folder."""
    last: dict[str, dict[str, Any]] = {}
    for path in sorted(root.glob(f"{RECORDS}/**/*.json")):
        record = read_json(path)
        last |= dict.fromkeys(record["outputs"], record)
    return last


def read_jobs() -> dict[str, Job]:
    """Output → job, as Snakemake noted them.

    Raises:
        UserError: there are no notes of Snakemake here.
    """
    if not METADATA.is_dir():
        raise UserError(f"{METADATA.absolute()}: no such folder; stay in the repository and run snakemake or dvc pull first")

    notes = {
        described_by(str(path.relative_to(METADATA))): read_json(path) for path in sorted(METADATA.rglob("*")) if path.is_file()
    }
    # outputs of one job share its log file
    by_log: dict[str, list[str]] = {}
    for output, note in notes.items():
        by_log.setdefault(note["log"][0], []).append(output)

    return {output: _job(note, tuple(sorted(by_log[note["log"][0]]))) for output, note in notes.items()}


def known_digests(jobs: Mapping[str, Job], records: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Artefact → SHA-256, as noted by the job that wrote it, else by the last one that read it; empty where neither did."""
    read: dict[str, str] = {}
    for job in sorted(jobs.values(), key=lambda job: job.started):
        read |= job.inputs

    written = {path: record["outputs"][path] for path, record in records.items()}
    return {path: written.get(path) or read.get(path, "") for path in jobs}


def from_here(path: Path) -> str:
    """A path as records write it: relative to the repository, where commands are run."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def git_commit() -> str | None:
    """The commit of the working folder, with '+' where tracked files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    # --dirty refreshes the index; without its lock, so that no other git command is disturbed
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}

    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of installed packages."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def _state(path: Path) -> tuple[int, int, int] | None:
    """Inode, time of change and size of a file, one of which differs whenever the file is written anew; None without file."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def described_by(name: str) -> str:
    """The output that a note of Snakemake describes: the note's path below its folder is the output's path in base64.

    Snakemake cuts a long name into folders, whose names begin with '@'.
    """
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in name.split("/"))).decode()


def _job(note: dict[str, Any], outputs: tuple[str, ...]) -> Job:
    """The job that a note of Snakemake describes."""
    # parameters are noted without their names: the spec is a JSON object, the code is 64 hexadecimal digits
    parameters = [str(ast.literal_eval(text)) for text in note["params"]]
    settings = next((text for text in parameters if text.startswith("{")), "{}")
    data: dict[str, str] = {}
    if note["rule"] == "prepare":
        settings, data = named_files(settings, note.get("shellcmd") or "")
    checksums = {path: digest.removeprefix("sha256:") for path, digest in (note["input_checksums"] or {}).items()}

    return Job(
        rule=note["rule"],
        settings=settings,
        code=next((text for text in parameters if len(text) == 64 and set(text) <= set("0123456789abcdef")), ""),
        inputs={path: checksums.get(path, "") for path in sorted(note["input"])} | data,
        outputs=outputs,
        started=note["starttime"],
        ended=note["endtime"],
    )
