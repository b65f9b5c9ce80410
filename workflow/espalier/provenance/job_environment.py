"""Environment variables by which Snakemake's process reaches its jobs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from espalier.provenance.code_digest import ROOT

PROCESSES = "ESPALIER_PROCESSES"
"""Name of the variable by which jobs hear of the number of processes."""


MEASURED_LENGTH = "ESPALIER_MEASURED_LENGTH"
"""Name of the variable by which jobs hear how long the rows are that `measure` will time."""


def run_this_clone() -> None:
    """Let jobs run this package with this interpreter, whether or not its environment is activated.

    Neither path enters a job's record, so results stay valid in another clone. Under `--sdm conda` the environment's own
    python comes first, and this package is found all the same.
    """
    for variable, folder in (("PYTHONPATH", ROOT.parent), ("PATH", Path(sys.executable).parent)):
        folders = [str(folder), *filter(None, os.environ.get(variable, "").split(os.pathsep))]
        os.environ[variable] = os.pathsep.join(dict.fromkeys(folders))


def tell_jobs(processes: int, measured_length: int) -> None:
    """Let training stages run as so many processes, and what reads a base refuse rows that it could not be timed with.

    No result depends on either, so no job's parameters name them.
    """
    os.environ.update({PROCESSES: str(processes), MEASURED_LENGTH: str(measured_length)})
