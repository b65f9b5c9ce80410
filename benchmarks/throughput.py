"""Seconds of training steps, of encoders by their shape: `python -m benchmarks.throughput`, which writes throughput.json.

How much faster a HomoDistil step is when its student is smaller (rows of 128 tokens): what the teacher takes stays, so that
a student whose own time fell with its weights would give `bound`. For minilm's shape and for that of BERT-base, the paper's.
And what attention maps cost an SPD step of minilm's shape (mean length 53). Words are random: speed does not depend on values.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from espalier.config.job_specs import Machine
from espalier.config.methods.homodistil import HomodistilPlan
from espalier.config.methods.spd import SpdPlan
from espalier.config.project import Progress
from espalier.data.batches import TaskRows, TokenisedRows
from espalier.data.packed import PackedRows, Vocabulary
from espalier.methods.base import Method
from espalier.methods.homodistil import Homodistil
from espalier.methods.spd import Spd
from espalier.pruning.masks import Masks
from espalier.runtime.files import write_json
from espalier.training.history import History
from espalier.training.loop import Loop
from espalier.training.run import accelerator_for, pruning_stage
from espalier.training.saves import Saves
from espalier.training.teachers import teacher_for

RESULTS = Path(__file__).with_name("throughput.json")
BATCH, LENGTH, MEAN_LENGTH, STEPS = 32, 128, 53, 12
ROUNDS = 3
"""Times that sizes are measured in turn: ratios are of one round, because a shared machine's speed drifts."""
SHAPES = {
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "bert-base": {},  # transformers' defaults
}
FEWER = {"bert-base": 6}
"""Steps, where one takes many seconds."""
PLAN = {"batch_size": BATCH, "evaluate_every": 0.0}
REMOVED = (0.0, 0.5, 0.75)
SPD = {"method": "spd", "path": [0.5], "sparsify_epochs": 0.2, "grafting_epochs": 0.4, "finetune_epochs": 0.4}


def random_rows(count: int) -> TokenisedRows:
    """Rows of random words whose lengths have the mean MEAN_LENGTH."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(MEAN_LENGTH - 20, MEAN_LENGTH + 21, count)
    ids = generator.integers(1000, 20000, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenisedRows(
        ids=ids,
        types=np.zeros(len(ids), np.int8),
        offsets=offsets,
        labels=generator.integers(0, 8, count),
        sets=np.full(count, "validation"),
        pad=0,
    )


def random_tokens(path: Path, steps: int) -> PackedRows:
    """Rows of random words."""
    ids = np.random.default_rng(0).integers(1000, 30000, steps * BATCH * LENGTH).astype(np.int32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids), LENGTH)
    metadata = Vocabulary(BertConfig().vocab_size, 0, 103, (0, 100, 101, 102, 103)).metadata()
    schema = pa.schema([pa.field("input_ids", column.type)], metadata=metadata)
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    return PackedRows(path, 0)


def homodistil_for(removed: float, steps: int, first: bool, **settings: object) -> Homodistil:
    """HomoDistil on its way to a target."""
    plan = HomodistilPlan.model_validate(PLAN | {"method": "homodistil", "path": [removed], "epochs": 1.0, **settings})
    return Homodistil(plan, pruning_stage(plan, "text", 0, steps, first, 0.0, removed))


def shrunk(base: str, removed: float) -> tuple[BertForMaskedLM, Masks | None]:
    """A student of the widths that a target leaves, and which parts of the whole it has."""
    student = BertForMaskedLM(BertConfig(**SHAPES[base]))
    if not removed:
        return student, None
    method = homodistil_for(removed, STEPS, first=True, removal="random-start")
    method.begin(student, None)
    return method.shrink(student), method.end()


def forward_seconds(model: nn.Module) -> list[float]:
    """A list to which every forward pass of this model adds its seconds."""
    begins: list[float] = []
    found: list[float] = []
    model.register_forward_pre_hook(lambda *_: begins.append(time.perf_counter()))
    model.register_forward_hook(lambda *_: found.append(time.perf_counter() - begins[-1]))
    return found


def median(times: Sequence[float]) -> float:
    """Of the steps after the first third and before the last, which may be another."""
    return round(float(np.median(times[len(times) // 3 : -1])), 3)


def seconds(method: Method, student: nn.Module, teacher: nn.Module, rows: TaskRows, masks: Masks | None = None) -> float:
    """Median seconds of a training step."""
    accelerator = accelerator_for(Machine(device="auto", precision="auto"))
    ends: list[float] = []
    method.after_step = lambda step: ends.append(time.perf_counter()) or {}
    with tempfile.TemporaryDirectory() as work:
        Loop(
            student=student,
            method=method,
            rows=rows,
            settings=method.settings,
            learning_rate=1e-5,
            progress=Progress(log_every=1000),
            accelerator=accelerator,
            evaluate=lambda model: {"validation": {"rows": 0, "loss": 0.0, "score": 0.0}},
            metric="score",
            saves=Saves(Path(work), {}),
            history=History(Path(work) / "history.jsonl"),
            teacher=teacher_for(method, teacher, rows, accelerator),
            masks=masks,
        ).run()
    return median(np.diff(ends).tolist())


def homodistil(folder: Path, base: str) -> list[dict[str, float]]:
    """The dense start, half and a quarter of the encoder."""
    steps = FEWER.get(base, STEPS)
    rows = random_tokens(folder / f"{base}.arrow", steps)
    rounds = [{removed: homodistil_seconds(base, removed, rows, steps) for removed in REMOVED} for _ in range(ROUNDS)]
    found = []
    for removed in REMOVED:
        step, own = np.median([each[removed] for each in rounds], axis=0)
        faster = np.median([each[0.0][0] / each[removed][0] for each in rounds])
        bound = np.median([each[0.0][0] / sum_with(each[0.0], 1.0 - removed) for each in rounds])
        numbers = {"step": step, "teacher": own, "faster": faster, "bound": bound}
        found.append({"encoder_removed": removed, **{name: round(float(value), 3) for name, value in numbers.items()}})
    return found


def homodistil_seconds(base: str, removed: float, rows: PackedRows, steps: int) -> tuple[float, float]:
    """Median seconds of a step, and of the teacher's part of it."""
    student, masks = shrunk(base, removed)
    late = {"prune_start": 0.98, "prune_end": 0.99}  # the last step alone is narrower
    method = homodistil_for(0.9, steps, first=masks is None, **late)
    teacher = BertForMaskedLM(BertConfig(**SHAPES[base]))
    own = forward_seconds(teacher)
    return seconds(method, student, teacher, rows, masks), median(own)


def sum_with(dense: tuple[float, float], left: float) -> float:
    """A step in which all but the teacher takes a fraction of its time."""
    step, teacher = dense
    return teacher + (step - teacher) * left


def spd() -> dict[str, float]:
    """With and without the term that compares attention maps; with dropout torch's own kernel forms them on a CPU, too."""
    weights = {"without_maps": 0.0, "with_maps": 1.0}
    rounds = [{name: spd_seconds(weight) for name, weight in weights.items()} for _ in range(ROUNDS)]
    found = {name: np.median([each[name] for each in rounds]) for name in weights}
    found["cost"] = np.median([each["with_maps"] / each["without_maps"] - 1.0 for each in rounds])
    return {name: round(float(value), 3) for name, value in found.items()}


def spd_seconds(weight: float) -> float:
    """Median seconds of a step with this weight of the attention term."""
    plan = SpdPlan.model_validate(PLAN | SPD | {"attention_weight": weight})
    method = Spd(plan, pruning_stage(plan, "classification", 0, STEPS, True, 0.0, 0.5))
    student, teacher = (BertForSequenceClassification(BertConfig(**SHAPES["minilm"], num_labels=8)) for _ in range(2))
    return seconds(method, student, teacher, random_rows(STEPS * BATCH))


def main() -> None:
    """Write what was found."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"homodistil": {base: homodistil(Path(folder), base) for base in SHAPES}, "spd": spd()}
    write_json(RESULTS, {"threads": torch.get_num_threads(), "batch": BATCH, **found})
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
