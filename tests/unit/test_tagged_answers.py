"""Exported models of words with tags: what `espalier predict` and the card's lines answer is what evaluation found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from espalier.commands import predict
from espalier.config.deployment.formats import FORMATS
from espalier.config.job_specs import TokeniseSpec
from espalier.data.tagged.conll import read_conll
from espalier.deployment import predicting
from espalier.deployment.rows import rows_for
from espalier.deployment.runtimes import open_format
from espalier.deployment.scoring import scored
from espalier.report.snippets import inputs_in, snippet
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from tests import exports, tagged
from tests.cards import run_lines

pytestmark = pytest.mark.slow
EXAMPLE = '[["the", "words", "of", "a", "sentence"]]'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    student = exports.unequal(exports.stock("tokens"))
    return exports.write_export(tmp_path_factory.mktemp("tokens"), student, exports.spec_of("tokens", ("words",)))


@pytest.fixture(scope="module")
def evaluated(folder, tmp_path_factory) -> pd.DataFrame:
    """Predictions for the sentences of the evaluation table, some of which are several rows."""
    rows = tagged.write_task(tmp_path_factory.mktemp("rows")) / "evaluation-rows.parquet"
    settings = TokeniseSpec(kind="tokens", max_length=exports.LENGTH, stride=None, max_answer_length=None)
    found = rows_for(folder, settings, rows)
    assert len(found) > len(tagged.sentences(32, 1)), "a sentence is longer than a row"
    return scored(open_format(folder, "torch", "tokens"), "tokens", found, ["entity-f1"])[1]


def predicted(folder: Path, *arguments: str) -> pd.DataFrame:
    output = folder.parent / "answers.parquet"
    assert predict.main([str(folder), *arguments, "--output", str(output)]) == 0
    return pd.read_parquet(output)


@pytest.mark.parametrize("form", ["jsonl", "csv", "txt"])
def test_the_answers_are_those_of_evaluation(folder, evaluated, tmp_path, monkeypatch, form):
    monkeypatch.setattr(predicting, "ANSWERED_AT_ONCE", 5)
    rows, file = [row["words"] for row in tagged.sentences(32, 1)], tmp_path / f"new.{form}"
    texts = [" ".join(words) for words in rows]
    content = {
        "jsonl": "".join(json.dumps({"words": words}) + "\n" for words in rows),
        "csv": "words\n" + "\n".join(texts) + "\n",
        "txt": "\n".join(texts) + "\n",
    }
    file.write_text(content[form])
    found = predicted(folder, str(file), "--format", "onnx")
    assert found.columns.tolist() == ["sentence", "place", "word", "label", "probability"]
    assert found["label"].tolist() == evaluated["prediction"].tolist()
    for name in ("sentence", "place", "word"):
        assert found[name].tolist() == evaluated[name].tolist()
    assert found["probability"].between(1 / len(tagged.CLASSES), 1).all()


def test_words_from_the_shell_get_a_line_each(folder, capsys):
    assert predict.main([str(folder), "--text", "word1 word30", "--text", "word3"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in lines] == [["1", "1", "word1"], ["1", "2", "word30"], ["2", "1", "word3"]]
    assert {line[3] for line in lines} <= set(tagged.CLASSES)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"words": []}\n', "data row 1, column 'words': got an empty sentence; every row needs a word"),
        ('{"words": 3}\n', "data row 1, column 'words': got 3; a list of words is needed"),
        ('{"words": ["a", ""]}\n', "data row 1, column 'words', word 2: got the empty word ''"),
    ],
)
def test_bad_words_are_refused(folder, tmp_path, content, said):
    file = tmp_path / "new.jsonl"
    file.write_text(content)
    with pytest.raises(UserError, match=said.replace("[", r"\[")):
        predict.main([str(folder), str(file)])


@pytest.mark.parametrize("format", [name for name in FORMATS if "int8" not in name and not FORMATS[name].packages])
def test_the_card_s_lines_give_what_evaluation_gave(folder, evaluated, tmp_path, format):
    lines = snippet(format, inputs_in(read_json(folder / "config.json")), str(folder))
    assert lines.count(EXAMPLE) == 1
    rows = [row["words"] for row in tagged.sentences(32, 1)]
    short = [number for number, words in enumerate(rows, start=1) if len(words) <= exports.LENGTH - 2]
    found = run_lines(lines.replace(EXAMPLE, repr([rows[number - 1] for number in short])), tmp_path, {})
    assert found["answers"] == [evaluated.loc[evaluated["sentence"] == number, "prediction"].tolist() for number in short]


def test_lines_of_conll_are_numbers_of_the_file(tmp_path):
    (tmp_path / "a.conll").write_text("a X\n\n\nb Y\nc X\n")
    table = read_conll(tmp_path / "a.conll", ["words"])
    assert table["# lines"].to_pylist() == [[1], [4, 5]] and np.array_equal(table["words"].to_pylist()[1], ["b", "c"])
