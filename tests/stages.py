"""Command lines of stages on the tiny base and tasks, as the workflow writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from espalier.config.job_specs import compress_spec, export_spec, fetch_spec, finetune_spec, pretrain_spec, recover_spec
from tests import tiny
from tests.methods import on_text

TASKS = """
bases: {tiny: {source: local, path: base}}
tasks:
  mine: {kind: classification, source: files, train: a.csv, validation: b.csv, text: [text], label: label, metric: accuracy}
  words: {kind: text, source: files, train: a.txt, validation: b.txt, text: [text], max_length: 16}
"""
ON_TEXT = ("pretrain", "homodistil")
SEED, PERCENT = 3, "60"
MODEL = ("config.json", "model.safetensors")
TRAINED = {"config": "config.json", "weights": "model.safetensors", "history": "history.parquet", "record": "run.json"}
PRUNED = TRAINED | {"masks": "masks.safetensors", "structure": "structure.json"}
EXPORTED = {
    "config": "config.json",
    "weights": "model.safetensors",
    "code": "modeling_espalier.py",
    "onnx": "onnx/model.onnx",
    "tokenizer-json": "tokenizer.json",
    "tokenizer-config": "tokenizer_config.json",
}
FETCHED = {
    "config": "config.json",
    "weights": "model.safetensors",
    "tokenizer": "tokenizer.json",
    "tokenizer-config": "tokenizer_config.json",
    "source": "source.json",
}
Parts = tuple[str, Any, dict[str, list[str]], dict[str, str]]
"""Stage, spec, lists of input files, names of the outputs."""


def inside(folder: Path, *names: str) -> list[str]:
    return [str(folder / name) for name in names]


def study(text: str) -> dict[str, Any]:
    """A configuration, not yet parsed, on the tiny base and tasks."""
    return yaml.safe_load(TASKS) | yaml.safe_load(text)


def write_inputs(root: Path) -> None:
    """A base, a task of each kind."""
    tiny.write_base(root / "base")
    tiny.write_task(root / "mine")
    on_text.write_task(root / "words")


def arguments(config: Any, run: str, root: Path, out: Path, done: Callable[[str], Path]) -> list[str]:
    """Of `python -m espalier`, for teacher, pretrain, recover, export, fetch or a plan.

    Args:
        config: parsed; it has TASKS and, where `run` or what comes before it is a plan, that plan.
        run: what to do.
        root: where `write_inputs` wrote.
        out: folder of the outputs.
        done: the folder in which the outputs of another run lie.
    """
    stage, spec, lists, names = _parts(config, run, root, done)
    paths = {name: out / file for name, file in names.items()}
    if "record" in names:
        task, suffix = (root / "words", "arrow") if run in ON_TEXT else (root / "mine", "parquet")
        paths |= {"task": task / "task.json", "work": out / "work"}
        lists |= {"tokens": inside(task, f"train.{suffix}", f"evaluation.{suffix}")}
    options = [part for name, files in lists.items() for part in (f"--{name}", *files)]
    options += [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    return [stage, "--spec", spec.model_dump_json(), *options]


def _parts(config: Any, run: str, root: Path, done: Callable[[str], Path]) -> Parts:
    base = inside(root / "base", *MODEL)
    if run == "teacher":
        return "finetune", finetune_spec(config, "mine", SEED), {"base": base}, TRAINED
    if run == "pretrain":
        return "pretrain", pretrain_spec(config, "words", SEED), {"base": base}, TRAINED
    if run == "recover":
        models = {"teacher": inside(done("teacher"), *MODEL), "start": inside(done("sdp"), *MODEL, "masks.safetensors")}
        models["outputs"] = []
        return "recover", recover_spec(config, "mine", "sdp", SEED, PERCENT), models, TRAINED
    if run == "export":
        tokenizer = inside(root / "base", "tokenizer.json", "tokenizer_config.json")
        models = {"student": inside(done("cofi"), *MODEL), "tokenizer": tokenizer, "decisions": [], "sentences": []}
        return "export", export_spec(config, "mine"), models, EXPORTED
    if run == "fetch":
        return "fetch", fetch_spec(config, "tiny"), {}, FETCHED
    task, taught = ("words", "pretrain") if run in ON_TEXT else ("mine", "teacher")
    teacher = inside(done(taught), *MODEL)
    models = {
        "teacher": teacher,
        "start": teacher if run in ("homodistil", "spd", "kprune") else base,
        "latency": [],
        "outputs": [],
    }
    return "compress", compress_spec(config, task, run, SEED, PERCENT), models, PRUNED
