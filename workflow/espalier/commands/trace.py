"""Say what an artefact was made from, job by job, back to data and base."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from espalier.provenance.job_records import Job, from_here, known_digests, read_jobs, read_records
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, sha256

TOLD = ("device", "precision", "threads", "train_seconds", "steps", "resumed_at")
"""What run.json or cost.json says about how the job ran, if it wrote one."""


def main(arguments: Sequence[str]) -> int:
    """Print all that the artefact goes back to."""
    parser = ArgumentParser("python -m espalier trace", description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="file under results/, or folder: all that was written there")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    options = parser.parse_args(arguments)
    story = trace(from_here(options.path))
    print(json.dumps(story, indent=2) if options.json else as_text(story))
    return 0


def trace(path: str) -> dict[str, Any]:
    """The artefact's files, the jobs that led to them, the last one first, and the sources that no job made.

    Raises:
        UserError: no job wrote such a file.
    """
    jobs = read_jobs()
    records = read_records(jobs)
    known = known_digests(jobs, records)
    wanted = [output for output in jobs if Path(output).is_relative_to(path)]
    if not wanted:
        raise UserError(f"{path}: no job wrote it; a file or folder under results/ is needed, as the repository names it")
    line = ancestry(wanted, jobs)
    return {
        "files": [_file(output, known[output]) for output in wanted],
        "jobs": [_told(job, records) for job in line],
        "sources": {source: digest for job in line for source, digest in job.inputs.items() if source not in jobs},
    }


def ancestry(outputs: Sequence[str], jobs: Mapping[str, Job]) -> list[Job]:
    """The jobs behind some outputs, each before all that it builds on."""
    found: dict[str, Job] = {}

    def visit(output: str) -> None:
        job = jobs.get(output)
        if job and job.outputs[0] not in found:
            for source in job.inputs:
                visit(source)
            found[job.outputs[0]] = job

    for output in outputs:
        visit(output)
    return list(reversed(found.values()))


def as_text(story: Mapping[str, Any]) -> str:
    """The same for people; digests are cut to 12 digits."""
    files = [f"{file['path']}  sha256 {_short(file['sha256'])}, {file['is']}" for file in story["files"]]
    sources = [f"  {source}  {_short(digest)}" for source, digest in story["sources"].items()]
    return "\n".join([*files, *(_paragraph(job) for job in story["jobs"]), "", "sources that no job made", *sources])


def _file(path: str, known: str) -> dict[str, str]:
    if not Path(path).is_file():
        return {"path": path, "sha256": known, "is": "not here"}
    digest = sha256(Path(path))
    state = "as recorded" if digest == known else "not what its job wrote" if known else "no digest recorded"
    return {"path": path, "sha256": digest, "is": state}


def _told(job: Job, records: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """All that is known about a job."""
    settings = json.loads(job.settings)
    said = _said(job)
    record = next((records[output] for output in job.outputs if output in records), said)
    return {
        "rule": job.rule,
        "outputs": job.outputs,
        "inputs": job.inputs,
        "settings": settings,
        "code_sha256": job.code,
        "seed": settings.get("seed"),
        "started": datetime.fromtimestamp(job.started, UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(job.ended - job.started, 1),
        "git_commit": record.get("git_commit"),
        "versions": record.get("versions", {}),
        **{name: said[name] for name in TOLD if name in said},
    }


def _said(job: Job) -> dict[str, Any]:
    """What the job itself reports of device and training."""
    own = [Path(output) for output in job.outputs if Path(output).name in ("run.json", "cost.json")]
    return read_json(own[0]) if own and own[0].is_file() else {}


def _paragraph(job: Mapping[str, Any]) -> str:
    ran = [f"{job['wall_seconds']} s", job["started"], *(f"{name} {job[name]}" for name in TOLD if job.get(name))]
    pairs = {
        "made": job["outputs"],
        "from": [f"{path}  {_short(digest)}" for path, digest in job["inputs"].items()],
        "settings": yaml.safe_dump(job["settings"], sort_keys=False, width=110).splitlines(),
        "code": [job["code_sha256"][:12]],
        "ran": [", ".join(ran)],
        "commit": [job["git_commit"] or "not noted"],
        "versions": [", ".join(f"{name} {version}" for name, version in job["versions"].items()) or "not noted"],
    }
    lines = [f"  {name if not index else '':<9} {line}" for name, lines in pairs.items() for index, line in enumerate(lines)]
    return "\n".join(["", job["rule"], *lines])


def _short(digest: str) -> str:
    return digest[:12] or "no digest noted"
