"""Another clone knows what is done, and re-runs what is changed there and nothing else."""

from __future__ import annotations

import hashlib
import os
import random

import pytest
import yaml

from tests.conftest import jobs_in
from tests.versioning.conftest import MODEL, VERSIONED, configured, files_in
from tests.workflow.test_reruns import MAGNITUDE, SDP

pytestmark = pytest.mark.versioning
LINKS = {"copy": lambda path: path.stat().st_nlink == 1, "hardlink": lambda path: path.stat().st_nlink > 1}
LINKS["symlink"] = lambda path: path.is_symlink()


def edited(study, edit) -> set[str]:
    """What would run after an edit of the configuration."""
    config = configured()
    edit(config)
    study.write_config(config)
    return study.jobs()


def in_cache(study) -> list:
    return files_in(study.folder / ".dvc/cache/files")


def intact(study) -> bool:
    """Whether every object in the cache has the content that its name says."""
    names = {path: path.parent.name + path.name.removesuffix(".dir") for path in in_cache(study)}
    return bool(names) and all(hashlib.md5(path.read_bytes()).hexdigest() == name for path, name in names.items())


@pytest.mark.parametrize("link", LINKS)
def test_a_clone_has_nothing_to_do(origin, store, tmp_path, link):
    study = origin.clone(tmp_path / link, store, link)
    study.run("dvc", "pull")
    models = list((study.folder / "results").rglob("model.safetensors"))
    assert models and all(LINKS[link](path) for path in models)
    assert study.jobs() == set()
    assert "up to date" in study.run("dvc", "status")


def test_neither_order_nor_times_matter(origin, store, tmp_path):
    study = origin.clone(tmp_path / "shuffled", store)
    study.run("dvc", "pull", ".snakemake/metadata", "data/rows.csv")
    study.run("dvc", "fetch")
    folders = sorted(str(path.relative_to(origin.folder)) for path in (origin.folder / "results/small").iterdir())
    generator = random.Random(3)
    for folder in generator.sample(folders, len(folders)):
        study.run("dvc", "checkout", folder)
    paths = [
        path
        for place in ("results", ".snakemake/metadata", "workflow", "envs", "data")
        for path in files_in(study.folder / place)
    ]
    for path in paths:
        moment = generator.randrange(1, 2_000_000_000)
        os.utime(path, (moment, moment))
    assert study.digests() == origin.digests()
    assert study.jobs() == set()


def test_then_an_edit_runs_what_it_concerns(pulled):
    assert edited(pulled, lambda config: config["plans"]["magnitude"].update(learning_rate=1.0e-4)) == MAGNITUDE
    seeds = edited(pulled, lambda config: config.update(seeds=[42, 7]))
    assert {job for job in seeds if " 7" not in job} == {"table", "report"}
    pulled.write_config(VERSIONED)
    pulled.edit("workflow/espalier/losses/terms.py", '"""', '"""In other words. ')
    assert pulled.jobs() == set()
    pulled.edit("workflow/espalier/losses/terms.py", "def cosine_distance(", "@(lambda loss: loss)\ndef cosine_distance(")
    assert pulled.jobs() == SDP


def test_then_another_pin_runs_everything(pulled):
    everything = pulled.jobs("--forceall")
    pulled.edit("envs/requirements.lock", "pyarrow==", "pyarrow==9")
    assert pulled.jobs() == everything


def test_then_other_data_runs_all_that_read_them(pulled):
    (pulled.folder / "data/rows.csv").write_text("text,label\nc,d\n")
    assert pulled.jobs() == pulled.jobs("--forceall") - {"fetch"}
    assert "changed outs" in pulled.run("dvc", "status")


def test_rows_from_elsewhere_are_followed(pulled, tmp_path):
    there, here = tmp_path / "published.csv", pulled.folder / "data/elsewhere.csv"
    there.write_text("text,label\ne,f\n")
    pulled.run("dvc", "import-url", str(there), "data/elsewhere.csv")
    task = VERSIONED["tasks"]["rows"] | {"train": "data/elsewhere.csv"}
    pulled.write_config(configured(tasks={"rows": task}))
    assert "prepare" in jobs_in(pulled.run("dvc", "repro"))
    there.write_text("text,label\nc,d\n")
    assert pulled.jobs() == set(), "until it is fetched anew"
    pulled.run("dvc", "update", "data/elsewhere.csv.dvc")
    assert here.read_text() == there.read_text()
    assert pulled.jobs() == pulled.jobs("--forceall") - {"fetch"}


def test_a_direct_run_leaves_the_cache_as_it_is(pulled):
    before = len(in_cache(pulled))
    assert intact(pulled)
    pulled.write_config(configured(seeds=[7]))
    assert pulled.snakemake("--forceall", "--cores", "1", "--quiet").returncode == 0
    assert intact(pulled) and len(in_cache(pulled)) == before


def test_one_model_can_be_pulled_alone(origin, store, tmp_path):
    study = origin.clone(tmp_path / "alone", store)
    study.run("dvc", "pull", f"{MODEL}/compact")
    assert study.digests().keys() == {name for name in origin.digests() if name.startswith(f"{MODEL}/compact/")}


def test_the_default_is_not_to_link(origin):
    lines = origin.run("dvc", "config", "--list", "--project")
    assert "cache.type=reflink,copy" in lines and "url" not in lines and str(origin.folder.parent) not in lines
    assert yaml.safe_load((origin.folder / "dvc.lock").read_text())["stages"].keys() == {"espalier"}
