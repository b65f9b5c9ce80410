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

RUN_DETAILS = ("device", "precision", "threads", "train_seconds", "steps", "resumed_at")
"""Keys of run.json and cost.json that say how a job ran."""


def main(arguments: Sequence[str]) -> int:
    """Print the artefact's files, the jobs that led to them and their sources."""
    parser = ArgumentParser("python -m espalier trace", description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="file under results/, or folder: all that was written there")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    options = parser.parse_args(arguments)

    story = trace(from_here(options.path))
    print(json.dumps(story, indent=2) if options.json else trace_text(story))
    return 0


def trace(path: str) -> dict[str, Any]:
    """The artefact's files, the jobs that led to them (the last one first), and the sources that no job made.

    Args:
        path: file or folder under results/, as records write it.

    Raises:
        UserError: no job wrote such a file.
    """
    jobs = read_jobs()
    records = read_records(jobs)
    known = known_digests(jobs, records)
    wanted = [output for output in jobs if Path(output).is_relative_to(path)]
    if not wanted:
        raise UserError(f"{path}: no job wrote it; a file or folder under results/ is needed, as the repository names it")

    ancestors = ancestry(wanted, jobs)
    sources: dict[str, str] = {}
    for job in ancestors:
        sources |= {source: digest for source, digest in job.inputs.items() if source not in jobs}
    return {
        "files": [_file_state(output, known[output]) for output in wanted],
        "jobs": [_job_details(job, records) for job in ancestors],
        "sources": sources,
    }


def ancestry(outputs: Sequence[str], jobs: Mapping[str, Job]) -> list[Job]:
    """The jobs behind some outputs, each before the jobs whose outputs it reads."""
    visited: dict[str, Job] = {}

    # depth first: a job is added after all jobs that it builds on, so the reversed order is the one wanted
    def visit(output: str) -> None:
        job = jobs.get(output)
        if job and job.outputs[0] not in visited:
            for source in job.inputs:
                visit(source)
            visited[job.outputs[0]] = job

    for output in outputs:
        visit(output)
    return list(reversed(visited.values()))


def trace_text(story: Mapping[str, Any]) -> str:
    """A trace as text for people; digests are cut to 12 digits."""
    files = [f"{file['path']}  sha256 {_digest_prefix(file['sha256'])}, {file['is']}" for file in story["files"]]
    sources = [f"  {source}  {_digest_prefix(digest)}" for source, digest in story["sources"].items()]
    return "\n".join([*files, *(_paragraph(job) for job in story["jobs"]), "", "sources that no job made", *sources])


def _file_state(path: str, known: str) -> dict[str, str]:
    if not Path(path).is_file():
        return {"path": path, "sha256": known, "is": "not here"}

    digest = sha256(Path(path))
    state = "as recorded" if digest == known else "not what its job wrote" if known else "no digest recorded"
    return {"path": path, "sha256": digest, "is": state}


def _job_details(job: Job, records: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Everything that is known about a job."""
    settings = json.loads(job.settings)
    report = _own_report(job)
    # run.json names commit and versions too, should the record be missing
    record = next((records[output] for output in job.outputs if output in records), report)
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
        **{name: report[name] for name in RUN_DETAILS if name in report},
    }


def _own_report(job: Job) -> dict[str, Any]:
    """Content of the run.json or cost.json that a job wrote about itself; empty where it wrote neither."""
    own = [Path(output) for output in job.outputs if Path(output).name in ("run.json", "cost.json")]
    return read_json(own[0]) if own and own[0].is_file() else {}


def _paragraph(job: Mapping[str, Any]) -> str:
    ran = [f"{job['wall_seconds']} s", job["started"], *(f"{name} {job[name]}" for name in RUN_DETAILS if job.get(name))]
    parts = {
        "made": job["outputs"],
        "from": [f"{path}  {_digest_prefix(digest)}" for path, digest in job["inputs"].items()],
        "settings": yaml.safe_dump(job["settings"], sort_keys=False, width=110).splitlines(),
        "code": [job["code_sha256"][:12]],
        "ran": [", ".join(ran)],
        "commit": [job["git_commit"] or "not noted"],
        "versions": [", ".join(f"{name} {version}" for name, version in job["versions"].items()) or "not noted"],
    }

    # the name of a part stands before its first line only
    text = ["", job["rule"]]
    for name, lines in parts.items():
        text += [f"  {name if not index else '':<9} {line}" for index, line in enumerate(lines)]
    return "\n".join(text)


def _digest_prefix(digest: str) -> str:
    return digest[:12] or "no digest noted"
