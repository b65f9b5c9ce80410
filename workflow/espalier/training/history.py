"""A run's history: a line a row while it runs, a parquet file when it is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from espalier.runtime.distributed import is_main
from espalier.runtime.files import atomic

FIRST = ["step", "epoch", "loss"]
"""Columns that stand first in the parquet file."""


class History:
    """Rows of numbers, appended to a file as they come, by the main process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []

    @property
    def length(self) -> int:
        """Rows so far."""
        return len(self.rows)

    def add(self, step: int, epoch: float, row: dict[str, float]) -> None:
        """Append one row."""
        if not is_main():
            return
        self.rows.append({"step": step, "epoch": epoch, **row})

        # One line a row: a killed run leaves at most its last line unfinished.
        with self.path.open("a") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")

    def truncate(self, length: int) -> None:
        """Go back to the first `length` rows of the file: what came after the saved state happens again."""
        if not is_main():
            return
        lines = self.path.read_text().splitlines()[:length] if self.path.exists() else []
        self.rows = [json.loads(line) for line in lines]

        with atomic(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))

    def write(self, path: Path) -> None:
        """The whole history as parquet."""
        table = pd.DataFrame(self.rows)

        # A column that a row lacks is empty there: scores stand in rows of evaluations alone.
        columns = FIRST + [name for name in table.columns if name not in FIRST]

        with atomic(path) as temporary:
            table.reindex(columns=columns).to_parquet(temporary, index=False)
