"""Does the number of processes change a result? `python -m benchmarks.processes FOLDER`, which writes processes.json beside it.

CoFi on RTE (../shared/data), by one process and by two that share its batches. There is no dropout, whose noise is each
process's own. A third run shows what rounding alone does: one process that adds up its gradients from half batches.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from espalier.pruning.masks import read_masks
from espalier.runtime.files import read_json, write_json
from tests.conftest import MINILM, ROOT, Clone, copy_workflow

RESULTS = Path(__file__).with_name("processes.json")
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
RUNS: dict[str, dict[str, Any]] = {"one": {}, "two": {"processes": 2}, "halves": {"micro_batch_size": 16}}
CONFIG = f"""
precision: fp32
device: cpu
tasks: {{rte: {{source: files, rows: 1200, train: {ROOT}/../shared/data/rte/train.parquet,
              validation: {ROOT}/../shared/data/rte/validation.parquet}}}}
teacher: {{epochs: 3.0, learning_rate: 1.0e-4}}
plans:
  cofi: {{method: cofi, path: [0.6], start: teacher, learning_rate: 1.0e-4, prepruning_epochs: 0.0, pruning_epochs: 6.0,
         sparsity_warmup_epochs: 2.0, recover: {{epochs: 1.0}}}}
"""
WHERE = "results/{}/minilm/rte/seed42/{}"


def fetch(clone: Clone) -> Path:
    """The base, without dropout."""
    folder = clone.folder / "still"
    if folder.exists():
        return folder
    clone.write_config(yaml.safe_load(CONFIG) | {"project": "base", "bases": {"minilm": MINILM}})
    run(clone, 1, "results/base/bases/minilm/source.json")
    shutil.copytree(clone.folder / "results/base/bases/minilm", folder)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | STILL)
    return folder


def run(clone: Clone, processes: int, *targets: str) -> None:
    """Let Snakemake make the targets."""
    command = ["snakemake", *targets, "--cores", "2", "--resources", f"gpu={processes}"]
    subprocess.run([sys.executable, "-m", *command], cwd=clone.folder, check=True)


def study(clone: Clone, name: str, base: Path) -> dict[str, Any]:
    """A teacher and a student under one of RUNS, and what became of them."""
    changes = dict(RUNS[name])
    processes = changes.pop("processes", 1)
    config = yaml.safe_load(CONFIG) | {"project": name, "processes": processes}
    for block in (config["teacher"], config["plans"]["cofi"]):
        block |= changes
    clone.write_config(config | {"bases": {"minilm": {"source": "local", "path": str(base)}}})
    teacher, student = (clone.folder / WHERE.format(name, model) for model in ("teacher/0", "cofi/60"))
    run(clone, processes, *(str((model / "scores.json").relative_to(clone.folder)) for model in (teacher, student)))
    return {
        "teacher": read_json(teacher / "scores.json")["score"],
        "student": read_json(student / "scores.json")["score"],
        "sparsity": read_json(student / "structure.json")["sparsity"],
        "masks": read_masks(student / "masks.safetensors"),
        "steps": read_json(student / "run.json")["steps"],
        "loss": pd.read_parquet(student / "history.parquet")["loss"].dropna().to_numpy(),
    }


def against(found: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    """How far a run ended from that of one process."""
    differing = {name: int((found["masks"][name] != mask).sum()) for name, mask in one["masks"].items()}
    return {
        "parts_that_differ": sum(differing.values()),
        "parts": sum(mask.numel() for mask in one["masks"].values()),
        "largest_difference_of_loss": round(float(np.abs(found["loss"] - one["loss"]).max()), 6),
    }


def main(folder: Path) -> None:
    """Run what is not there yet in a copy of the workflow, and compare."""
    clone = Clone(folder) if folder.exists() else copy_workflow(folder)
    base = fetch(clone)
    found = {name: study(clone, name, base) for name in RUNS}
    scores = {name: {key: value for key, value in each.items() if isinstance(value, float)} for name, each in found.items()}
    apart = {name: against(found[name], found["one"]) for name in RUNS if name != "one"}
    write_json(RESULTS, {"steps": found["one"]["steps"], "runs": scores, "against_one": apart})
    print(RESULTS.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
