"""This process: its lock on a work folder, its answer to SIGTERM, and the memory that it keeps."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from espalier.runtime.errors import UserError

MALLOPT = {-4: 0, -1: 2**31 - 1}
"""Options of glibc's `malloc.h` → values: M_MMAP_MAX 0 serves large blocks from the heap, a huge M_TRIM_THRESHOLD never
returns the heap's end to the system."""


def keep_freed_memory() -> None:
    """Let the C library reuse freed memory instead of returning it to the system. No result changes.

    New pages are cleared by the system first, which costs a training step on a CPU a seventh of its time (MiniLM, 32 rows
    of 16 tokens). Without glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return

    for parameter, value in MALLOPT.items():
        mallopt(parameter, value)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a work folder for this process; the system removes the lock when the process ends, however it ends.

    Raises:
        UserError: another process holds the lock; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"{folder} is in use by {file.read().strip() or 'another process'}; wait or stop it") from None

        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


@contextmanager
def termination() -> Iterator[Callable[[], bool]]:
    """Note SIGTERM instead of ending the process; gives a function that tells whether SIGTERM has come."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))

    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, before)
