"""Results of invented studies for tests of the report: models in formats, and a study with everything that a page can show."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from espalier.config.deployment.formats import FORMATS
from espalier.config.deployment.specs import GatherSpec
from espalier.config.methods import HISTORY_COLUMNS
from espalier.config.project import Measure
from espalier.results.places import Place, files_by_place
from espalier.stages.results import gather, report, table

KINDS = ("b1_l128", "b1_lrows", "b32_l128", "b32_lrows")
FACTORS = {"torch": (1.0, 1.0, 0.0), "onnx": (1.0, 1.6, 0.0), "onnx-int8": (0.26, 4.0, 0.004), "openvino": (1.01, 1.9, 0.0)}
FACTORS |= {"openvino-int8": (0.27, 5.2, 0.003)}
"""Format → its size beside fp32, its speed beside PyTorch, and the score that it loses."""
TOKENIZER_MIB = 0.7
DENSE_MS = {"b1_l128": 14.2, "b1_lrows": 6.1, "b32_l128": 391.0, "b32_lrows": 118.0}
FIGURES = ("quality", "size", "structure", "training")


def served(score: float, mib: float, speed: float, formats: Iterable[str] = FORMATS, worse: float = 0.0) -> dict[str, Any]:
    """What `deploy` writes of a model.

    Args:
        score: in PyTorch and fp32.
        mib: of its weights in fp32.
        speed: beside the dense model, in PyTorch.
        formats: in which it is served.
        worse: additional loss of score in int8.
    """
    content: dict[str, Any] = {"score": score, "metric": "accuracy", "set": "validation", "formats": {}}
    for name in formats:
        size, faster, drop = FACTORS[name]
        lost = drop + worse * name.endswith("int8")
        medians = {kind: ms / (speed * faster) for kind, ms in DENSE_MS.items()}
        content["formats"][name] = {
            "score": score - lost,
            "drop": lost,
            "agreement": 1.0 - 2 * lost,
            "size_mib": mib * size,
            "total_mib": mib * size + TOKENIZER_MIB,
            "sets": {},
            "latency_ms": {kind: {"median": ms, "p95": 1.3 * ms} for kind, ms in medians.items()},
            "speedup": dict.fromkeys(KINDS, speed * faster),
            "same_runtime_speedup": dict.fromkeys(KINDS, speed),
        }
    return content


def write_json_file(path: Path, content: Any) -> None:
    """Write a JSON file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def files_named(root: Path, name: str) -> list[Path]:
    """All files of this name, in an order that is not the table's."""
    return sorted(root.rglob(name), reverse=True)


def gather_formats_of(root: Path, max_drop: float = 0.01) -> Path:
    """deploy.csv from what `deploy` left in a results tree."""
    costs, linear = files_named(root, "cost.json"), files_named(root, "linear.json")
    spec = GatherSpec(max_drop=max_drop, measure=Measure()).model_dump_json()
    gather.run(spec, deployments=sorted(root.rglob("deploy/*.json")), costs=costs, linear=linear, table=root / "deploy.csv")
    return root / "deploy.csv"


def write_report(root: Path, spec: str, histories: list[Path], text: bool = False, analysed: bool = False) -> str:
    """Gather the table of a results tree, draw its report, and return the page."""
    scores, costs, records = (files_named(root, f"{name}.json") for name in ("scores", "cost", "run"))
    linear, formats = files_named(root, "linear.json"), [path for path in [root / "deploy.csv"] if path.exists()]
    paths = {"table": root / "table.csv", "metrics": root / "metrics.json"}
    table.run(spec, scores=scores, costs=costs, records=records, linear=linear, **paths)

    figures = {name: root / "figures" / f"{name}.svg" for name in FIGURES}
    report.run(
        spec,
        **figures,
        table=root / "table.csv",
        histories=histories,
        records=records,
        scores=scores,
        costs=costs,
        structures=files_named(root, "structure.json"),
        analyses=files_named(root, "analysis.json"),
        tasks=files_named(root, "task.json"),
        linear=linear,
        formats=formats,
        report=root / "report.html",
        distance=[root / "figures/distance.svg"] if text else [],
        anatomy=[root / "figures/analyses.svg"] if analysed else [],
        findings=[root / "analyses.json"] if analysed or text else [],
        pareto=[root / "figures/pareto.svg"] if formats else [],
    )
    return (root / "report.html").read_text()


# ---- a study with everything that a page can show

METHODS = {"cofi": "cofi", "sdp": "sdp", "small-dense": "dense", "homodistil-then-cofi": "cofi", "tiny": "ready-made"}
STUDENTS: Mapping[str, Mapping[str, tuple[float, float, float]]] = {
    "teacher": {"0": (0.0, 1.0, 1.0)},
    "cofi": {"60": (0.012, 0.66, 2.3), "80": (0.031, 0.5, 4.1), "95": (0.092, 0.44, 10.4)},
    "homodistil-then-cofi": {"80": (0.022, 0.4, 4.6), "97.5": (0.15, 0.36, 14.8)},
    "sdp": {"50": (0.004, 1.0, 1.0), "90": (0.055, 1.0, 1.02)},
    "small-dense": {"0": (0.105, 0.52, 2.0)},
    "tiny": {"0": (0.078, 0.19, 11.7)},
}
"""Plan → target → loss of score against the teacher, size and speed beside it."""
DENSE = {"docs-order": 0.894, "a-task-with-a-long-name": 0.771}
MIB = 86.7


def whole_study(root: Path) -> str:
    """The page of a study of two tasks and two seeds: structured and unstructured students, rivals, formats, analyses, text."""
    for task in DENSE:
        _write_task(root, task)
    spec = {"project": "a-study-of-everything", "methods": METHODS, "before": {}, "max_drop": 0.01}
    spec["columns"] = {name: [column.model_dump() for column in HISTORY_COLUMNS.get(name, ())] for name in ("cofi", "sdp")}
    gather_formats_of(root)
    return write_report(root, json.dumps(spec), files_named(root, "history.parquet"), analysed=True)


def text_study(root: Path) -> str:
    """The page of a study of a text task: no formats, no rivals, distances from the teacher while students were trained."""
    write_json_file(root / "prepared/docs-corpus/task.json", {"name": "docs-corpus", "kind": "text", "sets": ["validation"]})
    for plan, percent, lost in (("teacher", "0", 0.0), ("homodistil", "50", 0.05), ("homodistil", "80", 0.14)):
        folder = root / f"minilm/docs-corpus/seed42/{plan}/{percent}"
        sets = {"validation": {"rows": 512, "loss": 2.1 + 4 * lost, "masked-accuracy": 0.61 - lost}}
        scores = {"score": 0.61 - lost, "metric": "masked-accuracy", "set": "validation", "sets": sets}
        write_json_file(folder / "scores.json", scores)
        write_json_file(
            folder / "cost.json", _cost(float(percent) / 100, 1.0 - float(percent) / 150, 1.0 + float(percent) / 80)
        )
        write_json_file(folder / "run.json", _record(plan, folder) | {"head": "new", "trained": "head"})

        history = _history(plan, float(percent) / 100, 0.61 - lost).rename(
            columns={"validation/accuracy": "validation/masked-accuracy"}
        )
        if plan != "teacher":
            history["validation/discrepancy"] = 0.4 * np.exp(-history["step"] / 150)
            history["samples_per_second"] = 90.0 + history["step"] / 10
        history.to_parquet(folder / "history.parquet", index=False)

    spec = {
        "project": "a-study-of-text",
        "methods": {"homodistil": "homodistil"},
        "before": {"docs-corpus/homodistil/80": "docs-corpus/homodistil/50"},
    }
    return write_report(root, json.dumps(spec), files_named(root, "history.parquet"), text=True)


def _write_task(root: Path, task: str) -> None:
    card = {"name": task, "kind": "classification", "classes": ["a", "b"], "sets": ["validation"]}
    write_json_file(root / f"prepared/{task}/task.json", card | {"majority": {"validation": 0.55}})
    times = {"1": {"median": 0.41, "p95": 0.6}, "32": {"median": 7.9, "p95": 9.0}}
    sets = {"validation": {"accuracy": DENSE[task] - 0.17, "macro-f1": DENSE[task] - 0.2}}
    linear = {"params_total": 41_000, "size_mib": 0.83, "latency_ms": times, "set": "validation", "sets": sets}
    write_json_file(root / f"prepared/{task}/linear.json", linear)

    for seed in (42, 43):
        for plan, targets in STUDENTS.items():
            for percent, facts in targets.items():
                _write_student(root / f"minilm/{task}/seed{seed}/{plan}/{percent}", task, facts)
    for place, path in files_by_place(files_named(root, "scores.json")).items():
        if place.plan == "sdp" and place.task == task:
            write_json_file(path.with_name("analysis.json"), _analysis(place))


def _noise(folder: Path) -> float:
    """A number in [-1, 1) that differs from folder to folder and not from run to run."""
    return zlib.crc32("/".join(folder.parts[-5:]).encode()) / 2**31 - 1.0


def _write_student(folder: Path, task: str, facts: tuple[float, float, float]) -> None:
    lost, size, speed = facts
    plan, percent = folder.parent.name, folder.name
    score = round(DENSE[task] - lost + 0.004 * _noise(folder), 6)
    sparsity = float(percent) / 100

    sets = {"validation": {"rows": 872, "loss": 0.31, "accuracy": score, "macro-f1": score - 0.01}}
    write_json_file(folder / "scores.json", {"score": score, "metric": "accuracy", "set": "validation", "sets": sets})
    write_json_file(folder / "cost.json", _cost(sparsity, size, speed))
    write_json_file(folder / "run.json", _record(plan, folder))
    _history(plan, sparsity, score).to_parquet(folder / "history.parquet", index=False)
    if plan.endswith("cofi"):
        write_json_file(folder / "structure.json", _structure(sparsity))

    # one student loses too much in int8, and models of one plan have small embeddings, too
    worse = 0.06 if (plan, percent) == ("cofi", "95") and task == "docs-order" else 0.0
    write_json_file(folder / "deploy/compact.json", served(score, MIB * size, speed, worse=worse))
    if plan == "homodistil-then-cofi":
        write_json_file(folder / "deploy/trimmed.json", served(score - 0.001, MIB * size * 0.4, speed))


def _cost(sparsity: float, size: float, speed: float) -> dict[str, Any]:
    def timed(ms: float) -> dict[str, Any]:
        times = {
            batch: {"median": ms * factor, "q25": 0.9 * ms * factor, "q75": 1.2 * ms * factor} for batch, factor in BATCHES
        }
        return {"latency_ms": times, "dense_latency_ms": times, "speedup": {batch: speed for batch, _ in BATCHES}}

    counts = {"params_total": int(22.7e6 * size), "params_encoder": int(10.6e6 * (1 - sparsity)), "macs": int(1.4e9 / speed)}
    counts |= {"params_nonzero": int(22.7e6 - 10.6e6 * sparsity), "size_mib": MIB * size, "length": 128, "repeats": 30}
    shares = {"sparsity_encoder": sparsity, "sparsity_total": 0.47 * sparsity, "device": "cpu"}
    shares |= {"precision": "fp32", "threads": 2}
    return counts | shares | timed(14.2 / speed) | {"onnx": timed(9.0 / speed) | {"size_mib": MIB * size}}


BATCHES = (("1", 1.0), ("32", 27.0))


def _record(plan: str, folder: Path) -> dict[str, Any]:
    return {
        "stage": "finetune" if plan == "teacher" else "compress",
        "seed": int(folder.parts[-3].removeprefix("seed")),
        "spec_sha256": "a" * 64,
        "code_sha256": "b" * 64,
        "inputs": {"results/a-study-of-everything/bases/minilm/model.safetensors": "c" * 64},
        "versions": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        **{
            "device": "cpu",
            "precision": "bf16",
            "threads": 2,
            "train_seconds": 184.0,
            "samples_per_second": 402.7,
            "steps": 400,
        },
        **{"resumed_at": [], "selected": {"checkpoint": "best", "set": "held-out", "step": 350}},
        **{"git_commit": "d" * 40, "finished": "2026-01-01T00:00:00+00:00"},
    }


def _history(plan: str, sparsity: float, score: float) -> pd.DataFrame:
    steps = np.arange(0, 400, 20)
    terms = {"loss/task": 0.69 * np.exp(-steps / 200) + 0.1, "loss/logits": 9.0 * np.exp(-steps / 60) + 0.02}
    lines = pd.DataFrame({"step": steps, "epoch": steps / 200, "loss": 1.0, "sparsity": sparsity * steps / 400, **terms})
    evaluated = {
        "step": [200, 400],
        "epoch": [1.0, 2.0],
        "validation/accuracy": [score - 0.05, score],
        "validation/loss": [0.5, 0.4],
    }
    return pd.concat([lines, pd.DataFrame(evaluated)])


def _structure(sparsity: float) -> dict[str, Any]:
    left = 1.0 - sparsity
    layers = [
        {"heads": {"kept": int(12 * left), "total": 12}, "ffn": {"kept": int(1536 * left) // (layer + 1), "total": 1536}}
        for layer in range(5)
    ]
    layers.append({"heads": {"kept": 0, "total": 12}, "ffn": {"kept": 0, "total": 1536}})
    return {"target": sparsity, "sparsity": sparsity, "layers": layers, "hidden": {"kept": 380, "total": 384}}


def _analysis(place: Place) -> dict[str, Any]:
    spread = 0.5 + 0.001 * place.seed
    classes = {"separability": spread, "class_signal_to_noise": 2 * spread}
    noises = {"signal_to_noise_db": 9.0, "scaled_signal_to_noise_db": 11.0, "layers_signal_to_noise_db": [20.0, 15.0, 9.0]}
    errors = {"local": [0.0, 0.1, 0.2], "accumulated": [0.0, 0.2, 0.4], "steps": [0.0, 1.0, 2.0], "gain": [None, 1.0, 1.0]}
    mean = {"hoyer": spread, "small": 0.1, "small_beside_largest": 0.2, "excess_kurtosis": -1.5}
    one_shot = {percent: {"score": 0.7 - int(percent) / 200, "distortion": 0.3} for percent in ("50", "70", "90")}
    return {
        "rows": 872,
        "representations": {"student": classes, "teacher": {"separability": 0.9, "class_signal_to_noise": 2.0}, **noises},
        "errors": errors | {"distance": 2.0, "bound": 3.0},
        "weights": {"mean": mean, "score": 0.7, "one_shot": one_shot, "matrices": {}},
    }
