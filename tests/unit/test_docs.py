"""The built-in tasks: text is cleaned as it should be, and no text or split leaks."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from espalier.data.builtin import tasks as docs
from espalier.data.builtin.questions import Entry, entries
from espalier.data.builtin.text import clean, first_sentence, key, mask, passages, prose
from espalier.data.builtin.word_order import swap, swappable

pytestmark = pytest.mark.slow

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


def test_words_that_may_change_places() -> None:
    sentence = "Return the the sum, over all NaN rows of x1 given."
    # "the the" would look the same, "sum," has punctuation, "NaN" capitals, "x1" a digit; the ends stay.
    assert swappable(sentence) == [4, 7]
    assert swap(sentence, 4) == "Return the the sum, all over NaN rows of x1 given."
    assert swappable("Sum of rows.") == []


def test_docs_order_is_balanced_and_has_no_sentence_twice(built: dict[str, dict[str, pa.Table]]) -> None:
    rows = built["docs-order"]
    assert {split: table.num_rows for split, table in rows.items()} == {"train": 10_000, "validation": 1_000}
    for table in rows.values():
        counts = Counter(table["label"].to_pylist())
        assert counts[0] == counts[1]
    # Words in alphabetical order: neither form of a sentence may stand beside the other, in one split or in two.
    texts = [text for table in rows.values() for text in table["text_a"].to_pylist()]
    assert len({" ".join(sorted(text.split())) for text in texts}) == len(texts)


def test_docs_order_changes_nothing_but_the_order(built: dict[str, dict[str, pa.Table]]) -> None:
    written = {sentence for found in docs.docstrings().values() for sentence in filter(None, map(first_sentence, found))}
    for table in built["docs-order"].values():
        for text, label in zip(*table.to_pydict().values(), strict=True):
            # A swap is its own reverse.
            restored = {swap(text, place) for place in swappable(text)} & written
            assert restored if label == 1 else text in written, text


@pytest.mark.parametrize("length", [len, lambda text: len(text.split())], ids=["characters", "words"])
def test_length_tells_nothing_of_the_order(built: dict[str, dict[str, pa.Table]], length: Callable[[str], int]) -> None:
    texts, labels = pa.concat_tables(built["docs-order"].values()).to_pydict().values()
    # Area under the curve of a classifier that sees the length alone; 0.5 is chance.
    assert roc_auc_score(labels, [length(text) for text in texts]) == pytest.approx(0.5, abs=0.02)


def test_docs_span_asks_for_what_stands_in_the_context(built: dict[str, dict[str, pa.Table]]) -> None:
    rows = [row for table in built["docs-span"].values() for row in table.to_pylist()]
    for row in rows:
        (answer,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
        name = re.fullmatch(r"What(?: type)? is (\w+)\?", row["text_a"])[1]
        said = f"{name} : {answer}" if row["text_a"].startswith("What type is ") else answer
        assert row["text_b"].startswith(said, start + len(answer) - len(said))
        assert f" {name} : " in f" {row['text_b']}"[: start + 1] and len(row["text_b"].split()) <= 160
    assert len(built["docs-span"]["train"]) >= 4000 and len(built["docs-span"]["validation"]) >= 500


def test_docs_span_has_no_meaning_twice_and_no_context_in_both_splits(
    built: dict[str, dict[str, pa.Table]],
) -> None:
    train, validation = (table.to_pylist() for table in built["docs-span"].values())
    ids = [row["id"] for row in (*train, *validation)]
    meanings = [row["answers"]["text"][0] for row in (*train, *validation) if row["text_a"].startswith("What is ")]
    assert len(set(ids)) == len(ids) and len(set(meanings)) == len(meanings)
    assert not {row["text_b"] for row in train} & {row["text_b"] for row in validation}


DOCSTRING = """Sum of rows.

Parameters
----------
x : array_like, optional (default: None)
    The rows that are added to each other. Others are left out.

    More on this.
*args : list
    Whatever else there is to be said here.
axis : {0, 1}
    The axis along which the sum is taken.
out, dtype : None
    Names of two parameters that share a line.
keep_dims : :class:`bool`
    Whether the axis stays as one of length one.

Returns
-------
y : array
    The sum of all rows that there are.
"""


def test_the_parameters_of_a_docstring() -> None:
    found = entries(DOCSTRING)
    assert [entry.name for entry in found] == ["x", "keep_dims"]
    first = "The rows that are added to each other."
    text = f"x : array_like, optional (default: None). {first} Others are left out."
    assert found[0] == Entry("x", text, "array_like", first)
    assert found[1] == Entry(
        "keep_dims",
        "keep_dims : bool. Whether the axis stays as one of length one.",
        "bool",
        "Whether the axis stays as one of length one.",
    )


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
    assert docs.readme_table(built) in readme, "rewrite data/README.md's table with `python -m espalier.data.builtin.tasks`"
