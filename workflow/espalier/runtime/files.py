"""Atomic files, JSON, digests, and messages about damaged or unwritable files. No torch here."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espalier.runtime.errors import UserError

UMASK = os.umask(0)
"""The process's umask: permissions that new files lack. The system lets us read it only by setting it."""
os.umask(UMASK)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; it is renamed to `path` when the block ends well and removed otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")

    try:
        yield temporary
        # safetensors writes files that only their owner can read
        temporary.chmod(0o666 & ~UMASK)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content, atomically."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of a table with a header, atomically."""
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically; a ValueError for not-a-number."""
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
    """Turn errors of a reader into the message that a file is damaged.

    Args:
        path: the file that is read in the block. It was written atomically, so it was whole once.
        errors: what the reader raises for a damaged file.

    Raises:
        UserError: the block raised one of these errors.
    """
    try:
        yield
    except errors as error:
        raise UserError(f"{path} is damaged ({error}); remove it, and the same command makes it anew") from error


def check_writable(folder: Path) -> None:
    """Check that results can be written, before hours are spent on them.

    Raises:
        UserError: no file can be created in the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{folder}: results cannot be written here: {error.strerror}") from None


def digits(value: float | int | None) -> float | int | None:
    """A float with six significant digits; ints and None stay as they are."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
