"""Every stage of a study of one student of a made-up method, one after another in this process: for test_new_method.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from espalier.__main__ import main
from espalier.config import job_specs, parse
from espalier.config.reporting import specs as reporting_specs
from tests import stages

PLANS = """
project: halved
seeds: [3]
device: cpu
precision: fp32
measure: {batch_sizes: [1], length: 8, repeats: 3}
progress: {log_every: 1}
teacher: {epochs: 1.0}
plans:
  halving: {method: halving, path: [0.6], prune_steps: 2, epochs_per_step: 1.0, dense_epochs: 1.0, batch_size: 16}
"""

root = Path(sys.argv[1])
stages.write_inputs(root)
known = json.loads((root / "mine/task.json").read_text())
(root / "mine/task.json").write_text(json.dumps({**known, "name": "mine"}))
config = parse(stages.study(PLANS))
rows = ["--task", root / "mine/task.json", "--tokens", root / "mine/evaluation.parquet"]
folders = {run: root / f"halved/tiny/mine/seed3/{run}/{at}" for run, at in (("teacher", "0"), ("halving", "60"))}


def do(stage, spec, *rest):
    assert main([stage, "--spec", spec.model_dump_json(), *map(str, rest)]) == 0, stage


def model(folder):
    return [folder / name for name in (*stages.MODEL, "onnx/model.onnx")]


tokenizer = [root / "base/tokenizer.json", root / "base/tokenizer_config.json"]
for run, folder in folders.items():
    folder.mkdir(parents=True)
    assert main(stages.arguments(config, run, root, folder, folders.__getitem__)) == 0, run

    compact = folder / "compact"
    compact.mkdir()
    outputs = [part for name, file in stages.EXPORTED.items() for part in (f"--{name}", compact / file)]
    student = ["--student", *(folder / name for name in stages.MODEL)]
    do(
        "export",
        job_specs.export_spec(config, "mine"),
        *student,
        "--tokenizer",
        *tokenizer,
        "--decisions",
        "--sentences",
        *outputs,
    )

    read = ["--model", *(compact / name for name in stages.MODEL), *rows]
    scores = ["--scores", folder / "scores.json", "--predictions", folder / "predictions.parquet"]
    do("evaluate", job_specs.evaluate_spec(config, "mine"), *read, *scores)
    read = ["--model", *model(compact), "--dense", *model(folders["teacher"] / "compact")]
    do("measure", job_specs.measure_spec(config, "mine"), *read, "--cost", folder / "cost.json")


def files(name):
    return [path for folder in folders.values() for path in [folder / name] if path.exists()]


spec = reporting_specs.report_spec(config)
read = ["--scores", *files("scores.json"), "--costs", *files("cost.json"), "--records", *files("run.json")]
do("table", spec, *read, "--linear", "--table", root / "table.csv", "--metrics", root / "metrics.json")
pictures = [part for name in ("quality", "size", "structure", "training") for part in (f"--{name}", root / f"{name}.svg")]
do(
    *("report", spec, *read, "--table", root / "table.csv", "--histories", *files("history.parquet")),
    *("--structures", *files("structure.json"), "--analyses", "--tasks", root / "mine/task.json", "--formats", "--linear"),
    *("--report", root / "report.html", *pictures, "--distance", "--anatomy", "--findings", "--pareto"),
)
