"""Going back to a version, healing what was damaged, and what storing costs."""

from __future__ import annotations

import subprocess

import pytest

from tests.conftest import jobs_in
from tests.versioning.conftest import MODEL, configured, files_in

pytestmark = pytest.mark.versioning
WEIGHTS = f"{MODEL}/compact/model.safetensors"


def flip(path) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


def test_going_back_to_a_version(pulled):
    first = pulled.digests()
    pulled.write_config(configured(plans={"sdp": {"method": "sdp", "path": [0.5, 0.9], "learning_rate": 1.0e-4}}))
    assert "compress sdp 50" in jobs_in(pulled.run("dvc", "repro"))
    pulled.commit("Faster")
    assert pulled.digests() != first
    pulled.run("git", "checkout", "--quiet", "first")
    pulled.run("dvc", "checkout")
    assert pulled.digests() == first and pulled.jobs() == set()
    pulled.run("git", "checkout", "--quiet", "main")
    pulled.run("dvc", "checkout")
    assert pulled.digests() != first and pulled.jobs() == set()


def test_a_flipped_bit_is_found_and_healed(pulled):
    assert "0 differs, 0 missing, 0 extra" in pulled.espalier("verify")
    flip(pulled.folder / WEIGHTS)
    text = pulled.espalier("verify", fails=True)
    assert f"differs  {WEIGHTS}: is not what its job wrote" in text and "1 differs, 0 missing, 0 extra" in text
    assert f"{WEIGHTS}  sha256" in (story := pulled.espalier("trace", WEIGHTS)) and "not what its job wrote" in story
    pulled.run("dvc", "pull", "--force", WEIGHTS)
    assert "0 differs, 0 missing, 0 extra" in pulled.espalier("verify")


def test_a_damaged_cache_is_healed_from_the_store(origin, store, tmp_path):
    study = origin.clone(tmp_path / "linked", store, "hardlink")
    study.run("dvc", "pull")
    weights = study.folder / WEIGHTS
    weights.chmod(0o644)
    flip(weights)  # in the cache, too: it is the same file
    assert WEIGHTS in study.espalier("verify", fails=True)
    weights.unlink()
    study.run("dvc", "pull")
    assert "0 differs, 0 missing, 0 extra" in study.espalier("verify")


def test_a_trace_of_a_pulled_model_goes_back_to_the_data(pulled, origin):
    text = pulled.espalier("trace", WEIGHTS)
    assert [
        rule for rule in ("export", "recover", "compress", "finetune", "prepare", "fetch") if f"\n{rule}\n" not in text
    ] == []
    assert "as recorded" in text and "data/rows.csv" in text and "learning_rate: 5.0e-05" in text
    assert origin.run("git", "rev-list", "--max-parents=0", "HEAD").strip() in text, "the commit that the jobs ran at"


def test_storing_costs_what_differs(pulled, store):
    """Every content is stored once, and a longer path adds its own stage and what gathers the results."""
    files = pulled.digests() | pulled.digests(".snakemake/metadata") | pulled.digests("data/rows.csv")
    objects = [path for path in files_in(pulled.folder / ".dvc/cache/files") if path.suffix != ".dir"]
    assert len(objects) == len(set(files.values()))
    models = {name: digest for name, digest in pulled.digests().items() if name.endswith("model.safetensors")}
    config = configured()
    config["plans"]["sdp"]["path"] = [0.5, 0.9, 0.95]
    pulled.write_config(config)
    pulled.run("dvc", "repro")
    after = {name: digest for name, digest in pulled.digests().items() if name.endswith("model.safetensors")}
    assert models.items() < after.items() and all("/sdp/95/" in name for name in after.keys() - models.keys())


def test_no_second_copy_where_the_disk_can_share(origin, store, tmp_path):
    """With reflinks a file and its object in the cache share their blocks; elsewhere each is a copy."""
    study = origin.clone(tmp_path / "other", store, "reflink,copy")
    study.run("dvc", "pull")
    assert all(path.stat().st_nlink == 1 for path in files_in(study.folder / "results"))
    probe = ["cp", "--reflink=always", "config.yaml", "probe"]
    if subprocess.run(probe, cwd=study.folder, capture_output=True, check=False).returncode:
        pytest.skip("this file system has no reflinks: every result is stored twice, once for work and once in the cache")
    for each in (origin, study):
        assert "shared" in each.run("filefrag", "-s", "-v", WEIGHTS), "where it was made, and where it was pulled"
