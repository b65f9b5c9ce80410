"""The linear model that encoders are compared with: it learns words, pairs and numbers, and says the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.evaluation import linear
from espalier.runtime.files import write_json

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
    assert model.inverse_strength in linear.INVERSE_STRENGTHS


def test_pairs_are_compared() -> None:
    model = linear.fit(pairs(5), [1] * 16 + [0] * 16, "classification")
    assert np.mean(model.predict(pairs(6)) == np.repeat([1, 0], 16)) > 0.9


def test_numbers_are_predicted() -> None:
    model = linear.fit(SINGLE, [4.0 * kind for kind in KINDS], "regression")
    low, high = model.predict([("plum",), ("chisel",)])
    assert 0.0 <= low < 1.0 and 3.0 < high <= 4.0
    assert model.inverse_strength in linear.INVERSE_STRENGTHS


def test_the_order_of_words_counts() -> None:
    texts = [(f"{first} {second}",) for first in FRUITS for second in TOOLS]
    swapped = [(" ".join(reversed(text.split())),) for (text,) in texts]
    model = linear.fit(texts + swapped, [0] * 16 + [1] * 16, "classification")
    assert model.predict([texts[3], swapped[3]]).tolist() == [0, 1]


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


def test_the_floor_of_a_prepared_task(tmp_path: Path) -> None:
    """Its scores are those of the model on the evaluation rows; a kind without labels of its own has no floor."""
    texts = {"text_a": [text for (text,) in SINGLE], "label": KINDS}
    pq.write_table(pa.table(texts), tmp_path / "train.parquet")
    pq.write_table(pa.table(texts | {"set": ["validation"] * len(KINDS)}), tmp_path / "evaluation.parquet")
    card = {"kind": "classification", "classes": ["fruit", "tool"], "sets": ["validation"]}
    write_json(tmp_path / "task.json", card)

    floor = linear.linear_floor(tmp_path / "task.json")
    assert floor is not None and floor["sets"]["validation"]["accuracy"] == 1.0 == floor["sets"]["validation"]["f1"]

    write_json(tmp_path / "task.json", card | {"kind": "span"})
    assert linear.linear_floor(tmp_path / "task.json") is None
