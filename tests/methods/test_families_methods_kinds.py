"""The matrix of families × methods × kinds: every pair that works is run through the real stages, every other is refused.

The whole product would take an hour. A covering design takes every pair of a family and a method, of a family and a kind and of
a method and a kind into a few cells of the product, and each of these cells is trained, exported and scored.
"""

from __future__ import annotations

import json
import math

import pytest

from espalier.config import ConfigError
from espalier.config.families import ENCODERS, NARROWED
from espalier.config.families.matrix import (
    cells,
    checked_plan,
    family_and_kind,
    family_and_method,
    method_and_kind,
    plan_of,
)
from espalier.config.kinds import KIND_RULES, KINDS
from espalier.config.layout import check_files, needs_of
from espalier.config.methods import METHODS
from espalier.models.bases import read_config
from espalier.models.encoder import count_weights, prunable_weights
from espalier.models.files import open_student
from espalier.runtime.errors import UserError
from tests import matrix, tiny

ALLOWED = cells()
CHOSEN = matrix.covering(ALLOWED)
REFUSED_METHODS = [(family, method) for family in ENCODERS for method in METHODS if family_and_method(family, method).why_not]
WITH_SETTINGS = [(family, method) for family in ENCODERS for method in METHODS if family_and_method(family, method).settings]
REFUSED_HEADS = [(family, kind) for family in ENCODERS for kind in KINDS if family_and_kind(family, kind).why_not]
REFUSED_KINDS = [(method, kind) for method in METHODS for kind in KINDS if method_and_kind(method, kind).why_not]
SIZED = {"ready-made": None, "dense": 0.0, "specialise": 0.5, "homodistil": 0.5}
"""Methods whose students do not have half of their teacher's weights exactly → the fraction that is gone, if any is known."""


def named(cells: list[tuple[str, ...]]) -> list[str]:
    return ["-".join(cell) for cell in cells]


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> matrix.Stages:
    return matrix.Stages(tmp_path_factory.mktemp("matrix"))


# The design.


def test_every_pair_of_the_product_is_in_a_cell_that_runs():
    wanted = {pair for cell in ALLOWED for pair in matrix.pairs(cell)}
    assert {pair for cell in CHOSEN for pair in matrix.pairs(cell)} == wanted
    assert set(CHOSEN) <= set(ALLOWED) and len(CHOSEN) == len(set(CHOSEN))
    assert matrix.covering(ALLOWED) == CHOSEN, "the same cells in every run"


def test_a_pair_of_two_that_work_is_in_the_product():
    """Where a family and a method go together, some kind goes with both; texts need a method that narrows the family."""
    found = {pair for cell in ALLOWED for pair in matrix.pairs(cell)}
    axes, verdicts = (ENCODERS, METHODS, KINDS), {(0, 1): family_and_method, (0, 2): family_and_kind, (1, 2): method_and_kind}
    for (one, other), verdict in verdicts.items():
        works = {(first, second) for first in axes[one] for second in axes[other] if not verdict(first, second).why_not}
        teacher_alone = {(family, "text") for family in ENCODERS if family not in NARROWED} & works
        assert works - teacher_alone == {pair[2:] for pair in found if pair[:2] == (one, other)}


def test_a_covering_of_a_small_product_is_small():
    product = [(a, b, c) for a in "uvw" for b in "xyz" for c in "12"]
    assert len(matrix.covering(product)) == 9, "three times three pairs of the two longest axes"
    assert matrix.covering([("u", "x", "1")]) == [("u", "x", "1")] and matrix.covering([]) == []


# What works.


@pytest.mark.slow
@pytest.mark.parametrize("cell", CHOSEN, ids=named(CHOSEN))
def test_a_cell_is_trained_exported_and_scored(stages, cell, tmp_path):
    family, method, kind = cell
    student = stages.student(cell, tmp_path)
    compact = stages.exported(cell, student)
    scores, predictions = stages.scores(cell, compact)

    structure = json.loads((student / "structure.json").read_text())
    target = SIZED.get(method, 0.5)
    if target is not None:
        assert structure["sparsity"] == pytest.approx(target, abs=0.06), "a head of the tiny model is 5 % of it"
        assert structure["sparsity"] > 0.4 or target == 0.0

    model = open_student([compact / "config.json", compact / "model.safetensors"], kind)
    assert model.config.model_type.removeprefix("compact-") == family
    dense = open_student([stages.base(family) / "config.json", stages.base(family) / "model.safetensors"], "embedding")
    left = sum(int((weight != 0).sum()) for weight in prunable_weights(model).values()) / count_weights(dense)
    assert left == pytest.approx(1.0 - (target or 0.0), abs=0.06)

    assert math.isfinite(scores["score"]) and len(predictions) >= scores["sets"]["validation"]["rows"] > 0
    assert all(math.isfinite(value) for value in scores["sets"]["validation"].values())
    assert (compact / "onnx/model.onnx").stat().st_size > 0


# What is refused, before the first job.


def problems_of(folder, family: str, kind: str, plan: dict | None) -> list[str]:
    """What planning says of a study of this family on a task of this kind."""
    base = folder / family
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": family}))
    for name in ("model.safetensors", "tokenizer.json"):
        (base / name).touch()
    for name in (kind, f"{kind}-new", "text", "text-new"):
        (folder / f"{name}.jsonl").touch()
    try:
        config = matrix.study(folder, kind, plan, base)
        check_files(config)
    except ConfigError as error:
        return error.problems
    for name in config.bases:
        read_config(base, needs_of(config)[name])
    return []


@pytest.mark.parametrize(("family", "method"), REFUSED_METHODS, ids=named(REFUSED_METHODS))
def test_a_method_that_cannot_work_on_a_family_is_refused(tmp_path, family, method):
    kind = "text" if method == "homodistil" else "classification"
    plan = matrix.plan_for("bert", method)
    (problem,) = problems_of(tmp_path, family, kind, plan)
    said = family_and_method(family, method).why_not
    supported = ", ".join(checked_plan(method).families)
    assert problem.startswith("bases.base: ") and f"method {method}" in problem.partition(" cannot work")[0]
    assert problem.endswith(f"cannot work on model type {family!r}; supported: {supported}; reason: {said}")

    # a base on the hub is there only once `fetch` has it: it says the same
    needs = needs_of(matrix.study(tmp_path, kind, plan, tmp_path / family))["base"]
    with pytest.raises(UserError, match=f"cannot work on model type '{family}'; supported: ") as error:
        read_config(tmp_path / family, needs)
    assert said in str(error.value)


@pytest.mark.parametrize(("family", "method"), WITH_SETTINGS, ids=named(WITH_SETTINGS))
def test_where_settings_decide_the_defaults_are_refused_and_these_are_taken(tmp_path, family, method):
    settings = family_and_method(family, method).settings
    taken, refused = tmp_path / "taken", tmp_path / "refused"
    taken.mkdir()
    refused.mkdir()
    assert problems_of(taken, family, "classification", plan_of(method, settings)) == []
    (problem,) = problems_of(refused, family, "classification", plan_of(method))
    assert f"method {method} cannot work on model type {family!r}" in problem


@pytest.mark.parametrize(("family", "kind"), REFUSED_HEADS, ids=named(REFUSED_HEADS))
def test_a_kind_for_which_a_family_has_no_head_is_refused(tmp_path, family, kind):
    (problem,) = problems_of(tmp_path, family, kind, None)
    assert problem.startswith(f"bases.base: a task of kind {kind} cannot work on model type {family!r}; supported: bert, ")
    assert problem.endswith(f"reason: {family_and_kind(family, kind).why_not}")


@pytest.mark.parametrize(("method", "kind"), REFUSED_KINDS, ids=named(REFUSED_KINDS))
def test_a_kind_on_which_a_method_cannot_work_is_refused(tmp_path, method, kind):
    found = problems_of(tmp_path, "bert", kind, matrix.plan_for("bert", method))
    kinds = ", ".join(sorted(checked_plan(method).kinds))
    said = next(problem for problem in found if problem.startswith("plans.plan: "))
    assert f"method {method} works on tasks of kind {kinds}; the tasks here are of kind " in said
    assert method_and_kind(method, kind).why_not in said


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_the_matrix_has_rows_and_a_head(tmp_path, kind):
    assert matrix.FILES[kind][0](matrix.ROWS, 0)
    assert KIND_RULES[kind].auto_class.startswith("AutoModel") and len(tiny.WORDS) == 60
    assert problems_of(tmp_path, "bert", kind, None) == []
