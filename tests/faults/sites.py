"""The tiny stages that the table of faults disturbs, and what is looked at afterwards."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from espalier.config import parse
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, sha256, write_json
from espalier.training.saves import load
from tests.faults.forks import Before, Child, Ended, apart, start, watch
from tests.stages import arguments, study

STEPS = 40
RUNS = ("teacher", "sdp", "spd", "homodistil", "cofi", "recover", "export")
ORDER = ("teacher", "pretrain", "sdp", "spd", "homodistil", "cofi", "recover", "export", "fetch")
"""Who needs whom comes after it."""
LAST_OF_ALL = {"export": "tokenizer_config.json", "fetch": "source.json"}
"""The output that a stage writes last; run.json where nothing else is said."""
TIMED = ["seconds", "samples_per_second"]
CONFIG = """
project: faults
precision: fp32
teacher: {epochs: 10.0, batch_size: 16, learning_rate: 1.0e-3, evaluate_every: 2.0}
pretrain: {epochs: 10.0, batch_size: 16, train: all, evaluate_every: 5.0}
plans:
  sdp: {method: sdp, path: [0.6], prune_steps: 2, dense_epochs: 4.0, epochs_per_step: 3.0, batch_size: 16, evaluate_every: 2.0,
        checkpoint: best, recover: {epochs: 10.0}}
  spd: {method: spd, path: [0.6], prune_steps: 3, sparsify_epochs: 4.0, grafting_epochs: 3.0, finetune_epochs: 3.0,
        batch_size: 16, evaluate_every: 2.0}
  cofi: {method: cofi, path: [0.6], prepruning_epochs: 2.0, pruning_epochs: 8.0, sparsity_warmup_epochs: 2.0, batch_size: 16,
         gate_learning_rate: 0.5, multiplier_learning_rate: 0.5, evaluate_every: 2.0, checkpoint: best}
  homodistil: {method: homodistil, path: [0.6], epochs: 10.0, batch_size: 16, decide_every: 4, multiple: 1, evaluate_every: 2.0,
               checkpoint: best}
progress: {log_every: 1}
"""
"""Forty steps each. All but the teacher's and SPD's end with their best checkpoint."""


@dataclass
class Site:
    """A place in which a stage runs: inputs that are shared with others or copied, and outputs of its own."""

    root: Path
    """Holds base, mine, words, and the results of the undisturbed runs in done/."""
    run: str
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    """What differs from the plan in CONFIG."""
    base: dict[str, Any] = field(default_factory=dict)
    """The same for the base."""

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def work(self) -> Path:
        return self.out / "work"

    def own_inputs(self) -> Path:
        """Go over to a copy of all inputs, which a fault may damage."""
        self.origin, self.root = self.root, self.folder / "inputs"
        shutil.copytree(self.origin, self.root, ignore=shutil.ignore_patterns("work", "*.log"))
        return self.root

    def sound_inputs(self) -> None:
        """Go back to the inputs as they were."""
        self.root = self.origin

    def arguments(self) -> list[str]:
        """Of `python -m espalier`."""
        return arguments(self._config(), self.run, self.root, self.out, lambda run: self.root / "done" / run / "out")

    def _config(self) -> Any:
        raw = study(CONFIG)
        if self.run in raw["plans"]:
            raw["plans"][self.run] |= self.settings
        raw["bases"]["tiny"] |= {"path": str(self.root / "base"), **self.base}
        return parse(raw)

    def start(self, before: Before = lambda: None, arguments: list[str] | None = None) -> Child:
        """Run the stage in a fork."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return start(arguments or self.arguments(), self.folder / f"{len(list(self.folder.glob('*.log')))}.log", before)

    def outcome(self, before: Before = lambda: None) -> Ended:
        return self.start(before).wait()

    @property
    def outputs(self) -> list[Path]:
        """Files of the stage that are there under their own names."""
        return sorted(path for path in self.out.glob("[!.]*") if path.is_file()) if self.out.exists() else []

    @property
    def complete(self) -> bool:
        """Whether the last of all outputs is there."""
        return (self.out / LAST_OF_ALL.get(self.run, "run.json")).exists()

    @property
    def done(self) -> int:
        """Steps that history tells of."""
        path = self.work / "history.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)

    @property
    def resumed(self) -> int:
        """Step at which the finished run was last taken up."""
        record = self.out / "run.json"
        return max(read_json(record)["resumed_at"][-1:], default=0) if record.exists() else 0

    def half_written(self, reference: Site, damaged: tuple[str, ...] = ()) -> list[str]:
        """Files under their own names that are not what the undisturbed run writes, or states that cannot be read."""
        states = [path for path in self.work.glob("[!.]*.pt") if path.name not in damaged]

        def wrong() -> list[str]:
            outputs = [path.name for path in self.outputs if not same(path, reference.out / path.name)]
            return outputs + [path.name for path in states if not is_whole(path)]

        return apart(wrong)

    def as_undisturbed(self, reference: Site) -> bool:
        """Whether all outputs are there and what they should be."""
        names = [[path.name for path in site.outputs] for site in (self, reference)]
        return names[0] == names[1] and not self.half_written(reference)


def same(path: Path, expected: Path) -> bool:
    """Whether two files say the same: to the last bit, but for times and for the notes on the run."""
    if path.name == "run.json":
        return {"finished", "steps"} <= read_json(path).keys() and read_json(path)["steps"] == read_json(expected)["steps"]
    if path.name == "source.json":
        return read_json(path)["weights_sha256"] == read_json(expected)["weights_sha256"]
    if path.suffix == ".parquet":
        tables = [pd.read_parquet(each).drop(columns=TIMED) for each in (path, expected)]
        return tables[0].equals(tables[1])
    return sha256(path) == sha256(expected)


def is_whole(path: Path) -> bool:
    try:
        return bool(load(path))
    except UserError:
        return False


def undisturbed(root: Path, run: str) -> tuple[Site, dict[str, int], float]:
    """An undisturbed run, made where it is not there: its site, how often it changes which file, and its seconds."""
    site, notes = Site(root, run, root / "done" / run), root / "done" / run / "notes.json"
    if not notes.exists():
        shutil.rmtree(site.folder, ignore_errors=True)
        _run_noting(site, notes)
    noted = read_json(notes)
    return site, noted["changes"], noted["seconds"]


def _run_noting(site: Site, notes: Path) -> None:
    """Run a stage twice: once to count, once to take the time without counting."""
    counts: Counter[str] = Counter()

    def counting() -> None:
        watch(site.out, lambda name: (counts.update([name]), write_counts()))

    def write_counts() -> None:
        (site.folder / "counts").write_text(json.dumps(counts))

    ended = site.outcome(counting)
    if ended.status:
        sys.exit(f"{site.run} does not run: {ended.said}")
    began = os.times().elapsed
    timed = Site(site.root, site.run, site.folder / "timed")
    timed.outcome()
    seconds = os.times().elapsed - began
    if not timed.as_undisturbed(site):
        sys.exit(f"{site.run} does not repeat itself: {timed.half_written(site)}")
    shutil.rmtree(timed.folder)
    write_json(notes, {"changes": read_json(site.folder / "counts"), "seconds": round(seconds, 3)})
