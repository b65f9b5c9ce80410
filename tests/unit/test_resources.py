"""What jobs ask a cluster for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from espalier.config.resources import INFERENCE_NEEDS, NEEDS, TRAINING_NEEDS, model_mb, resources_of

ROOT = Path(__file__).parents[2]


def asked(rule: str, files: list[str], attempt: int = 1) -> dict[str, int]:
    """A rule's resources, as Snakemake works them out."""
    return {
        name: value(None, input=files, attempt=attempt) if callable(value) else value
        for name, value in resources_of(rule).items()
    }


@pytest.fixture
def files(tmp_path):
    """A model of 880 MB, twice BERT-base, a small one, and rows. Nothing is written: the files have holes."""
    sizes = {"model.safetensors": 880_000_000, "masks.safetensors": 1000, "train.parquet": 2_000_000_000}
    for name, size in sizes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    return [str(tmp_path / name) for name in sizes]


def test_the_formula():
    assert TRAINING_NEEDS.memory(440, attempt=1) == 4000 + 24 * 440
    assert TRAINING_NEEDS.memory(440, attempt=3) == 3 * (4000 + 24 * 440)
    assert INFERENCE_NEEDS.memory(0.5, attempt=1) == 3004
    assert TRAINING_NEEDS.runtime(440, attempt=2) == TRAINING_NEEDS.runtime(100, attempt=2) == 2 * 480
    assert TRAINING_NEEDS.runtime(660, attempt=1) == 720


def test_the_largest_model_among_the_inputs_counts(files):
    assert model_mb(files) == 880.0 and model_mb(files[1:]) == 0.001 and model_mb(files[2:]) == 0.0
    assert asked("compress", files) == {"gpu": 1, "mem_mb": 4000 + 24 * 880, "runtime": 960}
    assert asked("export", files, attempt=2) == {"mem_mb": 2 * (3000 + 8 * 880), "runtime": 240}


def test_each_process_has_a_gpu_and_memory_of_its_own(files):
    alone, both = (resources_of("compress", processes) for processes in (1, 2))
    assert (alone["gpu"], both["gpu"]) == (1, 2)
    assert both["mem_mb"](None, files, 1) == 2 * alone["mem_mb"](None, files, 1)
    assert both["runtime"](None, files, 1) == alone["runtime"](None, files, 1)


def test_a_model_that_is_still_to_come_is_not_guessed(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        asked("compress", [str(tmp_path / "model.safetensors")])
    assert error.value.filename == str(tmp_path / "model.safetensors"), "by which Snakemake knows that it is an input"


@pytest.mark.parametrize(("rule", "measured_mb"), [("finetune", 3460), ("compress", 2542), ("recover", 2318)])
def test_jobs_that_were_measured_would_have_had_room(rule, measured_mb):
    """MiniLM (91 MB) in the study cofi-small on the CPU: peak resident memory."""
    assert 1.2 * measured_mb < NEEDS[rule].memory(91, attempt=1) < 3 * measured_mb


def test_every_rule_that_wants_a_gpu_has_a_row():
    rules = "".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))
    bodies = dict(re.findall(r"^rule (\w+):\n((?:    .*\n|\n)*)", rules, re.MULTILINE))
    assert {name for name, body in bodies.items() if f'**resources_of("{name}"' in body} == set(NEEDS)
    assert not re.search(r"\bgpu=", rules), "GPUs are given in espalier.config.resources"
