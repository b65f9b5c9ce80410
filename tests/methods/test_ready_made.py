"""Fine-tuning of another base: plain, or under a teacher that reads the same rows in other tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from espalier.config import parse
from espalier.config.job_specs import compress_spec
from espalier.config.methods.ready_made import ReadyMadePlan
from espalier.data.batches import Batch
from espalier.methods.base import Stage
from espalier.methods.ready_made import ReadyMade
from espalier.models.files import open_student, write_model
from espalier.models.outputs import Outputs
from espalier.runtime.errors import UserError
from espalier.stages.training import adopt
from tests import tiny

LOGITS = torch.tensor([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
TAUGHT = torch.tensor([[0.0, 1.0, 0.0], [0.0, 3.0, 1.0]])
LABELS = torch.tensor([0, 1])
TASK = {"kind": "classification", "source": "files", "train": "a.csv", "validation": "b.csv", "text": ["text"]}
STUDY = {
    "project": "p",
    "precision": "fp32",
    "bases": {"large": {"source": "local", "path": "large"}, "small": {"source": "local", "path": "small"}},
    "tasks": {"mine": {**TASK, "label": "label", "metric": "accuracy"}},
}
OUTPUTS = {
    "config": "config.json",
    "weights": "model.safetensors",
    "structure": "structure.json",
    "history": "history.parquet",
    "record": "run.json",
}


def method(**settings) -> ReadyMade:
    plan = ReadyMadePlan.model_validate({"method": "ready-made", "base": "small", **settings})
    return ReadyMade(plan, Stage("classification", 0, 0.0, 0.0, (4,), {}))


def batch() -> Batch:
    ids = torch.ones(2, 4, dtype=torch.long)
    return Batch(torch.arange(2), ids, ids, None, LABELS)


def test_the_teacher_s_logits_count_as_much_as_the_labels():
    taught = method()
    assert taught.needs_teacher and taught.loss_weights == {"task": 0.5, "kld": 0.5}
    terms = taught.loss_terms(batch(), Outputs(LOGITS), Outputs(TAUGHT), 0)
    teacher, student = F.softmax(TAUGHT / 2.0, dim=-1), F.log_softmax(LOGITS / 2.0, dim=-1)
    assert torch.allclose(terms["task"], F.cross_entropy(LOGITS, LABELS))
    assert torch.allclose(terms["kld"], 4.0 * (teacher * (teacher.log() - student)).sum() / 2)


def test_without_alpha_no_teacher_runs():
    plain = method(alpha=0.0)
    assert not plain.needs_teacher and plain.loss_weights == {"task": 1.0}
    assert plain.loss_terms(batch(), Outputs(LOGITS), None, 0).keys() == {"task"}
    assert plain.end() == {} and plain.sparsity == 0.0


def other_tokens(path: Path, rows: int = 64) -> None:
    """The rows of the tiny task with every word's number counted from the other end, and a token more in each."""
    table = pq.read_table(path).slice(0, rows)
    ids = [[row[0], *(67 - number for number in row[1:-1]), 4, row[-1]] for row in table["input_ids"].to_pylist()]
    columns = {name: table[name] for name in table.column_names} | {
        "input_ids": pa.array(ids, pa.list_(pa.int32())),
        "token_type_ids": pa.array([[0] * len(row) for row in ids], pa.list_(pa.int8())),
    }
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def paths(tmp_path):
    """A teacher and its rows, and a smaller base and its rows; what `adopt` writes lies in `out`."""
    tiny.write_task(tmp_path / "teacher-rows")
    tiny.write_task(tmp_path / "own-rows")
    for name in ("train", "evaluation"):
        other_tokens(tmp_path / f"own-rows/{name}.parquet")
    (tmp_path / "teacher").mkdir()
    write_model(tiny.classifier(2), tmp_path / "teacher/config.json", tmp_path / "teacher/model.safetensors")
    small = tiny.classifier(3, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    small.base_model.save_pretrained(tmp_path / "small")
    return {
        "teacher": [tmp_path / "teacher/config.json", tmp_path / "teacher/model.safetensors"],
        "teacher_tokens": [tmp_path / "teacher-rows/train.parquet"],
        "start": [tmp_path / "small/config.json", tmp_path / "small/model.safetensors"],
        "task": tmp_path / "own-rows/task.json",
        "tokens": [tmp_path / "own-rows/train.parquet", tmp_path / "own-rows/evaluation.parquet"],
        "work": tmp_path / "work",
        **{name: tmp_path / "out" / file for name, file in OUTPUTS.items()},
    }


def spec(**settings) -> str:
    plan = {"method": "ready-made", "base": "small", "epochs": 2.0, "batch_size": 16, **settings}
    return compress_spec(parse({**STUDY, "plans": {"small": plan}}), "mine", "small", 3, "0").model_dump_json()


def test_each_row_is_taught_what_the_teacher_says_of_it_in_its_own_tokens(paths, monkeypatch):
    """The stored outputs are those of the teacher on its tokens, row by row."""
    seen = {}
    terms = ReadyMade.loss_terms

    def watched(self, batch, student, teacher, step):
        seen.update(zip(batch.rows.tolist(), teacher.logits, strict=True))
        return terms(self, batch, student, teacher, step)

    monkeypatch.setattr(ReadyMade, "loss_terms", watched)
    adopt.run(spec(), **paths)
    model = open_student(paths["teacher"], "classification").eval()
    rows = pq.read_table(paths["teacher_tokens"][0])["input_ids"].to_pylist()
    assert sorted(seen) == list(range(64))
    with torch.no_grad():
        for row in (0, 17, 63):
            assert torch.allclose(model(torch.tensor([rows[row]])).logits[0], seen[row], atol=1e-5)
    assert open_student([paths["config"], paths["weights"]], "classification").config.hidden_size == 16


def test_a_plain_run_leaves_the_teacher_alone(paths):
    paths["teacher"] = [path.with_name(f"no-{path.name}") for path in paths["teacher"]]
    for path in paths["teacher"]:
        path.write_text("nothing to open")
    adopt.run(spec(alpha=0.0), **paths)
    assert paths["record"].is_file() and not paths["work"].exists()


def test_tokens_of_other_rows_are_refused(paths):
    table = pq.read_table(paths["teacher_tokens"][0])
    pq.write_table(table.take(np.roll(np.arange(64), 1)), paths["teacher_tokens"][0])
    with pytest.raises(
        UserError, match=r"teacher-rows/train.parquet: its 64 rows are not the 64 rows of .*own-rows/train.parquet"
    ):
        adopt.run(spec(), **paths)
    pq.write_table(table.slice(1), paths["teacher_tokens"][0])
    with pytest.raises(UserError, match="its 63 rows are not the 64 rows of"):
        adopt.run(spec(), **paths)
