"""This process: its lock on a work folder, its answer to SIGTERM, and the memory that it keeps."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from espalier.runtime.errors import UserError

MALLOPT = {-4: 0, -1: 2**31 - 1}
"""Options of glibc's `malloc.h` → values: M_MMAP_MAX 0 serves large blocks from the heap, a huge M_TRIM_THRESHOLD never
returns the heap's end to the system."""
PROCESSES = "ESPALIER_PROCESSES"
"""Name of the variable that tells jobs the number of processes that share a training stage."""
ACCELERATORS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
"""What Nvidia's and AMD's drivers show where there is a GPU."""
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's `prctl`."""


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


class _SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def same_signal_stack() -> Iterator[None]:
    """Let this thread have the same stack for signal handlers after the block as before it. Linux only.

    OpenVINO's CPU plugin gives the thread a stack of its own and frees it when its last model is gone. Python's handlers run on
    that stack, so the next signal would end the process with a segmentation fault.
    """
    change = getattr(ctypes.CDLL(None), "sigaltstack", None) if sys.platform == "linux" else None
    before = _SignalStack()
    if change is not None:
        change(None, ctypes.byref(before))

    try:
        yield
    finally:
        if change is not None:
            change(ctypes.byref(before), None)


def may_be_forked(trains: bool) -> bool:
    """Whether a stage may be the child of a process that has imported its libraries, without looking at torch.

    One that trains may on a CPU, alone: drivers of GPUs dislike forks, and processes that share a stage have a launcher.
    """
    shared = os.environ.get(PROCESSES, "1") != "1" or any(path.exists() for path in ACCELERATORS)
    return sys.platform == "linux" and not (trains and shared)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent is killed, so that nobody goes on unwatched. Linux only."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


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
