"""Training rows scored beside the evaluation set: the history tells how much a run overfits, and training is the same."""

from pathlib import Path

import pandas as pd
import pytest

from espalier.config.job_specs import FinetuneSpec, Machine, TaskGoal
from espalier.config.project import Progress
from espalier.config.training import Teacher
from espalier.data.batches import TokenisedRows
from espalier.kinds.base import evaluator
from espalier.models.files import open_student
from espalier.results.recovery import overfitting_gap
from espalier.runtime.files import sha256
from espalier.stages.training import finetune
from tests import tiny

pytestmark = pytest.mark.slow


def train(folder: Path, evaluate_train: bool) -> Path:
    """A small data set learnt by heart, in a folder of its own."""
    task, base, out = folder / "task", folder / "base", folder / f"out-{evaluate_train}"
    settings = Teacher(epochs=12.0, batch_size=8, learning_rate=2e-3, warmup=0.0, evaluate_train=evaluate_train)
    goal, machine = TaskGoal(kind="classification", metric="accuracy"), Machine(device="cpu", precision="fp32")
    spec = FinetuneSpec(seed=3, goal=goal, machine=machine, progress=Progress(log_every=4), settings=settings)
    out.mkdir()
    finetune.run(
        spec.model_dump_json(),
        base=[base / "config.json", base / "model.safetensors"],
        task=task / "task.json",
        tokens=[task / "train.parquet", task / "evaluation.parquet"],
        work=out / "work",
        config=out / "config.json",
        weights=out / "model.safetensors",
        history=out / "history.parquet",
        record=out / "run.json",
    )
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train-scores")
    tiny.write_base(folder / "base")
    tiny.write_task(folder / "task", rows=24)
    return folder, train(folder, False), train(folder, True)


def test_training_is_the_same_to_the_last_bit(runs):
    _, without, with_train = runs
    assert sha256(without / "model.safetensors") == sha256(with_train / "model.safetensors")
    histories = [pd.read_parquet(each / "history.parquet") for each in (without, with_train)]
    assert not any(column.startswith("train/") for column in histories[0])
    assert set(histories[1]) - set(histories[0]) == {"train/loss", "train/accuracy"}
    assert histories[1]["train/loss"].notna().sum() == histories[1]["validation/loss"].notna().sum() == 12


def test_the_columns_are_the_scores_of_as_many_training_rows(runs):
    folder, _, out = runs
    model = open_student([out / "config.json", out / "model.safetensors"], "classification")
    rows = TokenisedRows.read(folder / "task/train.parquet", pad=0).sample(12, "train")
    scores = evaluator(rows, "classification", ["accuracy"], tiny.accelerator())(model)["train"]
    last = pd.read_parquet(out / "history.parquet").dropna(subset="train/loss").iloc[-1]
    assert scores["rows"] == 12
    assert (last["train/loss"], last["train/accuracy"]) == pytest.approx((scores["loss"], scores["accuracy"]), abs=1e-6)


def test_a_small_data_set_is_overfitted(runs):
    table = pd.read_parquet(runs[2] / "history.parquet").dropna(subset="train/loss")
    names = ("loss", "accuracy")
    sets = [{name: float(table[f"{part}/{name}"].iloc[-1]) for name in names} for part in ("train", "validation")]
    gap = overfitting_gap("accuracy", *sets)
    assert gap.metric >= 0 and gap.loss > 0
