"""XGLUE's nine tasks on a small data set in the hub's form, through the real stages in one process."""

from __future__ import annotations

import pandas as pd
import pytest
from transformers import AutoModel

from espalier.config.benchmarks.xglue import XGLUE
from espalier.runtime.files import read_json
from tests import xglue

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    return xglue.write_hub(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def study(hub, request, tmp_path, monkeypatch):
    """A prepared task and its teacher, from the hub."""
    xglue.work_in(hub, monkeypatch)
    made = xglue.Study(tmp_path, request.param, counts=None)
    made.prepare()
    made.teacher()
    return made


@pytest.mark.parametrize("study", XGLUE, indirect=True)
def test_a_task_is_scored_in_every_language_and_as_their_mean(study):
    card, folder = read_json(study.card), study.folder / "teacher"
    sets, known = list(XGLUE[study.task]["validation"]), XGLUE[study.task]
    assert card["sets"] == sets and card["mean"] == [name for name in sets if name.startswith("test-")]
    assert card["rows"] == {"train": 20 * xglue.LONG_TRAIN.get(xglue.part_of(study.task), 1), **dict.fromkeys(sets, 6)}
    assert card["sources"] == [{"id": known["id"], "name": known["name"], "revision": known["revision"]}]

    # training scores the mean, too, behind the set that would choose a checkpoint
    history = pd.read_parquet(folder / "history.parquet")
    assert f"mean/{known['metric']}" in history and "validation-en/loss" in history

    compact = study.export(folder)
    assert AutoModel.from_pretrained(compact).config.num_hidden_layers == 2
    scores = read_json(study.evaluate(compact) / "scores.json")
    languages = [scores["sets"][name] for name in card["mean"]]
    assert (scores["set"], scores["metric"], list(scores["sets"])) == ("mean", known["metric"], [*sets, "mean"])
    assert scores["score"] == pytest.approx(sum(own[known["metric"]] for own in languages) / len(languages))
    assert scores["sets"]["mean"]["rows"] == 6 * len(languages) and scores["score"] > 0.05
    assert pd.read_parquet(folder / "predictions.parquet")["set"].nunique() == len(sets)


@pytest.mark.parametrize("name", XGLUE)
def test_the_same_rows_as_files_are_read_alike(hub, tmp_path, monkeypatch, name):
    xglue.work_in(hub, monkeypatch)
    prepared = []
    for folder, block in (("hub", {"counts": None}), ("files", xglue.files(hub, name))):
        made = xglue.Study(tmp_path / folder, name, **block)
        made.prepare()
        prepared.append({part: pd.read_parquet(path) for part, path in made.rows.items()})
    for part in ("train", "evaluation"):
        pd.testing.assert_frame_equal(prepared[0][part], prepared[1][part])


@pytest.mark.parametrize("study", ["xglue-mlqa"], indirect=True)
def test_answers_are_compared_as_their_language_has_it(study):
    """The score of the Chinese set is that of its predictions with Chinese words."""
    folder = study.evaluate(study.export(study.folder / "teacher"))
    found, sets = pd.read_parquet(folder / "predictions.parquet"), read_json(folder / "scores.json")["sets"]
    for language in ("en", "zh"):
        own = found[found["set"] == f"test-{language}"]
        assert sets[f"test-{language}"]["mlqa-exact-match"] == pytest.approx(own["exact-match"].mean())
