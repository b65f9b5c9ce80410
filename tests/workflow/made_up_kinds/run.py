"""Run one task through the real stages: `python -m tests.workflow.made_up_kinds.run FOLDER`, in which study.json lies."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from espalier.__main__ import main
from espalier.config import job_specs, parse
from espalier.config.kinds import KINDS
from espalier.config.methods import METHODS
from espalier.provenance.code_digest import code_digest
from espalier.stages import MODULES

TASK, PLAN, SEED, PERCENT = "mine", "distil", 3, "50"
MODEL = ("config.json", "model.safetensors")
TRAINED = {"config": "config.json", "weights": "model.safetensors", "history": "history.parquet", "record": "run.json"}
PRUNED = TRAINED | {"masks": "masks.safetensors", "structure": "structure.json"}


def stage(name: str, spec: object, lists: dict[str, list[Path]], paths: dict[str, Path]) -> None:
    """Run a stage as its rule does."""
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    options = [part for option, files in lists.items() for part in (f"--{option}", *map(str, files))]
    options += [part for option, path in paths.items() for part in (f"--{option}", str(path))]
    status = main([name, "--spec", spec.model_dump_json(), *options])
    assert status == 0, f"{name} ended with status {status}"


def inside(folder: Path, *names: str) -> list[Path]:
    return [folder / name for name in names]


def digests_of_another_kind() -> dict[str, str]:
    """Stage → digest of its code for a classification."""
    stages = ("prepare", "tokenise", "finetune", "compress", "evaluate")
    return {name: code_digest(MODULES[name], METHODS["sdp"], KINDS["classification"]) for name in stages}


def run(folder: Path) -> None:
    """Prepare, tokenise, fine-tune, compress, evaluate."""
    config = parse(json.loads((folder / "study.json").read_text()))
    base, rows, tokens, out = folder / "base", folder / "prepared", folder / "tokens", folder / "out"

    prepared = {"train": rows / "train.parquet", "evaluation": rows / "evaluation.parquet"}
    stage("prepare", job_specs.prepare_spec(config, TASK), {}, prepared | {"task": rows / "task.json"})

    tokenised = {f"tokens-{name}": tokens / f"{name}.parquet" for name in prepared}
    tokenizer = {"tokenizer": inside(base, "config.json", "tokenizer.json", "tokenizer_config.json")}
    stage("tokenise", job_specs.tokenise_spec(config, TASK), tokenizer, prepared | tokenised)

    both = list(tokenised.values())
    written = {name: out / "teacher" / file for name, file in TRAINED.items()}
    work = {"task": rows / "task.json", "work": folder / "work"}
    lists = {"base": inside(base, *MODEL), "tokens": both}
    stage("finetune", job_specs.finetune_spec(config, TASK, SEED), lists, written | work)

    written = {name: out / "student" / file for name, file in PRUNED.items()}
    teacher = inside(out / "teacher", *MODEL)
    lists = {"teacher": teacher, "start": teacher, "tokens": both, "latency": [], "outputs": []}
    stage("compress", job_specs.compress_spec(config, TASK, PLAN, SEED, PERCENT), lists, written | work)

    scored = {"scores": out / "scores.json", "predictions": out / "predictions.parquet"}
    places = {"task": rows / "task.json", "tokens": tokens / "evaluation.parquet"}
    stage("evaluate", job_specs.evaluate_spec(config, TASK), {"model": inside(out / "student", *MODEL)}, scored | places)

    (out / "digests.json").write_text(json.dumps(digests_of_another_kind()))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
