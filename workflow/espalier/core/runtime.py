"""Atomic files, digests, locks, errors: what every stage needs and no paper describes. No torch here."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import platform
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UMASK = os.umask(0)
"""What new files are not allowed to others; it can be read only by setting it."""
os.umask(UMASK)


class UserError(Exception):
    """Something that the user can put right; shown without a traceback."""


class Interrupted(Exception):  # noqa: N818
    """The run was asked to stop and has saved what it needs to go on; the process ends with `TRY_AGAIN`."""


class Helped(Exception):  # noqa: N818
    """A process that only helps the main one has nothing left to do."""


TRY_AGAIN = os.EX_TEMPFAIL
"""Exit status of a run that was stopped in time, 75: the same command goes on where it stopped."""
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
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.chmod(0o666 & ~UMASK)  # safetensors writes files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically; not-a-number is refused."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with atomic(path) as temporary:
        temporary.write_text(text)


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Hexadecimal digest of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


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


@contextmanager
def reading(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Say in plain words that a file which was whole when it was written cannot be read.

    Raises:
        UserError: the block raised one of these errors.
    """
    try:
        yield
    except errors as error:
        raise UserError(f"{path} is damaged ({error}); remove it, and the same command makes it anew") from error


def check_writable(folder: Path) -> None:
    """See that results can be written before hours are spent on them.

    Raises:
        UserError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{folder}: results cannot be written here: {error.strerror}") from None
