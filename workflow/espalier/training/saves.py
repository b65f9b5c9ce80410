"""Saved states of a run in its work folder: written whole or not at all, taken up only by the same run.

The last two states are kept: one that the disk has damaged since gives way to the one before.
"""

from __future__ import annotations

import pickle
import shutil
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from espalier.runtime.distributed import is_main, mains
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic, read_json, write_json

DAMAGES = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)
"""What zipfile and torch raise on a file that is not what was written."""


@dataclass
class Saves:
    """The work folder of a run. `fingerprint` names everything that the run depends on; the main process alone reads it."""

    folder: Path
    fingerprint: dict[str, Any]

    def write(self, state: dict[str, Any]) -> None:
        """Save a state; the one before stays beside it.

        Raises:
            UserError: it cannot be written; what was saved before is whole.
        """
        self._write("state.pt", state)

    def _write(self, name: str, state: dict[str, Any]) -> None:
        """Write a file as the main process; a state that is there already becomes the one before."""
        if not is_main():
            return

        path = self.folder / name
        try:
            with atomic(path) as temporary:
                torch.save(state, temporary)
                # The new state is whole on the disk before the last one makes way for it.
                if path == self._states[0] and path.exists():
                    path.replace(self._states[1])
        except (OSError, RuntimeError) as error:
            # torch raises RuntimeError where the disk is full
            free = shutil.disk_usage(self.folder).free >> 20
            raise UserError(
                f"{path}: cannot be written, {free:,} MiB are free there; the state before it is whole: make room and run this "
                f"again, it goes on from there. {error}"
            ) from error

    @property
    def _states(self) -> tuple[Path, Path]:
        """The last state and the one before."""
        return self.folder / "state.pt", self.folder / "state-before.pt"

    def read(self) -> dict[str, Any] | None:
        """The state to resume from; None where there is none, or where it belongs to other inputs or settings."""
        newest = self._newest() if is_main() else None

        # The main process looks for the state; the others load the file that it names.
        path = mains(newest and newest[0])
        if newest is None:
            return path and load(path)

        state = newest[1]
        write_json(self.folder / "resumed.json", [*self.resumed_at, state["step"]])
        print(f"resuming at step {state['step']}", flush=True)
        return state

    def _newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The last state that is whole, with the best one where it has one, and its file."""
        # A process that was killed while it wrote leaves its temporary file.
        for litter in self.folder.glob(".*.partial-*"):
            litter.unlink()

        self._claim()
        for path in filter(Path.exists, self._states):
            try:
                state = load(path)
                # A state without its best checkpoint could not end the run, so it does not count as whole.
                if state.get("best"):
                    self.read_best()
                return path, state
            except UserError as error:
                print(f"{error}; going back to the state before, or to the beginning", flush=True)
        return None

    def _claim(self) -> None:
        """Drop the states of another run: other inputs, settings, code or versions."""
        known = self.folder / "fingerprint.json"
        try:
            before = read_json(known) if known.exists() else {}
        except ValueError:
            before = {"fingerprint.json": "damaged"}
        if before == self.fingerprint:
            return

        if before and any(map(Path.exists, self._states)):
            changed = ", ".join(differences(before, self.fingerprint))
            print(f"beginning anew, because these have changed since the state was saved: {changed}", flush=True)
        for path in self._states:
            path.unlink(missing_ok=True)
        write_json(self.folder / "resumed.json", [])

        # The fingerprint comes last: where it stands, the rest of the folder is in order.
        write_json(known, self.fingerprint)

    @property
    def resumed_at(self) -> list[int]:
        """Steps at which the run was taken up again."""
        return read_json(self.folder / "resumed.json")

    def write_best(self, state: dict[str, Any]) -> None:
        """Save the best state so far.

        Raises:
            UserError: it cannot be written; the best one before is whole.
        """
        self._write("best.pt", state)

    def read_best(self) -> dict[str, Any]:
        """The best state.

        Raises:
            UserError: it is damaged, and there is no other.
        """
        return load(self.folder / "best.pt")


def load(path: Path) -> dict[str, Any]:
    """What was saved under this name, if the file is still what was written.

    Raises:
        UserError: it is not.
    """
    try:
        # torch writes checksums and does not look at them when it reads.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, weights_only=True, map_location="cpu")
    except DAMAGES as error:
        damaged = f"{type(error).__name__}: {error}".partition("\n")[0]
    raise UserError(f"{path} is damaged ({damaged})")


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Names of what two fingerprints disagree on, inputs and packages one by one."""
    names = []
    for name in sorted(first.keys() | second.keys()):
        old = first.get(name)
        new = second.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            names += differences(old, new)
        elif old != new:
            names.append(name.removesuffix("_sha256"))
    return names
