"""Atomic files, digests, locks, errors: what every stage needs and no paper describes. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espalier.runtime.errors import UserError

UMASK = os.umask(0)
"""What new files are not allowed to others; it can be read only by setting it."""
os.umask(UMASK)


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


def digits(value: float | int | None) -> float | int | None:
    """Six significant digits; whole numbers of Python's own kind stay as they are."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
