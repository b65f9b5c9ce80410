"""Recompute the digests of all artefacts; name what differs from the records, is missing or is extra."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from espalier.provenance.job_records import RECORDS, RESULTS, from_here, known_digests, read_jobs, read_records
from espalier.runtime.errors import UserError
from espalier.runtime.files import sha256

MEANING = {
    "differs": "is not what its job wrote",
    "missing": "was written and is not there",
    "extra": "no job wrote it",
    "unknown": "no job noted its digest",
}


def main(arguments: Sequence[str]) -> int:
    """Compare and print; exit status 1 where something differs, is missing or is extra."""
    parser = ArgumentParser("python -m espalier verify", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="file or folder under results/; all if left out")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    options = parser.parse_args(arguments)

    places = [from_here(path) for path in options.paths or sorted(Path(RESULTS).glob("*"))]
    jobs = read_jobs()
    known = known_digests(jobs, read_records(jobs))

    for place in places:
        if not Path(place).exists() and not any(Path(path).is_relative_to(place) for path in known):
            raise UserError(f"{place}: no such file or folder, and no job wrote one")

    paths_of = compare(places, known)
    print(json.dumps(paths_of, indent=2) if options.json else verify_text(paths_of))
    return int(any(paths_of[kind] for kind in ("differs", "missing", "extra")))


def compare(places: Sequence[str], known: Mapping[str, str]) -> dict[str, list[str]]:
    """Kind → the artefacts in these places that are of this kind: one of `MEANING`, or `verified`.

    Args:
        places: files or folders, relative to the repository.
        known: artefact → SHA-256; empty where none was noted.
    """
    present = {path for place in places for path in _artefacts(Path(place))}
    wanted = {path for path in known if any(Path(path).is_relative_to(place) for place in places)}
    digests = {path: sha256(Path(path)) for path in sorted(present & wanted) if known[path]}

    return {
        "verified": [path for path, digest in digests.items() if digest == known[path]],
        "differs": [path for path, digest in digests.items() if digest != known[path]],
        "missing": sorted(wanted - present),
        "extra": sorted(present - wanted),
        "unknown": sorted((present & wanted) - digests.keys()),
    }


def verify_text(paths_of: Mapping[str, Sequence[str]]) -> str:
    """A line for each artefact that is not as it should be, then a line with the number of artefacts of each kind."""
    lines = [f"{kind:<8} {path}: {why}" for kind, why in MEANING.items() for path in paths_of[kind]]
    counts = ", ".join(f"{len(paths)} {kind}" for kind, paths in paths_of.items())
    return "\n".join([*lines, counts])


def _artefacts(place: Path) -> Iterable[str]:
    """Files of a place, without the records of jobs."""
    files = [place] if place.is_file() else place.rglob("*")
    return [str(path) for path in files if path.is_file() and path.parts[2:3] != (RECORDS,)]
