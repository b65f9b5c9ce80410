"""The pretend cluster, and clones whose jobs run on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import TOOLS, Cluster, is_up, recorded
from tests.conftest import ROOT, SMALL, Clone

STAND_IN = ROOT / "tests/workflow/stand_in.py"


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """A SLURM of one node with two pretend GPUs; stopped at the end if it was started here."""
    if os.environ["SLURM_CONF"] == os.devnull:  # what keeps all other tests from asking a cluster
        del os.environ["SLURM_CONF"]
    found = is_up()
    if not found:
        cpus = max(2, os.cpu_count() or 2)  # said, because nproc heeds OMP_NUM_THREADS, which is 1 in tests
        subprocess.run([TOOLS / "slurm-down", "--purge"], check=True)  # jobs that a killed run left would hold its GPUs
        subprocess.run([TOOLS / "slurm-up"], check=True, env=os.environ | {"SLURM_ONE_CPUS": str(cpus)})
    yield
    if not found:
        subprocess.run([TOOLS / "slurm-down"], check=True)


@pytest.fixture
def cluster(slurm: None, make_clone: Callable[[Path], Clone], tmp_path: Path) -> Cluster:
    """The small study with stand-ins for its stages."""
    clone = make_clone(tmp_path / "clone")
    clone.write_config(SMALL)
    return recorded(clone, STAND_IN)
