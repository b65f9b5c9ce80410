"""A clone whose jobs run on the pretend cluster."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ONE_THREAD, ROOT, Clone

SHARED = ROOT.parent / "shared/tools"
TOOLS = SHARED if (SHARED / "slurm-up").exists() else ROOT / ".ci"
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background, which children inherit
PROFILE = ("--profile", "profiles/slurm", *ONE_THREAD)


@dataclass(frozen=True)
class Cluster(Clone):
    """A clone of the workflow that submits its jobs through profiles/slurm."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Snakemake in the background."""
        command = [sys.executable, "-m", "snakemake", *arguments, *PROFILE]  # targets first: lists are greedy
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def submit(self, *arguments: str) -> str:
        """Run Snakemake to its end, which must be a good one."""
        process = self.start(*arguments)
        told, _ = process.communicate()
        assert process.returncode == 0, told[-6000:]
        return told

    def seen(self, stage: str = "") -> list[dict[str, Any]]:
        """What jobs of a stage, or all, noted about themselves, in the order in which they began."""
        notes = [json.loads(file.read_text()) for file in (self.folder / "seen").glob(f"{stage}*.json")]
        return sorted(notes, key=lambda note: note["began"])

    def hold(self, stage: str) -> None:
        """Let the jobs of a stage wait at their first line until `release`."""
        (self.folder / f"hold-{stage}").touch()

    def release(self, stage: str) -> None:
        """Let waiting jobs go on."""
        (self.folder / f"hold-{stage}").unlink()

    def fail_once(self, stage: str) -> None:
        """Let the next job of a stage fail."""
        (self.folder / f"fail-{stage}").touch()


def recorded(clone: Clone, program: Path | None = None) -> Cluster:
    """A clone whose jobs note what they were given; `program` instead of the real stages."""
    main = clone.folder / "workflow/espalier/__main__.py"
    recorder = (Path(__file__).parent / "recorder.py").read_text()
    main.write_text(f"{recorder}\n{(program or main).read_text()}")
    quicker = ("slurm-init-seconds-before-status-checks: 10", "slurm-init-seconds-before-status-checks: 2")
    clone.edit("profiles/slurm/config.yaml", *quicker)
    return Cluster(clone.folder)


def wait_for(what: Callable[[], Any], seconds: float = 600.0) -> Any:
    """The first true answer.

    Raises:
        TimeoutError: there was none in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.2)
    raise TimeoutError(f"nothing came within {seconds:.0f} s; squeue says:\n{said('squeue')}")


def said(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def is_up() -> bool:
    """Whether a pretend cluster answers."""
    if not shutil.which("sinfo"):
        return False
    return subprocess.run(["sinfo", "-h", "-N", "-o", "%N"], capture_output=True, text=True, check=False).stdout == "one\n"
