"""The tasks that `espalier new-task --write` adds can be planned, all of them in one configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from espalier.__main__ import main
from tests import tiny
from tests.conftest import Clone
from tests.data_files import FILES, REAL, write

REAL_DATA = Path(__file__).parents[3] / "shared/data"
CONFIG = """\
# Rows of many forms.
project: many
bases:
  tiny: {source: local, path: tiny}
plans:
  dense: {method: dense, epochs: 1.0}
measure: {length: 16}
tasks:
"""


def test_every_task_that_is_written_can_be_planned(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone.folder)
    tiny.write_base(Path("tiny"))
    tiny.config(max_position_embeddings=512).save_pretrained("tiny")
    Path("config.yaml").write_text(CONFIG)
    here = [str(write(clone.folder, file).relative_to(clone.folder)) for file in FILES]
    # what lies elsewhere has a validation file beside it, so nothing is written there
    there = [str(REAL_DATA / name) for name in REAL if (REAL_DATA / name.replace("train", "validation")).is_file()]
    for path in (*here, *there):
        assert main(["new-task", path, "--write"]) == 0, path

    text = Path("config.yaml").read_text()
    tasks = yaml.safe_load(text)["tasks"]
    assert text.startswith(CONFIG) and len(tasks) == len(here) + len(there) >= 12
    result = clone.snakemake("--dry-run", "--quiet", "rules")
    assert result.returncode == 0, result.stderr[-3000:]
    planned = clone.snakemake("--summary").stdout
    assert all(f"prepared/{task}/task.json" in planned for task in tasks)
