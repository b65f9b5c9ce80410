"""The built-in tasks: text is cleaned as it should be, and no text or split leaks."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from espalier.core import docs
from espalier.core.docs_text import clean, first_sentence, key, mask, passages, prose

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built() -> dict[str, dict[str, pa.Table]]:
    return {name: docs.build(name) for name in docs.CLASSES}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See :class:`~torch.nn.Linear` first.", "See Linear first."),
        ("A :ref:`user guide <guide>` and `this page <https://x.org>`_.", "A user guide and this page."),
        ("An ``axis`` of `x`, *never* **two**\n    of them [1]_.", "An axis of x, never two of them."),
        ("The [`BertModel`] of [a paper](https://x.org).", "The BertModel of a paper."),
        ("Product a * b * c of arrays.", "Product a * b * c of arrays."),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return the sum\nof all rows. Then stop.", "Return the sum of all rows."),
        ("Return a norm, e.g. the Euclidean one. More.", "Return a norm, e.g. the Euclidean one."),
        ("Too short here.", None),
        (">>> print the sum of all rows", None),
        (".. deprecated:: 1.2 Use the other one.", None),
        ("This function is deprecated in favour of another one.", None),
        ("Compute the value of :math:`x^2` for all x.", None),
        ("sum(axis, out) returns the sum of rows.", None),
        ("Parameters\n----------\nx : array of some numbers", None),
        ("", None),
    ],
)
def test_first_sentence(docstring: str, expected: str | None) -> None:
    assert first_sentence(docstring) == expected


@pytest.mark.parametrize(
    "name",
    ["NumPy", "np", "pandas", "sklearn", "scikit-learn", "plt", "PyTorch", "Hugging Face", "nx", "NetworkXError", "libtorch"],
)
def test_names_are_masked(name: str) -> None:
    assert mask(f"Input for {name} is here.") == "Input for library is here."


def test_parts_of_other_words_are_not_masked() -> None:
    text = "An input sympathetic to the transformer and its scientific updates."
    assert mask(text) == text


def test_key_puts_identifiers_aside() -> None:
    assert key("Construct a BertTokenizer.") == key("construct a GPT2Tokenizer")
    assert key("Return the sum.") != key("Return the mean.")


def test_passages_give_the_descriptions_in_lists() -> None:
    docstring = "Sum.\n\nNotes\n-----\nA note.\n\nParameters\n----------\nx : array\n    What is\n    added."
    assert passages(docstring) == ["Sum.", "A note.", "x : array", "What is\nadded."]


def test_prose_has_a_sane_length() -> None:
    assert prose("Just four words here.", words=(4, 4)) == "Just four words here."
    assert prose("Just four words here.", words=(5, 9)) is None
    assert prose("Just four words here.", words=(1, 3)) is None


def test_libraries_are_not_imported_to_be_read(built: dict[str, dict[str, pa.Table]]) -> None:
    assert built
    assert "sympy.physics.quantum.qubit" not in sys.modules


def test_docs_library_is_balanced(built: dict[str, dict[str, pa.Table]]) -> None:
    rows = built["docs-library"]
    assert set(Counter(rows["train"]["label"].to_pylist()).values()) == {1250}
    assert set(Counter(rows["validation"]["label"].to_pylist()).values()) == {200}
    assert rows["train"].num_rows >= 8000
    assert rows["train"].schema == pa.schema({"text_a": pa.string(), "label": pa.int64()})


def test_docs_library_does_not_name_a_library(built: dict[str, dict[str, pa.Table]]) -> None:
    names = re.compile(r"matplotlib|networkx|numpy|pandas|scipy|scikit|sklearn|sympy|torch|hugging|\b(np|pd|plt|nx)\b", re.I)
    texts = [text for table in built["docs-library"].values() for text in table["text_a"].to_pylist()]
    assert [text for text in texts if names.search(text)] == []


def test_docs_library_has_no_text_twice(built: dict[str, dict[str, pa.Table]]) -> None:
    keys = [key(text) for table in built["docs-library"].values() for text in table["text_a"].to_pylist()]
    assert len(set(keys)) == len(keys)


def test_docs_pair_is_balanced_and_has_no_text_twice(built: dict[str, dict[str, pa.Table]]) -> None:
    rows = built["docs-pair"]
    texts = [text for table in rows.values() for name in ("text_a", "text_b") for text in table[name].to_pylist()]
    assert len(set(texts)) == len(texts)
    for table in rows.values():
        counts = Counter(table["label"].to_pylist())
        assert counts[0] == counts[1]
    assert rows["train"].num_rows >= 3000


def test_docs_corpus_has_no_text_twice(built: dict[str, dict[str, pa.Table]]) -> None:
    rows = built["docs-corpus"]
    assert rows["train"].column_names == ["text_a"]
    texts = [text for table in rows.values() for text in table["text_a"].to_pylist()]
    assert len(set(texts)) == len(texts)


def test_digest_is_of_the_rows_in_order() -> None:
    table = pa.table({"text_a": ["a", "b"], "label": [0, 1]})
    assert docs.digest(table) == docs.digest(pa.concat_tables([table.slice(0, 1), table.slice(1)]))
    assert docs.digest(table) != docs.digest(table.take([1, 0]))


def test_readme_states_what_is_built(built: dict[str, dict[str, pa.Table]]) -> None:
    lock = dict(re.findall(r"^([a-z0-9-]+)==([^\s+]+)", (ROOT / "envs/requirements.lock").read_text(), re.MULTILINE))
    other = {name: version for name, version in docs.versions().items() if lock.get(name) != version}
    if other:
        pytest.skip(f"digests hold for the versions of envs/requirements.lock; installed here: {other}")
    readme = (ROOT / "data/README.md").read_text()
    assert docs.summary(built) in readme, "rewrite the table in data/README.md with `python -m espalier.core.docs`"
