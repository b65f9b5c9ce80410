"""The linear model that encoders are compared with: it learns words, pairs and numbers, and says the same every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.evaluation import linear, linear_kinds
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, write_json
from espalier.stages.results import linear as stage

FRUITS, TOOLS = ("apple", "cherry", "plum", "pear"), ("hammer", "chisel", "saw", "plane")
SINGLE = [(f"one {first} and one {second}",) for group in (FRUITS, TOOLS) for first in group for second in group]
KINDS = [0] * 16 + [1] * 16


def pairs(shift: int) -> list[tuple[str, str]]:
    """A word of sixteen twice, or followed by another one: no single text tells which."""
    words = [f"{first}{second}" for first in FRUITS for second in TOOLS]
    same = [(f"this {word}", f"that {word}") for word in words]
    other = [(f"this {word}", f"that {words[(place + shift) % 16]}") for place, word in enumerate(words)]
    return same + other


def test_words_tell_classes() -> None:
    model = linear.fit(SINGLE, KINDS, "classification")
    assert model.predict([("one apple and one pear",), ("a saw",)]).tolist() == [0, 1]
    assert model.inverse_strength in linear_kinds.INVERSE_STRENGTHS


def test_pairs_are_compared() -> None:
    model = linear.fit(pairs(5), [1] * 16 + [0] * 16, "classification")
    assert np.mean(model.predict(pairs(6)) == np.repeat([1, 0], 16)) > 0.9


def test_numbers_are_predicted() -> None:
    model = linear.fit(SINGLE, [4.0 * kind for kind in KINDS], "regression")
    low, high = model.predict([("plum",), ("chisel",)])
    assert 0.0 <= low < 1.0 and 3.0 < high <= 4.0
    assert model.inverse_strength in linear_kinds.INVERSE_STRENGTHS


def test_the_order_of_words_counts() -> None:
    texts = [(f"{first} {second}",) for first in FRUITS for second in TOOLS]
    swapped = [(" ".join(reversed(text.split())),) for (text,) in texts]
    model = linear.fit(texts + swapped, [0] * 16 + [1] * 16, "classification")
    assert model.predict([texts[3], swapped[3]]).tolist() == [0, 1]


BOTH = [("apple saw",), ("pear hammer",), ("plum plane",), ("cherry chisel",)]


def test_several_labels_have_a_model_a_class() -> None:
    labels = [[1, 0]] * 16 + [[0, 1]] * 16 + [[1, 1]] * 4
    model = linear.fit([*SINGLE, *BOTH], labels, "multilabel")
    chances = model.predict([("one apple and one pear",), ("a saw",)])
    assert chances.shape == (2, 2) and (chances > 0.5).tolist() == [[True, False], [False, True]]
    terms = sum(len(vectoriser.vocabulary_) for vectoriser in model.vectorisers)
    assert model.parameters == terms + 2 * (terms + 1)
    assert model.inverse_strength in linear_kinds.INVERSE_STRENGTHS


def test_the_stage_scores_label_sets_at_thresholds_of_held_out_rows(tmp_path: Path) -> None:
    rows, labels = [*SINGLE, *BOTH], [[1, 0]] * 16 + [[0, 1]] * 16 + [[1, 1]] * 4
    paths = write_task(tmp_path, rows, [0] * len(rows), kind="multilabel", classes=["fruit", "tool"])
    for name, path in paths.items():
        if name != "task":
            columns = {"labels": labels, "thresholds": ["class"] * len(rows)}
            table = pq.read_table(path).drop_columns(["label"]).to_pydict() | columns
            sets = {"set": ["validation"] * 18 + ["selection"] * 18} if name == "evaluation" else {}
            pq.write_table(pa.table(table | sets), path)
    write_json(paths["task"], {"sets": ["validation", "selection"], "classes": ["fruit", "tool"], "kind": "multilabel"})
    stage.run(SPEC, **paths, linear=tmp_path / "linear.json")
    found = read_json(tmp_path / "linear.json")["sets"]
    assert list(found["validation"]) == ["micro-f1", "macro-f1", "subset-accuracy"]
    assert found["selection"]["micro-f1"] > 0.9


def test_the_stage_ranks_texts_of_queries(tmp_path: Path) -> None:
    rows = [("fruit", f"a {fruit}") for fruit in FRUITS] + [("fruit", f"a {tool}") for tool in TOOLS]
    paths = write_task(tmp_path, rows * 4, ([1.0] * 4 + [0.0] * 4) * 4, kind="ranking")
    for name, path in paths.items():
        if name != "task":
            queries = pa.array([f"q{row // 8}" for row in range(32)])
            pq.write_table(pq.read_table(path).append_column("query", queries), path)
    stage.run(SPEC, **paths, linear=tmp_path / "linear.json")
    found = read_json(tmp_path / "linear.json")["sets"]["validation"]
    assert found["ndcg@10"] == found["mrr"] == 1.0 and {"ndcg", "mrr@10", "ndcg@5"} <= set(found)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_equal_rows_give_an_equal_model(kind: str) -> None:
    first, second = (linear.fit(pairs(5), [1] * 16 + [0] * 16, kind) for _ in range(2))
    assert first.predict(pairs(7)).tolist() == second.predict(pairs(7)).tolist()


def test_a_pair_has_features_of_both_texts_and_of_what_they_share() -> None:
    model = linear.fit(pairs(5), [1] * 16 + [0] * 16, "classification")
    widths = [len(vectoriser.vocabulary_) for vectoriser in model.vectorisers]
    rows = linear.features(model.vectorisers, [("this applesaw", "this applesaw")])
    assert rows.shape == (1, sum(4 * width + 1 for width in widths))
    # The last column is the cosine of the characters: a text with itself has 1.
    assert rows[0, -1] == pytest.approx(1.0)


@pytest.mark.parametrize(("labels", "kind"), [([0, 0, 1], "classification"), ([0.5], "regression")])
def test_too_few_rows_are_refused(labels: list[int | float], kind: str) -> None:
    with pytest.raises(ValueError, match="cross-validation needs two rows"):
        linear.fit([("some words",)] * len(labels), labels, kind)


def test_its_size_is_that_of_its_numbers_and_terms() -> None:
    """Words aa, bb and their pair, and the ten character n-grams that both texts have: a, aa, " ", and so on."""
    model = linear.fit([("aa bb",), ("aa bb",), ("aa bb",), ("aa bb",)], [0, 0, 1, 1], "classification")
    words, characters = (vectoriser.vocabulary_ for vectoriser in model.vectorisers)
    assert set(words) == {"aa", "bb", "aa bb"}
    assert set(characters) == {"aa", "a ", " b", "bb", "aa ", "a b", " bb", "aa b", "a bb", "aa bb"}
    # an inverse document frequency and a coefficient for each term, and one intercept
    assert model.parameters == 2 * (3 + 10) + 1
    letters = sum(map(len, [*words, *characters])) + 13
    assert model.stored_bytes == 4 * model.parameters + letters


def test_more_classes_have_a_coefficient_each_and_a_pair_has_four_parts() -> None:
    three = linear.fit(SINGLE, [place % 3 for place in range(32)], "classification")
    terms = sum(len(vectoriser.vocabulary_) for vectoriser in three.vectorisers)
    assert three.parameters == terms + 3 * terms + 3
    paired = linear.fit(pairs(5), [1] * 16 + [0] * 16, "classification")
    terms = sum(len(vectoriser.vocabulary_) for vectoriser in paired.vectorisers)
    assert paired.parameters == terms + (4 * terms + 2) + 1


def test_of_many_rows_some_choose_the_strength_and_all_fit_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MOST_VALIDATED", 16)
    model = linear.fit(SINGLE, KINDS, "classification")
    assert model.predict(SINGLE).tolist() == KINDS
    assert {"saw", "pear"} <= set(model.vectorisers[0].vocabulary_)


def write_task(folder: Path, rows: list[tuple[str, ...]], labels: list[int | float], **card: Any) -> dict[str, Path]:
    """A prepared task whose evaluation rows are its training rows."""
    texts = {name: list(column) for name, column in zip(("text_a", "text_b"), zip(*rows, strict=True), strict=False)}
    paths = {name: folder / f"{name}.parquet" for name in ("train", "evaluation")}
    pq.write_table(pa.table(texts | {"label": labels}), paths["train"])
    pq.write_table(pa.table(texts | {"label": labels, "set": ["validation"] * len(rows)}), paths["evaluation"])
    write_json(folder / "task.json", {"sets": ["validation"], "classes": None, **card})
    return paths | {"task": folder / "task.json"}


SPEC = json.dumps({"batch_sizes": [1, 3], "repeats": 3})


def test_the_stage_scores_sizes_and_times_it(tmp_path: Path) -> None:
    paths = write_task(tmp_path, SINGLE, KINDS, kind="classification", classes=["fruit", "tool"])
    stage.run(SPEC, **paths, linear=tmp_path / "linear.json")
    found = read_json(tmp_path / "linear.json")
    assert found["sets"] == {"validation": dict.fromkeys(("accuracy", "f1", "macro-f1", "matthews"), 1.0)}
    model = linear.fit(SINGLE, KINDS, "classification")
    assert found["set"] == "validation"
    assert found["params_total"] == model.parameters and found["inverse_strength"] == model.inverse_strength
    assert found["size_mib"] == pytest.approx(model.stored_bytes / 2**20)
    assert list(found["latency_ms"]) == ["1", "3"] and all(time["passes"] >= 3 for time in found["latency_ms"].values())


def test_numbers_for_pairs_have_correlations(tmp_path: Path) -> None:
    paths = write_task(tmp_path, pairs(5), [1.0] * 16 + [0.0] * 16, kind="regression")
    stage.run(SPEC, **paths, linear=tmp_path / "linear.json")
    scores = read_json(tmp_path / "linear.json")["sets"]["validation"]
    assert list(scores) == ["pearson", "spearman"] and min(scores.values()) > 0.8


def test_each_call_answers_the_next_rows(tmp_path: Path) -> None:
    paths = write_task(tmp_path, SINGLE[:4], [0, 0, 1, 1], kind="classification", classes=["a", "b"])
    batches = linear.PreparedRows.read(**paths).batches(3)
    assert [next(batches) for _ in range(2)] == [SINGLE[:3], [SINGLE[3], *SINGLE[:2]]]


@pytest.mark.parametrize(("kind", "reason"), [("span", "answers are places in a context"), ("text", "rows have no labels")])
def test_other_kinds_are_refused_with_a_reason(tmp_path: Path, kind: str, reason: str) -> None:
    paths = write_task(tmp_path, SINGLE, KINDS, kind=kind)
    with pytest.raises(UserError, match=f"got a task of kind {kind}; its {reason}, so there is no linear model for it"):
        stage.run(SPEC, **paths, linear=tmp_path / "linear.json")
    assert not (tmp_path / "linear.json").exists()
