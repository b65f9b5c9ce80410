"""analyse: what analysis.json says of a student beside its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from espalier.analyses import of_students
from espalier.config.job_specs import AnalyseSpec, Machine
from espalier.models.classes import model_class
from espalier.models.compact_config import compact_config
from espalier.models.encoder import encoder_layers, prunable_weights
from espalier.models.files import write_model
from espalier.models.modeling_espalier import shape_of
from espalier.runtime.files import read_json
from espalier.stages.results import analyse
from tests import tiny

EVERYTHING = ("representations", "errors", "weights")


def write(folder: Path, model: torch.nn.Module) -> list[Path]:
    files = [folder / "config.json", folder / "model.safetensors"]
    write_model(model, *files)
    return files


@pytest.fixture
def found(tmp_path):
    """What the stage writes about a student, given how it differs from its teacher."""

    def run(student: torch.nn.Module, kind: str = "classification", asked=EVERYTHING) -> dict[str, Any]:
        teacher = tiny.classifier(2, student.config.num_labels)
        task = tiny.write_task(tmp_path / "task", kind=kind)
        metric = {"classification": "accuracy", "regression": "spearman"}[kind]
        spec = AnalyseSpec(kind=kind, metric=metric, machine=Machine(device="cpu", precision="fp32"), analyses=asked)
        files = {name: write(tmp_path / name, model) for name, model in (("student", student), ("teacher", teacher))}
        paths = {"task": task / "task.json", "tokens": task / "evaluation.parquet", "analysis": tmp_path / "analysis.json"}
        analyse.run(spec.model_dump_json(), **files, **paths)
        return read_json(tmp_path / "analysis.json")

    return run


def test_the_teacher_itself_has_no_noise_and_no_errors(found):
    result = found(tiny.classifier(2))
    representations, errors = result["representations"], result["errors"]
    assert result["rows"] == 32 and representations["student"] == representations["teacher"]
    assert representations["signal_to_noise_db"] is None, "infinite"
    assert representations["layers_signal_to_noise_db"] == [None] * 2
    assert errors["distance"] == 0.0 and errors["local"] == errors["accumulated"] == [0.0] * 3 and errors["gain"] == [None] * 3


def test_another_model_has_both_within_the_bound(found):
    result = found(tiny.classifier(1))
    assert all(result["representations"][f"{which}signal_to_noise_db"] < 20 for which in ("", "scaled_"))
    assert all(0 < value["separability"] < 1 for value in (result["representations"][who] for who in ("student", "teacher")))
    assert len(result["representations"]["layers_signal_to_noise_db"]) == 2
    assert all(-20 < value < 20 for value in result["representations"]["layers_signal_to_noise_db"])
    errors = result["errors"]
    assert 0 < errors["distance"] <= errors["bound"] == pytest.approx(sum(errors["steps"]), rel=1e-4)
    assert 0 <= result["weights"]["score"] <= 1 and set(result["weights"]["one_shot"]) == {"50", "70", "90"}


def test_weights_are_those_of_the_student_and_more_pruning_distorts_more(found, monkeypatch):
    def zeros(subject, model):
        return float(torch.cat([weight.flatten() for weight in prunable_weights(model).values()]).eq(0).float().mean())

    monkeypatch.setattr(of_students, "_score", zeros)
    student = tiny.classifier(1)
    with torch.no_grad():
        for parameter in encoder_layers(student)[1].parameters():
            parameter[:] = torch.where(parameter == 0, parameter, parameter.sign())  # all magnitudes alike
    weights = found(student, asked=("weights",))["weights"]
    assert len(weights["matrices"]) == 12 and weights["mean"]["hoyer"] == pytest.approx(0.0, abs=1e-4)
    assert weights["mean"]["small"] == weights["mean"]["small_beside_largest"] == 0.0
    assert weights["mean"]["excess_kurtosis"] == pytest.approx(-2.0, abs=0.05)
    distortions = [weights["one_shot"][percent]["distortion"] for percent in ("50", "70", "90")]
    assert distortions == pytest.approx([0.5**0.5, 0.7**0.5, 0.9**0.5], abs=1e-3)
    scores = [weights["one_shot"][percent]["score"] for percent in ("50", "70", "90")]
    assert scores == pytest.approx([0.5, 0.7, 0.9], abs=1e-3) and weights["score"] == 0.0, "the student stays as it is"


def test_only_what_was_asked_for_is_there_and_regression_works_too(found):
    result = found(tiny.classifier(1, 1), kind="regression", asked=("representations",))
    assert set(result) == {"rows", "representations"}
    assert result["representations"]["student"]["separability"] is not None


def test_a_narrower_student_says_why_its_errors_are_left_out(found):
    student = tiny.classifier(1, hidden_size=16)
    result = found(student, asked=("errors", "representations"))
    assert "2 layers of hidden width 16, its teacher 2 of 32" in result["errors"]["left_out"]
    assert result["representations"]["signal_to_noise_db"] is None and result["representations"]["student"]["separability"]
    assert result["representations"]["layers_signal_to_noise_db"] == []


def test_a_student_with_layers_of_unequal_width_is_compared_as_any_other(found):
    shape = shape_of(tiny.config())
    config = compact_config(tiny.config(num_labels=3), shape._replace(layers=((3, 40), (0, 0))))
    torch.manual_seed(3)
    student = model_class(config)(config)
    errors = found(student, asked=("errors",))["errors"]
    assert len(errors["local"]) == 3 and 0 < errors["distance"] <= errors["bound"]
