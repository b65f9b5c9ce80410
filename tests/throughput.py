"""How much faster does a HomoDistil step become as its student shrinks? `python -m tests.throughput` writes throughput.json.

An encoder of minilm's shape, rows of random words: speed does not depend on values. What the teacher takes stays, so even
a student whose time fell with its weights would gain less than they say: `bound` is that.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from transformers import BertConfig, BertForMaskedLM

from espalier.config.homodistil import HomodistilPlan
from espalier.config.project import Progress
from espalier.config.specs import Machine
from espalier.core.history import History
from espalier.core.loop import Loop
from espalier.core.masks import Masks
from espalier.core.packed import Packed, Vocabulary
from espalier.core.predict import teacher_for
from espalier.core.runtime import write_json
from espalier.core.saves import Saves
from espalier.core.training import accelerator_for, pruning_stage
from espalier.methods.homodistil import Homodistil

RESULTS = Path(__file__).with_name("throughput.json")
BATCH, LENGTH, STEPS, WARMUP = 32, 128, 18, 6
SHAPE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
PLAN = {"method": "homodistil", "batch_size": BATCH, "epochs": 1.0, "evaluate_every": 0.0}


def random_rows(path: Path) -> Packed:
    """Rows of random words."""
    ids = np.random.default_rng(0).integers(1000, 30000, STEPS * BATCH * LENGTH).astype(np.int32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(ids), LENGTH)
    metadata = Vocabulary(BertConfig().vocab_size, 0, 103, (0, 100, 101, 102, 103)).metadata()
    schema = pa.schema([pa.field("input_ids", column.type)], metadata=metadata)
    with pa.ipc.new_file(str(path), schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))
    return Packed(path, 0)


def method_for(removed: float, first: bool, **settings: object) -> Homodistil:
    """HomoDistil on its way to a target."""
    plan = HomodistilPlan.model_validate(PLAN | {"path": [removed], **settings})
    return Homodistil(plan, pruning_stage(plan, "text", 0, STEPS, first, 0.0, removed))


def shrunk(removed: float) -> tuple[BertForMaskedLM, Masks | None]:
    """A student of the widths that a target leaves, and which parts of the whole it has."""
    student = BertForMaskedLM(BertConfig(**SHAPE))
    if not removed:
        return student, None
    method = method_for(removed, first=True, removal="random-start")
    method.begin(student, None)
    return method.shrink(student), method.end()


def seconds(removed: float, rows: Packed, work: Path) -> dict[str, float]:
    """Medians of a whole step and of the teacher's part of it."""
    work.mkdir()
    accelerator = accelerator_for(Machine(device="auto", precision="auto"))
    student, masks = shrunk(removed)
    method = method_for(0.9, first=masks is None, prune_start=0.98, prune_end=0.99)  # the last step alone is narrower
    teacher = BertForMaskedLM(BertConfig(**SHAPE))
    steps, begins, ends = [], [], []
    method.after_step = lambda step: steps.append(time.perf_counter()) or {}
    teacher.register_forward_pre_hook(lambda *_: begins.append(time.perf_counter()))
    teacher.register_forward_hook(lambda *_: ends.append(time.perf_counter()))
    Loop(
        student=student,
        method=method,
        rows=rows,
        settings=method.settings,
        learning_rate=1e-5,
        progress=Progress(log_every=1000),
        accelerator=accelerator,
        evaluate=lambda model: {"validation": {"rows": 0, "loss": 0.0, "masked-accuracy": 0.0}},
        metric="masked-accuracy",
        saves=Saves(work, {}),
        history=History(work / "history.jsonl"),
        teacher=teacher_for(method, teacher, rows, accelerator),
        masks=masks,
    ).run()
    return {
        "encoder_removed": removed,
        "step": round(float(np.median(np.diff(steps)[WARMUP:-1])), 3),
        "teacher": round(float(np.median(np.subtract(ends, begins)[WARMUP:-1])), 3),
    }


def main() -> None:
    """Time the dense start, half and a quarter of the encoder, and write what was found."""
    with tempfile.TemporaryDirectory() as folder:
        rows = random_rows(Path(folder) / "rows.arrow")
        found = [seconds(removed, rows, Path(folder) / str(removed)) for removed in (0.0, 0.5, 0.75)]
    dense = found[0]
    for each in found:
        rest = (dense["step"] - dense["teacher"]) * (1.0 - each["encoder_removed"])
        each["faster"] = round(dense["step"] / each["step"], 2)
        each["bound"] = round(dense["step"] / (dense["teacher"] + rest), 2)
    write_json(RESULTS, {"threads": torch.get_num_threads(), "batch": BATCH, "length": LENGTH, "seconds": found})
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
