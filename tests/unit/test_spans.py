"""Starts and ends of answers: as rows of logits, as texts, and in models of every family that are made smaller."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import transformers
from transformers import AutoModelForQuestionAnswering, BertForQuestionAnswering

from espalier.config.job_specs import EvaluateSpec, ExportSpec
from espalier.data.spans import OUT, Examples, SpanRows, answers_of, best_places, by_place, by_window, place_logits
from espalier.evaluation.predict import all_logits
from espalier.kinds import span
from espalier.kinds.base import soft_label_loss, task_loss
from espalier.models.classes import as_stock, model_class
from espalier.models.files import open_base, write_compact, write_model
from espalier.models.forward import forward
from espalier.models.modeling_espalier import FAMILIES, shape_of
from espalier.models.onnx import onnx_runner
from espalier.pruning.gates import attach
from espalier.pruning.parts import full_masks, heads_of, units_of
from espalier.pruning.shrink import shrink
from espalier.runtime import distributed
from espalier.runtime.files import read_json
from espalier.stages.models import export
from espalier.stages.results import evaluate
from espalier.training.sharing import Share
from espalier.training.teachers import StoredTeacher
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_span_task(tmp_path_factory.mktemp("spans"))


@pytest.fixture(scope="module")
def rows(task: Path) -> SpanRows:
    return SpanRows.read(task / "evaluation.parquet", 0)


def test_a_batch_asks_for_two_places_a_row_and_allows_the_context_and_cls(rows: SpanRows) -> None:
    picked = np.array([3, 0, 7])
    batch = rows.batch(picked, CPU)
    assert len(batch) == 3 and batch.masked is None
    assert batch.labels.tolist() == rows.labels[picked].reshape(-1).tolist()
    for row, ids, allowed in zip(picked, batch.input_ids, batch.allowed, strict=True):
        begin, stop = rows.context[row]
        assert allowed.nonzero().flatten().tolist() == [0, *range(begin, stop)]
        assert ids[begin - 1] == ids[stop] == 3, "between two [SEP]"


def test_padding_and_question_have_probability_0_and_no_gradient() -> None:
    starts, ends = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    allowed = torch.tensor([[1, 0, 1, 1], [1, 0, 1, 0]]).bool()
    logits = place_logits(starts, ends, allowed)
    assert torch.equal(logits[0, 2:], starts[0, 2:]) and torch.equal(logits[3, 2:3], ends[1, 2:3])
    other = logits.detach() + torch.randn(4, 4) * (logits > OUT)
    task_loss(logits, torch.tensor([2, 3, 0, 2]), "span").backward(retain_graph=True)
    soft_label_loss(logits, other, temperature=2.0, kind="span").backward()
    for gradient in (starts.grad, ends.grad):
        assert torch.isfinite(gradient).all() and (gradient[~allowed] == 0).all() and (gradient[allowed] != 0).all()


def test_losses_are_means_of_those_of_starts_and_ends() -> None:
    (starts, ends), (other, others) = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    everywhere, (first, last) = torch.ones(3, 5).bool(), torch.randint(5, (2, 3))
    logits, taught = place_logits(starts, ends, everywhere), place_logits(other, others, everywhere)
    halves = [task_loss(starts, first, "classification"), task_loss(ends, last, "classification")]
    labels = torch.stack([first, last], dim=1).flatten()
    torch.testing.assert_close(task_loss(logits, labels, "span"), sum(halves) / 2)
    soft = [soft_label_loss(*pair, temperature=2.0, kind="classification") for pair in ((starts, other), (ends, others))]
    torch.testing.assert_close(soft_label_loss(logits, taught, temperature=2.0, kind="span"), sum(soft) / 2)


def test_rows_of_several_batches_fit_together() -> None:
    logits = torch.randn(6, 4)
    wide = by_window(logits, 7)
    assert wide.shape == (3, 14) and torch.equal(by_place(wide, 4), logits)
    assert (by_place(wide, 7)[:, 4:] == OUT).all()


@pytest.mark.parametrize("longest", [1, 3, 50])
def test_the_best_places_are_those_of_a_search_through_all_pairs(longest: int) -> None:
    logits = torch.randn(20, 2 * 9)
    found, start, end = best_places(logits, longest)
    for row in range(20):
        starts, ends = logits[row].chunk(2)
        pairs = [(s, e) for s, e in itertools.product(range(1, 9), range(1, 9)) if s <= e < s + longest]
        best = max(pairs, key=lambda pair: float(starts[pair[0]] + ends[pair[1]]))
        assert (int(start[row]), int(end[row])) == best
        assert float(found[row]) == pytest.approx(float(starts[best[0]] + ends[best[1]]))


def test_the_answer_is_the_best_over_all_windows_and_lies_in_the_context() -> None:
    context = "one two three four"
    offsets = [np.array([[0, 3], [4, 7], [8, 13]]), np.array([[4, 7], [8, 13], [14, 18]])]
    sets = np.array(["a"])
    examples = Examples(["x"], [context], [["two"]], sets, np.array([0, 0]), np.array([3, 3]), offsets, 2)
    logits = torch.full((2, 2, 7), OUT)
    logits[:, :, 0] = 9.0  # [CLS] is no answer
    logits[0, 0, 3:6], logits[0, 1, 3:6] = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([3.0, 1.0, 0.0])
    logits[1, 0, 3:6], logits[1, 1, 3:6] = torch.tensor([4.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 5.0])
    assert answers_of(logits.flatten(1), examples) == ["four"], "not 'two three four', which is longer than two tokens"


def test_scores_count_questions_and_the_loss_windows(rows: SpanRows) -> None:
    model = tiny.answerer()
    logits = all_logits(model, rows, tiny.accelerator())
    scores = span.Span().scores(span.answered(logits, rows), rows, ["squad-f1", "exact-match"])["validation"]
    assert scores["rows"] == 32 < len(rows) and 0.0 <= scores["exact-match"] <= scores["squad-f1"] <= 1.0
    wanted = torch.full((len(rows), 2, 16), OUT)
    for window, (start, end) in enumerate(rows.labels):
        wanted[window, 0, start] = wanted[window, 1, end] = 5.0
    perfect = span.Span().scores(span.answered(wanted.flatten(1), rows), rows, ["squad-f1", "exact-match"])["validation"]
    assert (perfect["squad-f1"], perfect["exact-match"]) == (1.0, 1.0) and perfect["loss"] < 1e-6 < scores["loss"]


def test_a_teacher_gives_what_it_would_give_beside_the_student(task: Path) -> None:
    train, model, accelerator = SpanRows.read(task / "train.parquet", 0), tiny.answerer().eval(), tiny.accelerator()
    teacher = StoredTeacher.of(model, train, accelerator, "mean")
    batch = train.batch(np.argsort(train.lengths)[:5], CPU)
    live = forward(model, batch, "mean")
    taught = teacher(batch)
    torch.testing.assert_close(taught.logits, live.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(taught.representation, live.representation, atol=1e-5, rtol=1e-5)


def test_shares_of_a_batch_are_the_batch(rows: SpanRows, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, model, logits, labels = rows.batch(np.arange(7), CPU), tiny.answerer().eval(), [], []
    monkeypatch.setattr(distributed, "count", lambda: 3)
    for index in range(3):
        monkeypatch.setattr(distributed, "index", lambda index=index: index)
        own = Share(batch).own
        logits.append(forward(model, own).logits)
        labels.append(own.labels)
    torch.testing.assert_close(torch.cat(logits), forward(model, batch).logits)
    assert torch.equal(torch.cat(labels), batch.labels)


def test_a_base_gets_a_head_with_two_outputs(task: Path) -> None:
    model = open_base([task / "base/config.json", task / "base/model.safetensors"], "span", None)
    assert type(model) is BertForQuestionAnswering and model.qa_outputs.out_features == 2


WITH_SPANS = [
    name for name in tiny.VARIANTS if hasattr(transformers, f"{FAMILIES[name.partition(',')[0]].stem}ForQuestionAnswering")
]
"""Transformers has no model for spans of some families; docs/families.md says of which."""


@pytest.fixture(params=WITH_SPANS)
def variant(request: pytest.FixtureRequest) -> str:
    return request.param


def answerer(variant: str) -> transformers.PreTrainedModel:
    """The family's model for spans, every parameter large and random."""
    config = copy.deepcopy(tiny.encoder(variant).config)
    config.num_labels = 2
    torch.manual_seed(0)
    return tiny.randomised(model_class(config, AutoModelForQuestionAnswering)(config))


def outputs(model: transformers.PreTrainedModel) -> torch.Tensor:
    found = model(**tiny.padded_batch())
    return torch.stack([found.start_logits, found.end_logits])


@torch.no_grad()
def test_sliced_is_zero_masked(double: None, variant: str, tmp_path: Path) -> None:
    model = answerer(variant)
    masks = full_masks(shape_of(model.config))
    masks["hidden"][[3, 9, 20]] = masks[heads_of(1)][:] = masks[heads_of(0)][2] = masks[units_of(2)][5:20] = False
    gated = copy.deepcopy(model)
    attach(gated, lambda: {name: mask.to(torch.float64) for name, mask in masks.items()})
    small = shrink(model, masks)
    assert type(small).__name__ == f"Compact{type(model).__name__}"
    size = outputs(model).abs().max()
    assert (outputs(small) - outputs(gated)).abs().max() <= 1e-9 * size
    assert (outputs(small) - outputs(model)).abs().max() > 0.01 * size
    write_compact(small, *(tmp_path / name for name in ("config.json", "model.safetensors", "modeling_espalier.py")))
    again, report = AutoModelForQuestionAnswering.from_pretrained(tmp_path, output_loading_info=True, dtype=torch.float64)
    assert type(again) is type(small) and not any(report.values())
    assert (outputs(again.eval()) - outputs(small)).abs().max() <= 1e-9 * size
    assert f"modeling_espalier.{type(small).__name__}" in read_json(tmp_path / "config.json")["auto_map"].values()


@torch.no_grad()
def test_a_uniform_model_is_stock(double: None, variant: str) -> None:
    model = answerer(variant)
    masks = full_masks(shape_of(model.config))
    for layer in range(3):
        masks[units_of(layer)][14:] = False
    small = shrink(model, masks)
    stock = as_stock(small)
    assert type(stock) is type(model)
    torch.testing.assert_close(outputs(stock), outputs(small), atol=1e-10, rtol=1e-10)


def test_export_and_evaluate(task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A narrower student becomes a folder with ONNX; its predictions are those of the scores, and looked for once."""
    model, student, compact = tiny.answerer(), tmp_path / "student", tmp_path / "compact"
    masks = full_masks(shape_of(model.config))
    masks["hidden"][3] = masks[units_of(0)][10:] = False
    names = {"config": "config.json", "weights": "model.safetensors"}
    write_model(shrink(model, masks), *(student / name for name in names.values()))
    written = names | {"code": "modeling_espalier.py", "onnx": "onnx/model.onnx"}
    written |= {"tokenizer_json": "tokenizer.json", "tokenizer_config": "tokenizer_config.json"}
    export.run(
        ExportSpec(task="mine", kind="span", text=("question", "context"), max_length=16).model_dump_json(),
        student=[student / name for name in names.values()],
        tokenizer=[task / "base/tokenizer.json", task / "base/tokenizer_config.json"],
        decisions=[],
        sentences=[],
        **{name: compact / file for name, file in written.items()},
    )
    graph = onnx.load(compact / "onnx/model.onnx").graph
    assert [each.name for each in graph.output] == ["start_logits", "end_logits"]
    inputs = tiny.padded_batch() | {"token_type_ids": torch.zeros(3, 17).long()}
    opened = AutoModelForQuestionAnswering.from_pretrained(compact).eval()
    with torch.no_grad():
        expected = opened(**inputs)
    for found, wanted in zip(onnx_runner(compact / "onnx/model.onnx", CPU)(inputs), expected.to_tuple(), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-4, rtol=1e-4)
    searches = []
    monkeypatch.setattr(span, "answers_of", lambda *given: searches.append(1) or answers_of(*given))
    evaluate.run(
        EvaluateSpec(kind="span", metrics=("squad-f1", "exact-match"), device="cpu").model_dump_json(),
        model=[compact / name for name in names.values()],
        task=task / "task.json",
        tokens=task / "evaluation.parquet",
        scores=tmp_path / "scores.json",
        predictions=tmp_path / "predictions.parquet",
    )
    scores, table = read_json(tmp_path / "scores.json"), pd.read_parquet(tmp_path / "predictions.parquet")
    assert list(table.columns) == ["set", "id", "prediction", "gold", "squad-f1", "exact-match"] and len(table) == 32
    assert len(searches) == 1 and scores["metric"] == "squad-f1" and scores["score"] == pytest.approx(table["squad-f1"].mean())
    assert scores["sets"]["validation"]["exact-match"] == pytest.approx(table["exact-match"].mean())
