"""Environment variables by which Snakemake's process reaches its jobs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from espalier.config.families import ENCODERS, BaseUses
from espalier.provenance.code_digest import ROOT
from espalier.runtime.fork_server import start
from espalier.runtime.process import PROCESSES

MEASURED_LENGTH = "ESPALIER_MEASURED_LENGTH"
"""Name of the variable that tells jobs the length, in tokens, of the rows that `measure` will time."""
BASE_USES = "ESPALIER_BASE_USES"
"""Name of the variable that tells `fetch` what is to be done with each base, and with which families, as JSON."""
IMPORTED = (
    *("espalier.stages.training.compress", "espalier.stages.models.export", "espalier.stages.results.measure"),
    *("espalier.stages.results.analyse", "espalier.stages.results.report"),
    *("accelerate", "transformers.models.bert.modeling_bert", "datasets", "scipy.stats", "sklearn.metrics"),
)
"""What takes time to import in stages."""


def run_this_clone() -> None:
    """Let jobs run this package with this interpreter, whether or not its environment is activated.

    Neither path is part of a job's record, so results stay valid in another clone. Under `--sdm conda` the conda
    environment's python comes first in PATH; PYTHONPATH still leads it to this package.
    """
    for variable, folder in (("PYTHONPATH", ROOT.parent), ("PATH", Path(sys.executable).parent)):
        folders = [str(folder), *filter(None, os.environ.get(variable, "").split(os.pathsep))]
        # dict.fromkeys drops repeated folders and keeps the order
        os.environ[variable] = os.pathsep.join(dict.fromkeys(folders))


def tell_jobs(processes: int, measured_length: int, needs: Mapping[str, BaseUses]) -> None:
    """Set the environment variables that jobs read.

    No result depends on them, so none is among a job's parameters.

    Args:
        processes: number of processes of each training stage.
        measured_length: tokens in a row that `measure` will time; a base that takes no rows of this length is refused.
        needs: base → what is to be done with it → families with which it can be done; a base of another family is refused.
    """
    told = {PROCESSES: str(processes), MEASURED_LENGTH: str(measured_length), BASE_USES: json.dumps(needs)}
    os.environ.update(told)


def serve_stages() -> None:
    """Let stages be children of one process, which has imported their libraries and ends with this one."""
    start("espalier.__main__:status_of", IMPORTED)


def told_needs(base: str) -> BaseUses:
    """What is to be done with a base of this name, as `tell_jobs` said; where nothing was said, a teacher."""
    told = json.loads(os.environ.get(BASE_USES, "{}")).get(base, {})
    return {what: tuple(families) for what, families in told.items()} or {"teacher": ENCODERS}
