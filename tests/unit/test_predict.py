"""`espalier predict`: the answers are those of `evaluate`, whatever the file and the format; bad input is refused in words."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from espalier.__main__ import main
from espalier.commands import predict
from espalier.config.job_specs import EvaluateSpec, TokeniseSpec
from espalier.deployment import predicting
from espalier.runtime.errors import UserError
from espalier.stages.data import tokenise
from espalier.stages.results import evaluate
from tests import exports
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
COLUMNS = {"classification": ("sentence",), "regression": ("first", "second"), "span": ("question", "context")}
METRICS = {"classification": ("accuracy",), "regression": ("pearson",), "span": ("squad-f1",)}
ROWS = 40
LABELS = ["low", "middle", "high"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {}
    for kind, columns in COLUMNS.items():
        student = exports.unequal(exports.stock(kind))
        made[kind] = exports.write_export(tmp_path_factory.mktemp(kind), student, exports.spec_of(kind, columns), "onnx-int8")
    return made


def rows_of(kind: str) -> dict[str, list[str]]:
    """The user's columns: texts of all lengths, some longer than a row of the model."""
    texts = [exports.texts(ROWS, 1), exports.texts(ROWS, 2)]
    if kind == "span":
        texts[0] = [text.split()[0] for text in texts[0]]
    return dict(zip(COLUMNS[kind], texts, strict=False))


def evaluated(kind: str, folder: Path, scratch: Path) -> pd.DataFrame:
    """predictions.parquet of the stages `tokenise` and `evaluate` for the same texts."""
    texts = list(rows_of(kind).values())
    labels = {"label": pa.array([0, 1, 2, 1] * (ROWS // 4), pa.int64())}
    if kind == "regression":
        labels = {"label": pa.array(np.arange(ROWS) / 10)}
    if kind == "span":
        answers = [{"text": [context.split()[0]], "answer_start": [0]} for context in texts[1]]
        labels = {"answers": pa.array(answers), "id": pa.array([str(row) for row in range(ROWS)])}
    columns = {f"text_{letter}": pa.array(words) for letter, words in zip("ab", texts, strict=False)} | labels
    pq.write_table(pa.table({**columns, "set": ["validation"] * ROWS}), scratch / "rows.parquet")

    base = folder.parent / "base"
    files = [base / "tokenizer.json", base / "tokenizer_config.json", base / "config.json"]
    windows = {"stride": 6, "max_answer_length": 8} if kind == "span" else {"stride": None, "max_answer_length": None}
    settings = TokeniseSpec(kind=kind, max_length=exports.LENGTH, **windows).model_dump_json()
    rows, tokens = scratch / "rows.parquet", scratch / "tokens.parquet"
    names = {"train": rows, "evaluation": rows, "tokens_train": scratch / "train.parquet", "tokens_evaluation": tokens}
    tokenise.run(settings, tokenizer=files, **names)

    (scratch / "task.json").write_text(json.dumps({"sets": ["validation"]}))
    evaluate.run(
        EvaluateSpec(kind=kind, metrics=METRICS[kind], device="cpu").model_dump_json(),
        model=[folder / "config.json", folder / "model.safetensors"],
        task=scratch / "task.json",
        tokens=tokens,
        scores=scratch / "scores.json",
        predictions=scratch / "predictions.parquet",
    )
    return pd.read_parquet(scratch / "predictions.parquet")


def predicted(folder: Path, *arguments: str) -> pd.DataFrame:
    output = folder.parent / "answers.parquet"
    assert predict.main([str(folder), *arguments, "--output", str(output)]) == 0
    return pd.read_parquet(output)


@pytest.mark.parametrize("format", ["torch", "onnx"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_the_answers_are_those_of_evaluation(folders, tmp_path, kind, format):
    rows, file = rows_of(kind), tmp_path / "new.parquet"
    pq.write_table(pa.table({"other": list(range(ROWS)), **rows}), file)
    found, expected = predicted(folders[kind], str(file), "--format", format), evaluated(kind, folders[kind], tmp_path)

    if kind == "classification":
        assert found["label"].tolist() == [LABELS[index] for index in expected["prediction"]]
        wanted = torch.tensor(expected["logits"].tolist()).softmax(dim=-1).numpy()
        np.testing.assert_allclose(found[[f"probability_{name}" for name in LABELS]], wanted, atol=1e-5, rtol=0)
        assert (found["probability"] == found[[f"probability_{name}" for name in LABELS]].max(axis=1)).all()
    elif kind == "regression":
        np.testing.assert_allclose(found["prediction"], expected["prediction"], atol=1e-5, rtol=0)
    else:
        assert found["answer"].tolist() == expected["prediction"].tolist()
        assert ((found["score"] > 0) & (found["score"] <= 1)).all()


def test_every_kind_of_file_gives_the_same_answers_in_the_rows_order(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(predicting, "ANSWERED_AT_ONCE", 7)
    frame = pd.DataFrame(rows_of("classification"))
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    (tmp_path / "a.txt").write_text("\n".join(frame["sentence"]) + "\n")
    answers = {path.suffix: predicted(folders["classification"], str(path)) for path in sorted(tmp_path.glob("a.*"))}
    assert len(answers) == 5
    for found in answers.values():
        assert found["label"].tolist() == answers[".csv"]["label"].tolist()
        np.testing.assert_allclose(found["probability"], answers[".csv"]["probability"], atol=1e-6)

    # pieces of seven rows, or all at once
    monkeypatch.setattr(predicting, "ANSWERED_AT_ONCE", 1000)
    whole = predicted(folders["classification"], str(tmp_path / "a.csv"))
    np.testing.assert_allclose(whole["probability"], answers[".csv"]["probability"], atol=1e-6)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_answers_are_written_as_the_ending_says(folders, tmp_path, monkeypatch, ending):
    monkeypatch.setattr(predicting, "ANSWERED_AT_ONCE", 9)
    file, output = tmp_path / "new.csv", tmp_path / f"deep/answers{ending}"
    pd.DataFrame(rows_of("classification")).to_csv(file, index=False)
    assert predict.main([str(folders["classification"]), str(file), "--output", str(output)]) == 0
    read = {".csv": pd.read_csv, ".jsonl": lambda path: pd.read_json(path, lines=True), ".parquet": pd.read_parquet}
    found = read[ending](output)
    assert found.columns.tolist() == ["label", "probability", *(f"probability_{name}" for name in LABELS)]
    assert len(found) == ROWS and [path.name for path in output.parent.iterdir()] == [output.name]


def test_a_pipe_gives_csv_and_progress_stays_out_of_it(folders):
    sentences = rows_of("classification")["sentence"][:3]
    command = [sys.executable, "-m", "espalier", "predict", str(folders["classification"]), "-", "--format", "onnx-int8"]
    text = "sentence,x\n" + "".join(f"{sentence},1\n" for sentence in sentences)
    options = {"capture_output": True, "text": True, "check": False, "cwd": ROOT / "workflow"}
    result = subprocess.run(command, input=text, **options)
    assert result.returncode == 0, result.stderr
    assert pd.read_csv(io.StringIO(result.stdout))["label"].isin(LABELS).sum() == 3

    lines = subprocess.run([*command, "--as", "txt"], input="\n".join(sentences), **options)
    assert lines.stdout == result.stdout
    broken = subprocess.run(command, input="sentense\nx\n", **options)
    assert broken.returncode == 1 and "predict: standard input: there is no column 'sentence'" in broken.stderr
    assert "did you mean 'sentense'" in broken.stderr and not broken.stdout


def test_a_sentence_from_the_shell_is_answered_on_a_line(folders, capsys):
    assert predict.main([str(folders["classification"]), "--text", "word1 word2", "--text", "word3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and {part.split()[0] for part in lines[0].split(", ")} == set(LABELS)
    probabilities = [float(part.split()[1]) for part in lines[0].split(", ")]
    assert probabilities == sorted(probabilities, reverse=True) and abs(sum(probabilities) - 1) < 1e-3

    assert predict.main([str(folders["regression"]), "--text", "word1", "--pair", "word2"]) == 0
    assert isinstance(float(capsys.readouterr().out), float)
    assert predict.main([str(folders["span"]), "--text", "word1", "--pair", "word5 word6 word7"]) == 0
    answer, score = capsys.readouterr().out.rsplit(maxsplit=1)
    assert answer in "word5 word6 word7" and 0 < float(score) <= 1


def test_columns_may_have_other_names(folders, tmp_path):
    file = tmp_path / "new.csv"
    pd.DataFrame({"mine": rows_of("classification")["sentence"]}).to_csv(file, index=False)
    assert len(predicted(folders["classification"], str(file), "--columns", "mine")) == ROWS


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("sentence\n", [], "got 0 rows; at least 1 is needed"),
        ("", [], "the file is empty; a line of column names is needed"),
        ("sentence\nword1\n  \n", [], "data row 2, column 'sentence': got the empty text"),
        ("text\nword1\n", [], "there is no column 'sentence'; columns: text"),
        ("sentence\nword1\n", ["--columns", "a", "b"], "--columns: got a, b; task mine reads sentence"),
        (
            "sentence\nword1\n",
            ["--format", "openvino"],
            "no openvino/openvino_model.xml, so no format openvino; formats here",
        ),
        ("sentence\nword1\n", ["--output", "answers.xlsx"], "got the ending '.xlsx'; allowed: .csv, .parquet, .jsonl"),
        ("sentence\nword1\n", ["--as", "csv"], "--as is for the standard input"),
        ("sentence\nword1\n", ["--text", "word1"], "FILE or --text is needed, and not both"),
    ],
)
def test_bad_input_is_refused_in_a_sentence_and_nothing_is_written(folders, tmp_path, content, arguments, said, capsys):
    file = tmp_path / "new.csv"
    file.write_text(content)
    assert main(["predict", str(folders["classification"]), str(file), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new.cvs"], "new.cvs: got the ending '.cvs'; did you mean '.csv'"),
        (["new.csv"], "new.csv: there is no such file; looked in"),
        (["--text", "one", "--pair", "two"], "the model reads one text, sentence; --pair is for tasks on pairs"),
        (["--text", "one", "--text", "two", "--pair", "two"], "--pair: got 1, and 2 --text; each --text needs one"),
        ([], "FILE or --text is needed, and not both"),
    ],
)
def test_wrong_questions_are_refused(folders, arguments, said):
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        predict.main([str(folders["classification"]), *arguments])
    with pytest.raises(UserError, match="the model reads pairs, question, context: give the second one by --pair"):
        predict.main([str(folders["span"]), "--text", "one"])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "there is no such folder"),
        ({}, "no config.json with an object in it"),
        ({"config.json": "[]"}, "no config.json with an object in it"),
        ({"config.json": '{"model_type": "bert"}'}, "no section 'espalier', which says how texts are read"),
        ({"config.json": '{"espalier": {"task": "mine"}}'}, "config.json, espalier.kind: Field required"),
        (
            {"config.json": '{"espalier": {"task": "mine", "kind": "text", "text": ["a"], "max_length": 8}}'},
            "no tokenizer.json",
        ),
    ],
)
def test_a_folder_that_is_no_exported_model_is_refused(tmp_path, files, said):
    folder = tmp_path / "folder"
    for name, content in (files or {}).items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    if files is not None:
        folder.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=said):
        predict.main([str(folder), "--text", "word1"])
