"""`espalier choose`: its answer, its snippet as it is printed, and what it says of wrong questions."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pandas as pd
import pytest
import torch

from espalier.commands import choose
from espalier.config.deployment.formats import FORMATS
from espalier.deployment.runtimes import open_format
from espalier.runtime.errors import UserError
from tests import exports
from tests.cards import run_lines
from tests.unit.test_choosing import ROWS, table


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A folder of results with one table in it, as a user stands before it."""
    monkeypatch.chdir(tmp_path)
    write(table(), "demo")
    return tmp_path


def write(rows: pd.DataFrame, project: str) -> None:
    path = Path(f"results/{project}/deploy.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path, index=False)


def answered(capsys, *arguments: str, status: int = 0) -> str:
    assert choose.main(["--task", "mine", *arguments]) == status
    return capsys.readouterr().out


def test_the_answer_says_what_where_how_good_how_large_how_fast_and_what_else(study, capsys):
    record = Path("results/demo/minilm/mine/seed1/cofi/80/deploy/compact.json")
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"device": "cpu", "threads": 2}))
    write(table().assign(speedup_b1_lrows=40.0 / table()["ms_b1_lrows"]), "demo")
    said = answered(capsys, "--max-mib", "12")
    for words in (
        "Take cofi at 80 % (minilm) in onnx-int8.\n",
        "folder    results/demo/minilm/mine/seed1/cofi/80/compact\n",
        "score     accuracy 0.8600 on validation; nothing lost against the same model in PyTorch, agreement 1.000\n",
        "size      12.0 MiB in all, of these 11.0 MiB weights\n",
        "latency   3.00 ms a forward pass (median): batch 1, rows as the task has them, "
        "13.3 times as fast as the dense model in PyTorch, on cpu with 2 threads\n",
        "Runner-up: cofi at 95 % (minilm) in onnx-int8, accuracy 0.8000, 10.0 MiB, 1.00 ms.\n",
        "11.0 MiB more buys +0.0350: the dense teacher (minilm) in onnx-int8.\n",
        "results/demo/minilm/mine/seed1/cofi/80/compact is not here",
    ):
        assert words in said, said


def test_four_questions_of_a_user_are_answered_from_the_table(study, capsys):
    first = lambda *arguments: answered(capsys, *arguments).splitlines()[0]  # noqa: E731
    assert first("--max-mib", "20") == "Take cofi at 80 % (minilm) in onnx-int8."
    assert first("--max-ms", "2") == "Take cofi at 95 % (minilm) in onnx-int8."
    assert first("--max-drop", "0.01") == "Take the dense teacher (minilm) in onnx-int8."
    assert first("--min-score", "0.87", "--runtime", "torch") == "Take cofi at 60 % (minilm) in torch."
    assert first("--runtime", "onnxruntime", "--aim", "latency") == "Take cofi at 95 % (minilm) in onnx-int8."


def test_nothing_that_fits_says_what_is_closest_and_fails_the_command(study, capsys):
    said = answered(capsys, "--max-mib", "8", "--min-score", "0.7", status=1)
    assert "Nothing keeps all limits.\nClosest: cofi at 95 % (minilm) in onnx-int8: at most 8 MiB fails by 2.0 MiB." in said
    assert "linear model" not in said, "its score is too low"


def test_a_linear_model_that_would_do_better_is_told_and_not_offered(study, capsys):
    said = answered(capsys, "--min-score", "0.55")
    assert (
        said.startswith("Take cofi at 95 %") and "Note: a linear model would do better still: accuracy 0.6000, 0.5 MiB" in said
    )
    assert "linear model" not in answered(capsys, "--max-mib", "20")


def test_several_seeds_are_a_mean_and_the_folder_is_the_first_seed_s(study, capsys):
    write(pd.concat([table(seed=3).assign(score=table()["score"] + 0.01), table(seed=2)]), "demo")
    said = answered(capsys, "--max-mib", "20")
    assert "accuracy 0.8650 on validation, mean of 2 seeds; the folder is seed 2's" in said and "/seed2/cofi/80/compact" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base", "minlm"], "--base minlm: not in results/demo/deploy.csv; did you mean 'minilm'"),
        (["--runtime", "onxruntime"], "--runtime onxruntime: not known; did you mean 'onnxruntime'"),
        (["--runtime", "openvino"], "no model of results/demo/deploy.csv can be had so; formats there: torch, onnx-int8, onnx"),
        (["--batch", "32"], "--batch 32 --length any: not measured; results/demo/deploy.csv has --batch 1 --length rows"),
        (["--max-mib", "-3"], "--max-mib: got -3; a number above 0 is needed"),
        (["--project", "dem"], "--project dem: no deploy.csv there; did you mean 'demo'"),
    ],
)
def test_a_wrong_question_is_told_what_there_is(study, arguments, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        choose.main(["--task", "mine", *arguments])


def test_the_task_must_be_in_the_study_and_the_study_must_be_clear(study):
    with pytest.raises(UserError, match=r"--task mime: not in results/demo/deploy\.csv; did you mean 'mine'"):
        choose.main(["--task", "mime"])
    write(table(), "other")
    with pytest.raises(UserError, match="several studies have one: demo, other; name one by --project"):
        choose.main(["--task", "mine"])
    with pytest.raises(UserError, match="has no dense model for this task"):
        write(table(ROWS[2:]), "bare")
        choose.main(["--task", "mine", "--project", "bare", "--max-drop", "0.1"])


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torch", "onnx", "onnx-int8", "openvino"])
def test_the_lines_that_it_prints_run_and_give_the_model_s_logits(study, capsys, format):
    for package in FORMATS[format].packages:
        pytest.importorskip(package, reason=f"format {format} needs it")
    model = exports.unequal(exports.stock())
    spec = exports.spec_of("classification")
    compact = exports.write_export(study / "results/demo/minilm/mine/seed1/cofi/80", model, spec, format)
    write(table([("cofi", "80", format, 0.8, 12.0, 3.0, "yes")]), "demo")

    said = answered(capsys)
    lines = textwrap.dedent(said.split("How to load it:\n\n")[1].split("\n\nOr from the shell")[0])
    rows = exports.texts(5)
    logits = torch.as_tensor(run_lines(lines, study, {"a text": rows})["logits"])
    encoded = run_lines(lines, study, {"a text": rows})["encoded"]
    arrays = {name: torch.as_tensor(values).numpy() for name, values in encoded.items()}
    expected = torch.as_tensor(open_format(compact, format, "classification")(arrays)["logits"])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    assert f'espalier predict results/demo/minilm/mine/seed1/cofi/80/compact --format {format} --text "a text"' in said
