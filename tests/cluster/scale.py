"""What a large study costs the machine that submits it: `python -m tests.cluster.scale`, which writes scale.json beside it.

All jobs are those of real studies with stand-ins for the stages. `plan`: a dry run of 5,000 jobs. `running`: Snakemake's memory
with 1,000 jobs at SLURM; they are submitted in the state "held", so that none takes the only node's cores. `sweep`: 200 jobs
from beginning to end on a SLURM of one node. Name one of them to measure it alone.
"""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.cluster.cluster import PROFILE, TOOLS, Cluster, recorded, said, wait_for
from tests.conftest import ROOT, SMALL, copy_workflow

RESULTS = Path(__file__).with_name("scale.json")
TEACHERS = SMALL | {"seeds": list(range(1000)), "plans": {}}
"""A thousand seeds of finetune, export, evaluate, measure and card."""
SWEEP = SMALL | {
    "seeds": list(range(10)),
    "plans": {name: {"method": "magnitude", "path": [0.5], "recover": {"epochs": 0.0}} for name in ("a", "b", "c", "d")},
}
"""Ten seeds of a teacher and four students, four jobs each; with tokenise and report 202 jobs at SLURM."""
HELD = ("--set-resources", "finetune:slurm_extra='--hold'")


def study(folder: Path, config: dict[str, Any]) -> Cluster:
    """A clone with stand-ins."""
    clone = copy_workflow(folder)
    clone.write_config(config)
    return recorded(clone, ROOT / "tests/workflow/stand_in.py")


def plan(folder: Path) -> dict[str, Any]:
    """Seconds and memory of a dry run of 5,000 jobs."""
    cluster = study(folder, TEACHERS)
    command = [sys.executable, "-m", "snakemake", *PROFILE, "--dry-run", "--quiet", "rules"]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=cluster.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, told[-2000:]
    jobs = int(re.search(r"^total +(\d+)", told, re.MULTILINE)[1])
    seconds = {"seconds": round(time.perf_counter() - began, 1), "cpu_seconds": round(used.ru_utime + used.ru_stime, 1)}
    return {"jobs": jobs, **seconds, "memory_mib": round(used.ru_maxrss / 1024)}


def memory_mib(process: int) -> int:
    """The most memory that a process has had so far."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) // 1024


def submitted(folder: Path) -> int:
    """Jobs that Snakemake says it has submitted."""
    return (folder / "told.txt").read_text().count("submitted with SLURM")


def running(folder: Path) -> dict[str, Any]:
    """Snakemake's memory while 1,000 jobs are at SLURM, and how long it took to bring them there."""
    cluster = study(folder, TEACHERS)
    with (folder / "told.txt").open("w") as told:
        command = [sys.executable, "-m", "snakemake", *PROFILE, "--jobs", "1000", *HELD]
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=cluster.folder, stdout=told, stderr=told)
        first = wait_for(lambda: submitted(folder) > 1 and time.perf_counter())
        wait_for(lambda: submitted(folder) >= 1000, 1800)
        took = time.perf_counter() - first
        time.sleep(60)  # some rounds of asking for their states
        result = {
            "jobs": len(said("squeue", "-h").splitlines()),
            "memory_mib": memory_mib(process.pid),
            "seconds_to_first_submission": round(first - began, 1),
            "submissions_per_second": round(1000 / took, 1),
        }
        process.send_signal(signal.SIGINT)  # Snakemake takes its jobs back
        process.wait(timeout=300)
    wait_for(lambda: not said("squeue", "-h", "-t", "pending,running"))
    return result


def sweep(folder: Path) -> dict[str, Any]:
    """Two hundred short jobs from beginning to end."""
    cluster = study(folder, SWEEP)
    began = time.perf_counter()
    told = cluster.submit()
    seconds = time.perf_counter() - began
    ids = re.findall(r"submitted with SLURM jobid (\d+)", told)
    occupied = [node_seconds(said("scontrol", "-o", "show", "job", name)) for name in ids]
    own = [note["ended"] - note["began"] for note in cluster.seen() if note["job"]]
    return {
        "jobs": len(ids),
        "jobs_completed": len(own),
        "seconds": round(seconds),
        "overhead_per_job_seconds": {
            "on_the_node": round(statistics.mean(occupied) - statistics.mean(own), 1),
            "wall": round(seconds / len(ids), 1),
        },
        "at_once": 2,
    }


def node_seconds(job: str) -> float:
    """How long a job, as scontrol shows it, had its place on the node."""
    times = [datetime.fromisoformat(re.search(rf"\b{name}=(\S+)", job)[1]) for name in ("StartTime", "EndTime")]
    assert "JobState=COMPLETED" in job, job
    return (times[1] - times[0]).total_seconds()


MEASUREMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {"plan": plan, "running": running, "sweep": sweep}


def main(names: list[str]) -> None:
    """Measure, and keep what was measured before of the others."""
    subprocess.run([TOOLS / "slurm-up"], check=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or MEASUREMENTS:
        with tempfile.TemporaryDirectory() as folder:
            load = os.getloadavg()[0]
            results[name] = MEASUREMENTS[name](Path(folder) / "study") | {
                "cores": os.cpu_count(),
                "load_before": round(load, 1),
            }
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
        print(name, results[name])


if __name__ == "__main__":
    main(sys.argv[1:])
