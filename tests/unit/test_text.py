"""Masked-language modelling: forward passes, scores, the stages pretrain and evaluate, models to take away."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoModelForMaskedLM, BertForMaskedLM, BertModel

from espalier.config import parse
from espalier.config.job_specs import evaluate_spec, export_spec, measure_spec, pretrain_spec
from espalier.data.batches import IGNORED, Batch
from espalier.data.packed import MaskedBatch, PackedRows
from espalier.kinds import text
from espalier.kinds.base import evaluator, task_loss
from espalier.kinds.text import masked_scores, masked_sums
from espalier.methods.dense import Dense
from espalier.models.classes import model_class
from espalier.models.files import open_student, open_with_head, write_compact, write_model
from espalier.models.forward import forward
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.parts import HIDDEN, full_masks
from espalier.pruning.shrink import shrink
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, sha256
from espalier.stages.models import export
from espalier.stages.results import evaluate, measure
from espalier.stages.training import pretrain
from espalier.training import loop as loop_module
from espalier.training.loop import Loop
from espalier.training.teachers import LiveTeacher, teacher_for
from tests import tiny
from tests.unit.test_packed import VOCABULARY, write

CONFIG = {
    "project": "corpus",
    "precision": "fp32",
    "bases": {"tiny": {"source": "local", "path": "base"}},
    "tasks": {"docs-corpus": None},
    "plans": {},
    "progress": {"log_every": 1},
}
TRAINED = {"batch_size": 16, "learning_rate": 1.0e-2}
NAMES = {"config": "config.json", "weights": "model.safetensors", "history": "history.parquet", "record": "run.json"}


def model(seed: int = 0, **changes) -> BertForMaskedLM:
    torch.manual_seed(seed)
    return BertForMaskedLM(tiny.config(vocab_size=VOCABULARY.size, initializer_range=0.3, **changes)).eval()


def masked_batch(seed: int = 0) -> Batch:
    inputs = tiny.padded_batch()
    chosen = torch.rand(3, 17, generator=torch.Generator().manual_seed(seed)) < 0.3
    labels = torch.where(chosen & inputs["attention_mask"].bool(), inputs["input_ids"], IGNORED)
    return MaskedBatch(torch.arange(3), inputs["input_ids"], inputs["attention_mask"], None, labels)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Packed rows, bases with a head and without one, and what prepare says."""
    folder = tmp_path_factory.mktemp("corpus")
    for name, rows in (("train", 64), ("evaluation", 40)):
        write(folder / f"{name}.arrow", rows, 16, last=9)
    (folder / "task.json").write_text(json.dumps({"kind": "text", "classes": None, "sets": ["all"]}))
    torch.manual_seed(7)
    BertModel(tiny.config(vocab_size=VOCABULARY.size, initializer_range=0.2)).save_pretrained(folder / "bare")
    model(7).save_pretrained(folder / "headed")
    return folder


def inside(folder: Path, *names: str) -> list[Path]:
    return [folder / name for name in names]


def run(corpus: Path, out: Path, base: str, **settings) -> tuple[BertForMaskedLM, dict]:
    spec = pretrain_spec(parse(CONFIG | {"pretrain": {**TRAINED, **settings}}), "docs-corpus", 3)
    pretrain.run(
        spec.model_dump_json(),
        base=inside(corpus / base, "config.json", "model.safetensors"),
        task=corpus / "task.json",
        tokens=inside(corpus, "train.arrow", "evaluation.arrow"),
        work=out / "work",
        **{name: out / file for name, file in NAMES.items()},
    )
    return open_student(inside(out, "config.json", "model.safetensors"), "text"), read_json(out / "run.json")


@pytest.mark.parametrize("variant", tiny.EVERY)
def test_logits_are_the_whole_model_s_at_the_masked_places(variant):
    config = tiny.encoder(variant).config
    whole, batch = model_class(config, AutoModelForMaskedLM)(config).eval(), masked_batch()
    with torch.no_grad():
        outputs = forward(whole, batch, hidden_states=True)
        expected = whole(**batch.inputs()).logits
    torch.testing.assert_close(outputs.logits, expected[batch.masked], atol=1e-6, rtol=1e-6)
    assert outputs.hidden_states[-1].shape == (3, 17, 32), "hidden states are those of all places"


def test_relations_come_with_the_logits():
    whole, batch = model(), masked_batch()
    with torch.no_grad():
        outputs = forward(whole, batch, relations="output")
    assert outputs.embedding.shape == (3, 17, 32) and [scores.shape for scores in outputs.attention] == [(3, 17, 17)] * 2


def test_loss_is_the_mean_over_masked_tokens():
    batch, logits = masked_batch(), torch.zeros(int(masked_batch().masked.sum()), 50)
    assert float(task_loss(logits, batch.labels % 50 * batch.masked + IGNORED * ~batch.masked, "text")) == pytest.approx(
        math.log(50)
    )
    assert float(task_loss(logits[:0], torch.full((2, 4), IGNORED), "text")) == 0.0


def test_a_uniform_model_s_perplexity_is_the_vocabulary(corpus):
    blank = model()
    with torch.no_grad():
        blank.bert.embeddings.word_embeddings.weight.zero_()  # the decoder's, too
        blank.cls.predictions.bias.zero_()
    scores = evaluator(PackedRows(corpus / "evaluation.arrow", 0), "text", (), tiny.accelerator())(blank)["all"]
    assert scores["perplexity"] == pytest.approx(VOCABULARY.size, rel=1e-5) and scores["masked-accuracy"] == 0.0
    assert scores["loss"] == pytest.approx(math.log(VOCABULARY.size), rel=1e-6) and scores["rows"] == 40


def test_the_discrepancy_is_the_divergence_from_the_teacher(corpus):
    rows, other = PackedRows(corpus / "evaluation.arrow", 0), model(1).eval()
    score = evaluator(rows, "text", (), tiny.accelerator(), lambda batch: forward(other, batch))
    assert score(other)["all"]["discrepancy"] == pytest.approx(0.0, abs=1e-6)
    batch = rows.batch(torch.arange(40).numpy(), torch.device("cpu"))
    with torch.no_grad():
        own, taught = (forward(each.eval(), batch).logits.log_softmax(dim=-1) for each in (model(), other))
    expected = float((taught.exp() * (taught - own)).sum(dim=-1).mean())
    assert expected > 0.01 and score(model())["all"]["discrepancy"] == pytest.approx(expected, rel=1e-4)


def test_scores_do_not_depend_on_the_batch_size(corpus, monkeypatch):
    rows = PackedRows(corpus / "evaluation.arrow", 0)
    sums = masked_sums(model(), rows, tiny.accelerator())
    monkeypatch.setattr(text, "MASKED_BATCH", 7)
    again = masked_sums(model(), rows, tiny.accelerator())
    assert sums.masked.tolist() == [2] * 39 + [1] == again.masked.tolist() and sums.correct.tolist() == again.correct.tolist()
    assert again.loss == pytest.approx(sums.loss, rel=1e-5)
    batch = rows.batch(torch.arange(40).numpy(), torch.device("cpu"))
    with torch.no_grad():
        expected = task_loss(forward(model(), batch).logits, batch.labels, "text")
    assert masked_scores(sums, rows)["all"]["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_teacher_of_packed_rows_runs_beside_the_student_on_the_same_masks(corpus):
    rows = PackedRows(corpus / "train.arrow", 0)
    method = Dense.__new__(Dense)
    taught = teacher_for(method, model(1), rows, tiny.accelerator())
    assert isinstance(taught, LiveTeacher)
    for epoch in (0, 1):
        batch = rows.batch(torch.arange(5).numpy(), torch.device("cpu"), epoch)
        with torch.no_grad():
            assert torch.equal(taught(batch).logits, forward(model(1), batch).logits)


def test_a_base_without_a_head_is_given_one(corpus, tmp_path):
    trained, record = run(corpus, tmp_path / "out", "bare", epochs=4.0)
    assert record["head"] == "new" and record["trained"] == "head" and record["steps"] == 16
    bare = BertModel.from_pretrained(corpus / "bare").state_dict()
    encoder = trained.bert.state_dict()
    assert all(torch.equal(encoder[name], bare[name]) for name in encoder), "the encoder and the word embeddings stay"
    history = pd.read_parquet(tmp_path / "out/history.parquet")
    assert history["all/loss"].dropna().iloc[-1] < history["all/loss"].dropna().iloc[0]
    assert not (tmp_path / "out/work").exists()


def test_the_encoder_is_trained_by_choice(corpus, tmp_path):
    trained, record = run(corpus, tmp_path / "out", "headed", epochs=1.0, train="all")
    before = BertForMaskedLM.from_pretrained(corpus / "headed").state_dict()
    assert record["head"] == "own" and record["trained"] == "all" and record["steps"] == 4
    assert all(not torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items() if "LayerNorm" in name)


def test_a_base_with_a_head_is_used_as_it_is(corpus, tmp_path):
    trained, record = run(corpus, tmp_path / "out", "headed")
    before = BertForMaskedLM.from_pretrained(corpus / "headed").state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert record["head"] == "own" and record["trained"] == "nothing" and record["steps"] == 0
    assert record["samples_per_second"] == 0.0
    assert len(pd.read_parquet(tmp_path / "out/history.parquet")["all/masked-accuracy"].dropna()) == 1


def test_a_new_head_must_be_trained(corpus, tmp_path):
    with pytest.raises(UserError, match=r"pretrain\.epochs: got 0, but the base brings no head"):
        run(corpus, tmp_path / "out", "bare", epochs=0.0)


def test_a_frozen_encoder_has_no_dropout(corpus, tmp_path, monkeypatch):
    seen = []
    one_step = Loop._one_step
    monkeypatch.setattr(
        Loop, "_one_step", lambda self, picked: (one_step(self, picked), seen.append(self.student.base_model.training))
    )
    run(corpus, tmp_path / "head", "bare")
    run(corpus, tmp_path / "all", "bare", train="all")
    assert seen == [False] * 4 + [True] * 4


def test_killed_and_resumed_ends_with_the_same_weights(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "SAVE_EVERY", 1)
    settings = {"epochs": 3.0, "train": "all", "micro_batch_size": 5}
    run(corpus, tmp_path / "whole", "bare", **settings)
    one_step = Loop._one_step

    def stop(self, picked):
        if self.step == 6:
            raise KeyboardInterrupt
        one_step(self, picked)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_one_step", stop)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path / "killed", "bare", **settings)
    _, record = run(corpus, tmp_path / "killed", "bare", **settings)
    assert record["resumed_at"] == [6]
    assert sha256(tmp_path / "killed/model.safetensors") == sha256(tmp_path / "whole/model.safetensors")


def test_evaluate_keeps_the_sums_of_every_row(corpus, tmp_path):
    write_model(model(), tmp_path / "config.json", tmp_path / "model.safetensors")
    evaluate.run(
        evaluate_spec(parse(CONFIG), "docs-corpus").model_dump_json(),
        model=inside(tmp_path, "config.json", "model.safetensors"),
        task=corpus / "task.json",
        tokens=corpus / "evaluation.arrow",
        scores=tmp_path / "scores.json",
        predictions=tmp_path / "predictions.parquet",
    )
    scores, table = read_json(tmp_path / "scores.json"), pd.read_parquet(tmp_path / "predictions.parquet")
    assert scores["metric"] == "masked-accuracy" and set(scores["sets"]["all"]) == {
        *("rows", "loss", "masked-accuracy", "perplexity")
    }
    assert list(table.columns) == ["set", "masked", "correct", "loss", "prediction"] and len(table) == 40
    assert [len(guesses) for guesses in table["prediction"]] == table["masked"].tolist()
    assert scores["score"] == pytest.approx(table["correct"].sum() / table["masked"].sum())


@pytest.mark.parametrize("uniform", [True, False])
def test_a_smaller_model_opens_as_one_for_masked_tokens(tmp_path, uniform):
    whole = model()
    masks = full_masks(shape_of(whole.config))
    if uniform:
        masks["layer.0.ffn"][:10] = masks["layer.1.ffn"][20:30] = False
    else:
        masks["layer.0.heads"][1] = masks[HIDDEN][3] = False
    small = shrink(whole, masks)
    paths = inside(tmp_path, "config.json", "model.safetensors", "modeling_espalier.py")
    write_compact(small, *paths)
    opened = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    batch = masked_batch()
    with torch.no_grad():
        assert torch.equal(opened(**batch.inputs()).logits, small(**batch.inputs()).logits)
    assert type(opened).__name__ == ("BertForMaskedLM" if uniform else "CompactBertForMaskedLM")
    auto_map = read_json(tmp_path / "config.json").get("auto_map", {})
    assert ("AutoModelForMaskedLM" in auto_map) == (not uniform)


def test_a_head_is_known_as_the_base_s_own_or_as_new(corpus):
    for name, own in (("bare", False), ("headed", True)):
        opened, brought = open_with_head(inside(corpus / name, "config.json", "model.safetensors"), "text", None)
        assert brought == own and opened.cls.predictions.decoder.weight is opened.bert.embeddings.word_embeddings.weight


def test_a_text_model_is_exported_and_measured_like_any_other(tmp_path):
    write_model(model(), tmp_path / "config.json", tmp_path / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{}")
    compact = tmp_path / "compact"
    config = parse(CONFIG | {"measure": {"batch_sizes": [1], "length": 16, "repeats": 3}})
    export.run(
        export_spec(config, "docs-corpus").model_dump_json(),
        student=inside(tmp_path, "config.json", "model.safetensors"),
        tokenizer=inside(tmp_path, "tokenizer.json", "tokenizer_config.json"),
        decisions=[],
        sentences=[],
        config=compact / "config.json",
        weights=compact / "model.safetensors",
        code=compact / "modeling_espalier.py",
        onnx=compact / "onnx/model.onnx",
        tokenizer_json=compact / "tokenizer.json",
        tokenizer_config=compact / "tokenizer_config.json",
    )
    files = inside(compact, "config.json", "model.safetensors", "onnx/model.onnx")
    measure.run(measure_spec(config, "docs-corpus").model_dump_json(), model=files, dense=files, cost=tmp_path / "cost.json")
    cost = read_json(tmp_path / "cost.json")
    assert cost["params_encoder"] == 2 * (4 * 32 * 32 + 2 * 32 * 64) and set(cost["onnx"]["speedup"]) == {"1"}
