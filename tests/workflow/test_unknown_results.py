"""Results of which no note says how they were made are not done (snakemake/snakemake#3546)."""

from __future__ import annotations

import shutil
from base64 import urlsafe_b64encode

import pytest

from tests.workflow.test_reruns import SDP

NOTES = "results/small/records/snakemake"


def test_lost_notes_come_back_and_edits_run_what_they_concern(finished, small):
    shutil.rmtree(finished.folder / ".snakemake/metadata")
    small["plans"]["sdp"]["learning_rate"] = 1.0e-4
    finished.write_config(small)
    assert finished.jobs() == SDP


def test_without_any_note_everything_runs(finished):
    for place in (".snakemake/metadata", NOTES):
        shutil.rmtree(finished.folder / place)
    result = finished.snakemake("--dry-run")
    assert "no job is noted that wrote them" in result.stdout
    assert finished.jobs() == finished.jobs("--forceall")


COST = "results/small/minilm/docs-library/seed42/sdp/90/cost.json"
RECORD = "results/small/records/measure/minilm/docs-library/seed42/sdp/90/cost.json.json"


@pytest.fixture
def unnoted(finished):
    """A finished study that has no note on one of its results, as after a kill of Snakemake whose job went on elsewhere."""
    name = urlsafe_b64encode(COST.encode()).decode()
    for place in (".snakemake/metadata", NOTES):
        (finished.folder / place / name).unlink()
    return finished


def test_a_result_without_note_is_done_if_its_own_record_fits(unnoted):
    assert unnoted.jobs() == set()


def without_record(folder, small):
    (folder / RECORD).unlink()


def other_settings(folder, small):
    small["measure"] = {"batch_sizes": [1, 4]}


def other_code(folder, small):
    with (folder / "workflow/espalier/methods/random.py").open("a") as file:
        file.write("# edited\n")


def other_content(folder, small):
    (folder / COST).write_text("{}")


@pytest.mark.parametrize("change", [without_record, other_settings, other_code, other_content])
def test_a_result_without_note_runs_again_where_its_record_does_not_fit(unnoted, small, change):
    change(unnoted.folder, small)
    unnoted.write_config(small)
    jobs = unnoted.jobs()
    assert "measure sdp 90" in jobs and "compress sdp 90" not in jobs


def test_files_of_a_user_s_own_change_nothing(finished):
    (finished.folder / "results/small/notes.txt").write_text("mine")
    assert finished.jobs() == set()
