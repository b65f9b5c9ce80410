"""Up to four columns make the one or two texts of a row: joined, or by templates."""

from __future__ import annotations

import pytest

from espalier.config.kinds.sides import sides_of, template_problem
from espalier.data.tokenizer import open_tokenizer
from tests import tiny

ROW = {"query": "red shoes", "title": "Shoes", "text": "Red, {new}.", "site": " "}


def texts(columns, template=None):
    return [side.made(ROW) for side in sides_of(columns, template)]


@pytest.mark.parametrize(
    ("columns", "template", "expected"),
    [
        (["query"], None, ["red shoes"]),
        (["query", "title"], None, ["red shoes", "Shoes"]),
        (["query", "title", "text"], None, ["red shoes", "Shoes | Red, {new}."]),
        (["query", "site", "title", "text"], None, ["red shoes", "Shoes | Red, {new}."]),
        (["title", "text"], ["{title}: {text}"], ["Shoes: Red, {new}."]),
        (
            ["query", "title", "text"],
            ["q: {query}", "{title}: {text} ({title})"],
            ["q: red shoes", "Shoes: Red, {new}. (Shoes)"],
        ),
        (["query"], ["{{{query}}}"], ["{red shoes}"]),
        (["query", "title"], ["{query}", "{title}"], ["red shoes", "Shoes"]),
    ],
)
def test_columns_become_texts_and_python_says_the_same(columns, template, expected):
    sides = sides_of(columns, template)
    assert template is None or template_problem(columns, template) is None
    assert texts(columns, template) == expected
    assert [eval(side.code("row"), {"row": ROW}) for side in sides] == expected


def test_a_side_of_one_column_is_plain_and_names_can_change():
    assert [side.plain for side in sides_of(["a", "b"], ["{a}", "x {b}"])] == [True, False]
    renamed = [side.renamed({"title": "t", "text": "b"}) for side in sides_of(["title", "text"], ["{title}: {text}"])]
    assert renamed[0].made({"t": "T", "b": "B"}) == "T: B" and renamed[0].columns == ("t", "b")


def test_a_separator_token_in_a_template_is_read_as_what_it_is(tmp_path):
    base = tiny.write_base(tmp_path)
    tokenizer = open_tokenizer([base / "tokenizer.json"], 16)
    (text,) = (side.made({"a": "word1", "b": "word2"}) for side in sides_of(["a", "b"], ["{a} [SEP] {b}"]))
    assert tokenizer(text)["input_ids"] == [2, 5, 3, 6, 3]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (["{title} {body}"], "'{title} {body}' names 'body', which is no text column; allowed: title, text"),
        (["{title}"], "no side names the text column 'text'"),
        (["{title} {text}", "nothing"], "'nothing' names no column; write its name in braces, such as {title}"),
        (["{title} {text"], "'{title} {text' has a single '{'; write '{{' for the sign itself"),
        (["{title.__class__} {text}"], "names 'title.__class__', which is no text column"),
    ],
)
def test_wrong_templates_are_said_in_words(template, problem):
    assert problem in template_problem(["title", "text"], template)
