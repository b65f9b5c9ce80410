"""Saved states of a run in its work folder: written whole or not at all, taken up only by the same run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from espalier.core.runtime import atomic, read_json, write_json


@dataclass
class Saves:
    """The work folder of a run. `fingerprint` names everything that the run depends on."""

    folder: Path
    fingerprint: dict[str, Any]

    def write(self, state: dict[str, Any]) -> None:
        """Save a state in place of the one before."""
        with atomic(self.folder / "state.pt") as temporary:
            torch.save(state, temporary)

    def read(self) -> dict[str, Any] | None:
        """The state to resume from; None where there is none, or where it belongs to other inputs or settings."""
        path, known = self.folder / "state.pt", self.folder / "fingerprint.json"
        if not known.exists() or read_json(known) != self.fingerprint:
            path.unlink(missing_ok=True)
            write_json(self.folder / "resumed.json", [])
            write_json(known, self.fingerprint)  # last: who finds it finds the rest
        if not path.exists():
            return None
        state = torch.load(path, weights_only=True, map_location="cpu")
        write_json(self.folder / "resumed.json", [*self.resumed_at, state["step"]])
        print(f"resuming at step {state['step']}", flush=True)
        return state

    @property
    def resumed_at(self) -> list[int]:
        """Steps at which the run was taken up again."""
        return read_json(self.folder / "resumed.json")

    def write_best(self, state: dict[str, Any]) -> None:
        """Save the best state so far."""
        with atomic(self.folder / "best.pt") as temporary:
            torch.save(state, temporary)

    def read_best(self) -> dict[str, Any]:
        """The best state."""
        return torch.load(self.folder / "best.pt", weights_only=True, map_location="cpu")
