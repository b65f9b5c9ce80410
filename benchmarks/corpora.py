"""Does memory grow with a corpus? `python -m benchmarks.corpora`, which writes corpora.json beside it.

The novels of ../shared/data (13 M words) and a file with ten copies of them: peak resident memory of every stage up to the
teacher's first training steps, with the base minilm of an earlier run. Pages of mapped files count. About 20 minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import BaseModel

from espalier.config.job_specs import pack_spec, prepare_spec, pretrain_spec
from espalier.config.reading import parse
from espalier.data.packed import PackedRows
from espalier.runtime.files import write_json
from tests.conftest import MINILM, ROOT

RESULTS = Path(__file__).with_name("corpora.json")
NOVELS = ROOT / "../shared/data/english_novels"
STEPS, BATCH, EVALUATION = 10, 8, 512
OUTPUTS = {"config": "config.json", "weights": "model.safetensors", "history": "history.parquet", "record": "run.json"}


def copies_of(source: Path, count: int, path: Path) -> Path:
    """A file with the rows of another so many times."""
    file = pq.ParquetFile(source)
    with pq.ParquetWriter(path, file.schema_arrow) as writer:
        for _ in range(count):
            for batch in file.iter_batches():
                writer.write_batch(batch)
    return path


def peak(stage: str, spec: BaseModel, **paths: list[Path] | Path) -> dict[str, float]:
    """Run a stage in a process of its own: its peak resident memory and its seconds."""
    named = {name: each if isinstance(each, list) else [each] for name, each in paths.items()}
    options = [word for name, each in named.items() for word in (f"--{name.replace('_', '-')}", *map(str, each))]
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "espalier", stage, "--spec", spec.model_dump_json(), *options])
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"{stage} failed"
    return {"memory_mib": round(used.ru_maxrss / 1024), "seconds": round(time.monotonic() - began)}


def study(count: int, base: Path, folder: Path) -> dict[str, Any]:
    """Prepare, pack and begin to train."""
    folder.mkdir()
    source = copies_of(NOVELS / "train.parquet", count, folder / "novels.parquet")
    files = {"train": str(source), "validation": str(NOVELS / "validation.parquet")}
    content = {
        "project": "corpora",
        "bases": {"minilm": MINILM},
        "tasks": {"novels": {"kind": "text", "source": "files", **files, "text": ["text"], "evaluation_rows": EVALUATION}},
        "plans": {"narrow": {"method": "homodistil", "path": [0.5]}},
    }
    config = parse(content)
    task, rows = folder / "task.json", {"train": folder / "train.parquet", "evaluation": folder / "evaluation.parquet"}
    prepared = peak("prepare", prepare_spec(config, "novels"), task=task, **rows)
    packed = {"packed_train": folder / "train.arrow", "packed_evaluation": folder / "evaluation.arrow"}
    tokenizer = [base / "tokenizer.json", base / "tokenizer_config.json"]
    written = peak("pack", pack_spec(config, "novels"), tokenizer=tokenizer, **rows, **packed)
    total = len(PackedRows(packed["packed_train"], 0))
    training = {"batch_size": BATCH, "train": "all", "evaluate_every": 0.0, "epochs": STEPS * BATCH / total}
    trained = peak(
        "pretrain",
        pretrain_spec(parse(content | {"pretrain": training}), "novels", 42),
        base=[base / "config.json", base / "model.safetensors"],
        task=task,
        tokens=list(packed.values()),
        work=folder / "work",
        **{name: folder / "out" / file for name, file in OUTPUTS.items()},
    )
    sizes = {path.name: round(path.stat().st_size / 2**20) for path in (source, *packed.values())}
    return {"copies": count, "rows": total, "files_mib": sizes, "prepare": prepared, "pack": written, "pretrain": trained}


def main() -> None:
    """Measure one copy and ten."""
    base = next(Path("results").glob("*/bases/minilm"), None)
    if base is None or not NOVELS.is_dir():
        sys.exit(f"corpora needs {NOVELS} and the base minilm: run `make demo` first")
    with tempfile.TemporaryDirectory() as folder:
        found = [study(count, base.resolve(), Path(folder) / str(count)) for count in (1, 10)]
    write_json(RESULTS, {"corpora": found})
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
