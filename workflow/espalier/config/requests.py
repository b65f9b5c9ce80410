"""Files that a command line asks for: which words they are, and what is said of one that the configuration does not make."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from espalier.config.blocks import nearest

MOST_LISTED = 20
"""Names that a message lists; of more, the first ones."""


def asked_files(words: Iterable[str], results: str) -> list[str]:
    """Words of a command line that ask for a result, or for a file that does not exist."""
    return [word for word in words if _is_below(word, results) or ("/" in word and not Path(word).exists())]


def request_problem(path: str, made: Sequence[str]) -> str | None:
    """Why a file that was asked for cannot be made; None where it can.

    Args:
        path: as the user wrote it.
        made: paths of all files that the configuration makes.
    """
    if Path(path).is_absolute():
        here = os.path.relpath(path)
        return f"{path}: got an absolute path; write {here}" if here in made else request_problem(here, made)

    relative, place = os.path.relpath(path), ""
    for part in relative.split("/"):
        names = _names_in(place, made)
        if part not in names:
            said = f"{place} has no '{part}'" if place else f"there is no '{part}'"
            return f"{path}: {said} with this configuration{nearest(part, names)}; it has {_listed(names)}"
        place = f"{place}/{part}".removeprefix("/")
    return None if relative in made else f"{path} is a folder; name a file in it: {_listed(_names_in(relative, made))}"


def _is_below(word: str, folder: str) -> bool:
    return os.path.relpath(word).split("/")[0] == folder


def _names_in(folder: str, made: Sequence[str]) -> list[str]:
    """Files and folders that a folder has, in the order in which they are made."""
    start = f"{folder}/" if folder else ""
    return list(dict.fromkeys(path.removeprefix(start).split("/")[0] for path in made if path.startswith(start)))


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:MOST_LISTED], *(["…"] if len(names) > MOST_LISTED else [])])
