"""Questions without an answer: the definitions of SQuAD v2's script by hand, null scores, thresholds, and what models say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from espalier.config import parse
from espalier.config.blocks import ConfigError
from espalier.config.data import Task
from espalier.data.answers import check_answers
from espalier.data.labelled import SourceTable
from espalier.data.span_windows import Cutting, write_windows
from espalier.data.spans import OUT, Examples, SpanRows, null_probabilities, null_scores
from espalier.data.tokenizer import open_tokenizer
from espalier.evaluation.squad import best_score
from espalier.evaluation.squad_v2 import best_null_threshold, mark, no_answer_scores
from espalier.kinds import span
from espalier.runtime.errors import UserError
from tests import tiny

ALL = (
    "squad-f1",
    "exact-match",
    "has-answer-f1",
    "has-answer-exact-match",
    "no-answer-accuracy",
    "best-f1",
    "best-exact-match",
)
TASK = {
    **{"kind": "span", "source": "files", "train": "a.jsonl", "validation": "b.jsonl", "text": ["question", "context"]},
    **{"label": "answers", "metric": "squad-f1"},
}


@pytest.mark.parametrize(
    ("prediction", "golds", "f1", "exact"),
    [
        ("", [], 1.0, 1.0),  # said nothing where there is nothing
        ("Paris", [], 0.0, 0.0),
        ("", ["Paris"], 0.0, 0.0),
        ("the city of Paris", ["Paris", "city of Paris"], 1.0, 1.0),  # articles go, the best gold answer counts
        ("in Paris", ["Paris"], 2 / 3, 0.0),
        ("the", [], 1.0, 1.0),  # nothing is left after normalising, as in compute_f1
        ("", ["The"], 1.0, 1.0),  # a gold answer of which nothing is left does not count
    ],
)
def test_marks_are_those_of_the_script(prediction, golds, f1, exact):
    assert mark("squad-f1", prediction, golds) == pytest.approx(f1)
    assert mark("exact-match", prediction, golds) == exact


def test_where_both_have_words_marks_are_those_of_version_1():
    for prediction, golds in (("in Paris", ["Paris"]), ("a b c", ["c b", "x"]), ("x", ["y"])):
        for metric in ("squad-f1", "exact-match"):
            assert mark(metric, prediction, golds) == best_score(metric, prediction, golds)


def test_the_best_threshold_by_hand():
    """Five questions, the second and fourth without an answer. Sums when 0, 1, … 5 are answered: 2, 3, 2, 2.5, 1.5, 2.5."""
    marks, scores = np.array([1.0, 0.0, 0.5, 0.0, 1.0]), np.array([-4.0, -2.0, 0.0, 2.0, 4.0])
    answered = np.array([True, False, True, False, True])
    assert best_null_threshold(marks, scores, answered) == (3 / 5, -3.0)


def test_where_it_is_best_to_answer_none_no_question_is_answered():
    score, threshold = best_null_threshold(
        np.array([0.2, 0.0, 0.0]), np.array([5.0, -7.0, 1.0]), np.array([True, False, False])
    )
    assert (score, threshold) == (pytest.approx(2 / 3), -8.0)


def test_where_it_is_best_to_answer_all_the_threshold_is_beyond_the_last():
    assert best_null_threshold(np.array([1.0, 0.8]), np.array([3.0, 1.0]), np.array([True, True])) == (0.9, 4.0)


def test_equal_null_scores_share_their_fate():
    """One threshold cannot answer one of two questions with equal scores: 1 of 2, not 2 of 2."""
    score, _ = best_null_threshold(np.array([1.0, 0.0]), np.array([0.0, 0.0]), np.array([True, False]))
    assert score == 0.5


def script(marks, scores, answered, predictions):
    """`find_best_thresh` of evaluate-v2.0.py, as it stands there but for names and the factor 100."""
    current = best = sum(not each for each in answered)
    for place in np.argsort(scores, kind="stable"):
        current += marks[place] if answered[place] else -1 if predictions[place] else 0
        best = max(best, current)
    return best / len(marks)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_score_is_the_script_s(seed):
    generator = np.random.default_rng(seed)
    answered, scores = generator.random(40) < 0.6, generator.normal(size=40)
    marks = np.where(answered, generator.random(40), 0.0)
    best, threshold = best_null_threshold(marks, scores, answered)
    assert best == pytest.approx(script(marks, scores, answered, ["x"] * 40))
    said = np.where(scores > threshold, ~answered, marks)
    assert said.mean() == pytest.approx(best), "the threshold gives what it promises"


def test_values_of_a_set_by_hand():
    answered = np.array([True, False, True, False])
    marks = {"squad-f1": np.array([0.5, 1.0, 0.0, 0.0]), "exact-match": np.array([0.0, 1.0, 0.0, 0.0])}
    raw = {"squad-f1": np.array([0.5, 0.0, 1.0, 0.0]), "exact-match": np.array([0.0, 0.0, 1.0, 0.0])}
    values = no_answer_scores(ALL, marks, raw, np.array([-1.0, 3.0, 0.0, 2.0]), answered)
    assert values == {
        **{"squad-f1": 0.375, "exact-match": 0.25, "has-answer-f1": 0.25, "has-answer-exact-match": 0.0},
        **{"no-answer-accuracy": 0.5, "best-f1": 3.5 / 4, "best-exact-match": 3 / 4},
    }


def examples(**changes) -> Examples:
    offsets = [np.array([[0, 3], [4, 7], [8, 13]]), np.array([[4, 7], [8, 13], [14, 18]])]
    known = Examples(["x"], ["one two three four"], [["two"]], np.array(["a"]), np.array([0, 0]), np.array([3, 3]), offsets, 2)
    return replace(known, **changes)


def two_windows() -> torch.Tensor:
    """The best answer is 'four' with 4 + 5... in the second window; [CLS] has 6 in the first window and 3 in the second."""
    logits = torch.full((2, 2, 7), OUT)
    logits[0, :, 0], logits[1, :, 0] = torch.tensor([4.0, 2.0]), torch.tensor([1.0, 2.0])
    logits[0, 0, 3:6], logits[0, 1, 3:6] = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    logits[1, 0, 3:6], logits[1, 1, 3:6] = torch.tensor([0.0, 0.0, 3.0]), torch.tensor([0.0, 0.0, 5.0])
    return logits.flatten(1)


def test_a_null_score_is_the_lowest_of_cls_less_the_best_answer():
    assert null_scores(two_windows(), examples()).tolist() == [3.0 - 8.0]


def test_a_null_probability_is_that_of_cls_in_the_window_that_holds_least_of_it():
    halves = two_windows()[1].chunk(2)
    wanted = float(halves[0].softmax(0)[0] * halves[1].softmax(0)[0])
    assert null_probabilities(two_windows(), examples()).tolist() == [pytest.approx(wanted)]


@pytest.mark.parametrize(("threshold", "answer"), [(-4.9, "four"), (-5.1, "")])
def test_a_question_has_no_answer_above_the_threshold(task, threshold, answer):
    rows = SpanRows.read(task / "evaluation.parquet", 0)
    found = span.answered(two_windows(), replace(rows, examples=examples(no_answer=True, threshold=threshold)))
    assert (found.answers, found.best, found.threshold) == ([answer], ["four"], threshold)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which every fourth has no answer, with held-out ones in a set of their own."""
    folder = tmp_path_factory.mktemp("no-answer")
    encoder = open_tokenizer([tiny.write_base(folder / "base") / "tokenizer.json"], 16)
    for seed, name in enumerate(("train", "evaluation")):
        rows = tiny.span_rows(48, seed)
        for number, row in enumerate(rows):
            row["no_answer"] = True
            if name == "evaluation":
                row["set"] = "validation" if number < 32 else "selection"
            if number % 4 == 0:
                row["answers"] = {"text": [], "answer_start": []}
        schema = pa.schema([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int64()))])
        table = pa.Table.from_pylist([{key: value for key, value in row.items() if key != "answers"} for row in rows])
        answers = pa.array([row["answers"] for row in rows], pa.struct(schema))
        pq.write_table(table.append_column("answers", answers), folder / f"{name}-rows.parquet")
        write_windows(encoder, Cutting(16, 6, 8), folder / f"{name}-rows.parquet", folder / f"{name}.parquet")
    return folder


def test_questions_without_an_answer_are_trained_at_cls(task):
    rows, windows = pq.read_table(task / "evaluation-rows.parquet").to_pylist(), SpanRows.read(task / "evaluation.parquet", 0)
    without = [number for number, row in enumerate(rows) if not row["answers"]["text"]]
    assert windows.examples.no_answer and len(without) == 12
    assert (windows.labels[np.isin(windows.examples.example, without)] == 0).all()
    assert windows.labels[~np.isin(windows.examples.example, without)].any()
    batch = windows.batch(np.arange(4), torch.device("cpu"))
    assert batch.allowed[:, 0].all(), "[CLS] has a probability in every window"


def test_scores_use_the_best_threshold_of_the_held_out_rows_and_a_served_model_its_own(task):
    kind, model, accelerator = span.Span(), tiny.answerer(), tiny.accelerator()
    rows = SpanRows.read(task / "evaluation.parquet", 0)
    measured = kind.measure(model, rows, accelerator)
    scores = kind.scores(measured, rows, ALL)
    assert list(scores) == ["validation", "selection"] and scores["validation"]["rows"] == 32
    assert scores["selection"]["squad-f1"] == pytest.approx(scores["selection"]["best-f1"])
    parts = scores["validation"]
    assert parts["squad-f1"] == pytest.approx((24 * parts["has-answer-f1"] + 8 * parts["no-answer-accuracy"]) / 32)

    decided = kind.decide(model, rows, accelerator)
    assert decided == kind.decisions(measured) == {"no_answer_threshold": measured.threshold}
    served = kind.as_served(rows, {"no_answer_threshold": 1e9})
    assert all(kind.measure(model, served, accelerator).answers)
    silent = kind.measure(model, kind.as_served(rows, {"no_answer_threshold": -1e9}), accelerator)
    assert set(silent.answers) == {""} and kind.scores(silent, served, ALL)["validation"]["no-answer-accuracy"] == 1.0


def test_predictions_have_null_scores_and_answers_say_nothing(task):
    kind, model = span.Span(), tiny.answerer()
    rows = SpanRows.read(task / "evaluation.parquet", 0)
    middle = float(np.median(kind.measure(model, rows, tiny.accelerator()).null_scores))
    rows = kind.as_served(rows, {"no_answer_threshold": middle})
    measured = kind.measure(model, rows, tiny.accelerator())
    table, said = kind.predictions(measured, rows), kind.answers(measured, rows, ())
    none = table["null_score"] > middle
    assert 0 < none.sum() < len(table) and ((table["prediction"] == "") == none).all()
    assert (said["answer"].isna() == none).all() and said["score"].between(0.0, 1.0).all()


def test_without_the_key_nothing_is_as_in_version_2(task):
    rows = SpanRows.read(tiny.write_span_task(task / "plain") / "evaluation.parquet", 0)
    measured = span.Span().measure(tiny.answerer(), rows, tiny.accelerator())
    assert not rows.examples.no_answer and measured.null_scores is None and all(measured.answers)
    assert span.Span().decisions(measured) == {} and "null_score" not in span.Span().predictions(measured, rows)


# What users may get wrong.


def configured(**changes) -> None:
    plans = {"dense": {"method": "dense", "epochs": 1.0}}
    parse({"project": "a", "bases": {"b": {"source": "local", "path": "b"}}, "tasks": {"t": TASK | changes}, "plans": plans})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"also": ["has-answer-f1"]}, "metric has-answer-f1 is for questions without an answer; write no_answer: true"),
        ({"no_answer": "yes"}, "tasks.t.no_answer: got 'yes'; needed: true or false"),
        (
            {"kind": "regression", "no_answer": True, "metric": "pearson"},
            "kind regression with source files has no no_answer",
        ),
    ],
)
def test_a_wrong_key_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        configured(**changes)
    configured(no_answer=True, also=list(ALL[1:]), holdout=0.1)


def checked(answers: list, **changes) -> None:
    table = pa.table({"question": ["who?"] * len(answers), "context": ["Ada wrote it"] * len(answers), "answers": answers})
    check_answers(SourceTable("a.jsonl", table), Task(**TASK | changes), table["context"])


NONE = {"text": [], "answer_start": []}
SOME = {"text": ["Ada"], "answer_start": [0]}


@pytest.mark.parametrize(
    ("answers", "changes", "message"),
    [
        ([SOME, NONE], {}, "data row 2, column 'answers': got no answer; every question needs one, unless .* no_answer: true"),
        ([SOME], {"also": ["no-answer-accuracy"]}, "none of 1 questions has no answer, so no-answer-accuracy has nothing"),
        ([NONE], {"also": ["has-answer-f1"]}, "none of 1 questions has an answer, so has-answer-f1 has nothing to count"),
        ([{"text": [], "answer_start": [3]}, SOME], {"no_answer": True}, "two lists of equal length"),
    ],
)
def test_wrong_answers_are_refused(answers, changes, message):
    changes = changes | ({"no_answer": True} if "also" in changes else {})
    with pytest.raises(UserError, match=message):
        checked(answers, **changes)
    checked([SOME, NONE], no_answer=True)
