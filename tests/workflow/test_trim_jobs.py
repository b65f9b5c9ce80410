"""Smaller embeddings in the graph: which jobs they add, what these read, and what an edit runs again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.workflow.test_jobs import DATA, SUMMARY, TEACHER, inputs_of, students

FOLDER = "results/small/minilm/docs-library/seed42"
WHOLE = DATA | TEACHER | {"teach"} | students("magnitude", "50") | students("sdp", "50", "90") | SUMMARY
TRIMMED = {"trim teacher 0"} | students("magnitude", "50", rules=("trim",)) | students("sdp", "50", "90", rules=("trim",))


def asking_for(small: dict[str, Any], **deploy: Any) -> dict[str, Any]:
    return small | {"deploy": {"formats": [], **deploy}}


@pytest.mark.parametrize(
    "deploy", [{"vocabulary": {"keep": "used"}}, {"vocabulary": {"tokens": 9000}, "factorise": {"rank": 64}}]
)
def test_every_model_is_trimmed_where_the_configuration_asks_for_it(clone, small, deploy):
    clone.write_config(asking_for(small, **deploy))
    assert clone.jobs() == WHOLE | TRIMMED


def test_nothing_is_trimmed_unasked(clone, small):
    assert clone.jobs() == WHOLE


def test_a_trimmed_model_comes_from_the_compact_one_and_the_task_s_texts(clone, small):
    clone.write_config(asking_for(small, vocabulary={"coverage": 0.99}))
    inputs = {*inputs_of(clone, f"{FOLDER}/sdp/90/trimmed/trim.json").split(", ")}
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert {f"{FOLDER}/sdp/90/compact/{name}" for name in names} <= inputs
    assert {f"results/small/prepared/docs-library/{name}.parquet" for name in ("train", "evaluation")} <= inputs


def test_trimmed_models_are_scored_in_every_format_beside_the_dense_one(clone, small):
    clone.write_config(small | {"deploy": {"formats": ["torch", "onnx-int8"], "vocabulary": {"keep": "used"}}})
    scored = {
        "gather",
        "deploy teacher 0",
        *students("magnitude", "50", rules=("deploy",)),
        *students("sdp", "50", "90", rules=("deploy",)),
    }
    small_ones = {job.replace("deploy", rule) for job in scored - {"gather"} for rule in ("deploy_trimmed", "card_trimmed")}
    assert clone.jobs() == WHOLE | TRIMMED | scored | small_ones

    for model in ("sdp/90", "teacher/0"):
        inputs = {*inputs_of(clone, f"{FOLDER}/{model}/deploy/trimmed.json").split(", ")}
        assert {f"{FOLDER}/{model}/trimmed/model.safetensors", f"{FOLDER}/teacher/0/compact/onnx/model_int8.onnx"} <= inputs
    assert f"{FOLDER}/sdp/90/deploy/trimmed.json" in inputs_of(clone, "results/small/deploy.csv")


def test_models_of_text_are_trimmed_but_not_scored_by_their_packed_rows(clone, small):
    small["tasks"]["docs-corpus"] = {"rows": 64}
    deploy = {"formats": ["torch"], "vocabulary": {"keep": "used"}}
    clone.write_config(small | {"deploy": deploy, "plans": {"narrow": {"method": "homodistil", "path": [0.5]}}})
    jobs = clone.jobs()
    assert {"trim narrow 50", "deploy narrow 50", "deploy_trimmed teacher 0"} <= jobs
    assert "deploy_trimmed narrow 50" not in jobs


def test_another_rule_for_tokens_trims_again_and_trains_nothing(finished, small):
    finished.write_config(asking_for(small, vocabulary={"keep": "used"}))
    assert finished.jobs() == TRIMMED
    finished.pretend_all()
    assert finished.jobs() == set()
    finished.write_config(asking_for(small, vocabulary={"coverage": 0.9}))
    assert finished.jobs() == TRIMMED


@pytest.mark.parametrize(
    ("deploy", "message"),
    [
        ({"vocabulary": {}}, "deploy.vocabulary: got nothing; allowed: one of keep: used, coverage, tokens"),
        ({"vocabulary": {"keep": "used", "tokens": 5}}, "got keep: used, tokens: 5; allowed: one of"),
        ({"vocabulary": {"coverage": 1.5}}, "deploy.vocabulary.coverage: got 1.5"),
        ({"vocabulary": {"keep": "all"}}, "deploy.vocabulary.keep: got 'all'; allowed: used"),
        ({"factorise": {"rank": 0}}, "deploy.factorise.rank: got 0"),
        ({"factorise": {}}, "deploy.factorise.rank: missing; this key is required"),
        ({"vocabluary": {"keep": "used"}}, "deploy: unknown key 'vocabluary'; did you mean 'vocabulary'?"),
    ],
)
def test_settings_that_make_no_sense_are_refused(clone, small, deploy, message):
    clone.write_config(asking_for(small, **deploy))
    result = clone.snakemake("--dry-run")
    assert result.returncode and message in result.stdout + result.stderr


def test_a_base_at_hand_that_cannot_be_trimmed_is_refused(clone, small):
    base = clone.folder / "results/small/bases/minilm"
    base.mkdir(parents=True)
    (base / "tokenizer.json").write_text('{"model": {"type": "WordLevel"}}')
    (base / "config.json").write_text('{"model_type": "roformer"}')
    clone.write_config(asking_for(small, vocabulary={"keep": "used"}, factorise={"rank": 8}))
    result = clone.snakemake("--dry-run")
    said = result.stdout + result.stderr
    assert result.returncode
    assert "bases.minilm: deploy.vocabulary cannot work on a tokenizer of the type WordLevel; supported: WordPiece, BPE" in said
    assert "bases.minilm: deploy.factorise cannot work on model type 'roformer'; supported: bert, roberta" in said
