"""Environment variables by which Snakemake's process reaches its jobs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from espalier.provenance.code_digest import ROOT

PROCESSES = "ESPALIER_PROCESSES"
"""Name of the variable that tells jobs the number of processes."""
MEASURED_LENGTH = "ESPALIER_MEASURED_LENGTH"
"""Name of the variable that tells jobs the length, in tokens, of the rows that `measure` will time."""


def run_this_clone() -> None:
    """Let jobs run this package with this interpreter, whether or not its environment is activated.

    Neither path is part of a job's record, so results stay valid in another clone. Under `--sdm conda` the conda
    environment's python comes first in PATH; PYTHONPATH still leads it to this package.
    """
    for variable, folder in (("PYTHONPATH", ROOT.parent), ("PATH", Path(sys.executable).parent)):
        folders = [str(folder), *filter(None, os.environ.get(variable, "").split(os.pathsep))]
        # dict.fromkeys drops repeated folders and keeps the order
        os.environ[variable] = os.pathsep.join(dict.fromkeys(folders))


def tell_jobs(processes: int, measured_length: int) -> None:
    """Set the environment variables that jobs read.

    No result depends on either, so neither is among a job's parameters.

    Args:
        processes: number of processes of each training stage.
        measured_length: tokens in a row that `measure` will time; a base that takes no rows of this length is refused.
    """
    os.environ.update({PROCESSES: str(processes), MEASURED_LENGTH: str(measured_length)})
