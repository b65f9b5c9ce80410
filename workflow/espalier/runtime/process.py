"""The process itself: its lock on a work folder, SIGTERM, and memory that it keeps."""

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
"""M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's `malloc.h`: no pages of their own for large blocks, no end given back."""


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next request: new pages, each cleared first, cost a training step
    on a CPU a seventh of its time (MiniLM, 32 rows of 16 tokens). No result changes. Without glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for parameter, value in MALLOPT.items() if mallopt else ():
        mallopt(parameter, value)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a work folder alone; the lock goes with the process, however it ends.

    Raises:
        UserError: another process holds the folder; it is named.
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
    """Instead of ending the process, SIGTERM is remembered: whether it has come."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)
