"""The table of faults: `python -m tests.faults.table` does each to tiny runs, starts them again, and looks at what is there.

Rows are written one by one to FOLDER/rows.jsonl; the same command goes on where it was stopped. Only the whole table is
written to tests/faults/evidence.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import pandas as pd

from tests.faults import forks, sites
from tests.faults.forks import Ended
from tests.faults.kinds import FAULTS, Fault
from tests.faults.sites import Site
from tests.stages import write_inputs

EVIDENCE = Path(__file__).parent / "evidence"
SEED = 7
COMMAND = "OMP_NUM_THREADS=1 python -m tests.faults.table FOLDER"


@dataclass(frozen=True)
class Case:
    """One row to be."""

    fault: Fault
    run: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.fault.kind} / {self.run} / {self.number}"


@dataclass(frozen=True)
class Row:
    """What became of it."""

    case: str
    kind: str
    run: str
    injected: str
    kill_points: int
    status: int
    """Of the disturbed process; below 0 the signal."""
    outcome: str
    """What the disturbed process or the one after it said, or where it went on."""
    steps_done: int
    steps_lost: int
    results_lost: int
    """Files of results that were whole before the process was started again and are not so after, or that are missing."""
    half_written: int
    """Files under their own names, results or states, that were not whole when the process had ended."""
    identical: bool
    """All results to the last bit those of the undisturbed run; history and notes but for times."""
    as_expected: bool
    """The process ended as it should, said what it should, and lost no more steps than it may."""


def cases(faults: tuple[Fault, ...] = FAULTS) -> list[Case]:
    return [Case(fault, run, number) for fault in faults for run in fault.runs for number in range(fault.times)]


def examine(case: Case, root: Path, folder: Path) -> Row:
    """Disturb a run, start it again, and compare."""
    fault, site = case.fault, Site(root, case.run, folder, case.fault.settings)
    undisturbed = sites.undisturbed(root, case.run)[0]
    injected, ended = fault.inject(site, Random(f"{SEED} {case.name}"))
    reference = fault.reference(site) if fault.reference else undisturbed
    done, complete, before = site.done, site.complete, site.outputs
    half_written = site.half_written(reference, fault.damages)
    fault.mend(site)
    again = site.outcome() if ended.status else Ended(0, "")
    lost = 0 if complete else done - site.resumed
    missing = {path.name for path in reference.outputs} - {path.name for path in site.outputs}
    spoilt = [path for path in before if path.name not in half_written and path.name in site.half_written(reference)]
    said = re.search(rf"[^\r\n]*(?:{fault.says})[^\n]*", ended.said + again.said) if fault.says else None
    good = ended.status == fault.status and again.status == 0 and lost <= fault.loses and (bool(said) or not fault.says)
    return Row(
        case.name,
        case.fault.kind,
        case.run,
        injected,
        fault.kills,
        ended.status,
        said_by(said[0], folder) if said else told(complete, site, again),
        done,
        lost,
        len(missing) + len(spoilt),
        len(half_written),
        site.as_undisturbed(reference),
        good,
    )


def said_by(line: str, folder: Path) -> str:
    """A line without the progress bar that it follows, and without places of this machine."""
    return re.sub(r"\x1b\[[0-9;]*m|^.*\d+/\d+ \[[^]]*\]", "", line).replace(f"{folder}/", "").strip()


def told(complete: bool, site: Site, again: Ended) -> str:
    """Where the run went on."""
    if again.status:
        return f"the next run failed: {again.said[-300:]}"
    if complete:
        return "all results were there"
    return f"went on at step {site.resumed}" if site.resumed else "began at the beginning"


def rows(todo: list[Case], folder: Path) -> Iterator[Row]:
    """The rows, from a file that takes each as it comes; what is there is not done again."""
    root, path = folder / "root", folder / "rows.jsonl"
    if not (folder / "ready").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        forks.apart(lambda: write_inputs(root))
        (folder / "ready").touch()
    known = {row["case"]: Row(**row) for row in map(json.loads, path.read_text().splitlines())} if path.exists() else {}
    needed = sites.ORDER if {case.run for case in todo} != {"teacher"} else ("teacher",)
    for run in needed:
        sites.undisturbed(root, run)
    for number, case in enumerate(todo):
        if case.name not in known:
            place = folder / f"case-{number}"
            shutil.rmtree(place, ignore_errors=True)
            known[case.name] = examine(case, root, place)
            with path.open("a") as file:
                file.write(json.dumps(asdict(known[case.name])) + "\n")
            shutil.rmtree(place)
        yield known[case.name]


def is_good(row: Row) -> bool:
    return row.as_expected and row.identical and not row.results_lost and not row.half_written


def outcomes(texts: pd.Series) -> str:
    """What was said, numbers left out where there are several, and how often."""
    counts = texts.str.replace(r"\d+", "…", regex=True).value_counts() if len(texts) > 3 else texts[:1].value_counts()
    cells = [f"{text[:120]}{'…' * (len(text) > 120)}{f' ({count})' * (len(texts) > 3)}" for text, count in counts.items()]
    return "; ".join(cells[:4]).replace("|", "\\|")


def summary(found: list[Row]) -> str:
    """The table by kinds, as Markdown."""
    table = pd.DataFrame(map(asdict, found))
    lines = [
        "| fault | runs | rows | outcome | steps lost, at most | results lost | half-written | bit-identical |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, part in table.groupby("kind", sort=False):
        cells = [
            kind,
            ", ".join(dict.fromkeys(part["run"])),
            len(part),
            outcomes(part["outcome"]),
            part["steps_lost"].max(),
            part["results_lost"].sum(),
            part["half_written"].sum(),
            f"{part['identical'].sum()}/{len(part)}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def readme(found: list[Row]) -> str:
    kinds, kills = len({row.kind for row in found}), sum(row.kill_points for row in found)
    good = sum(map(is_good, found))
    return f"""# Faults, and what became of them

Generated by `{COMMAND}`; every row is in [faults.csv](faults.csv). Do not edit.

{len(found)} rows: {kinds} kinds of faults, among them {kills} SIGKILLs at random instants (seed {SEED}).
Results lost: {sum(row.results_lost for row in found)}. Half-written files under their own names: \
{sum(row.half_written for row in found)}. Bit-identical to the undisturbed run: {sum(row.identical for row in found)} of \
{len(found)}. Rows in which all is as it should be: {good}.

Two-layer models, {sites.STEPS} steps, CPU, one thread. Processes are forked from a parent that has imported everything and
save every {forks.SAVE_EVERY} steps; those of `python -m espalier` are whole processes, which save every 10. "Before a file is
changed": at a random one of the moments at which the process is about to open, rename, remove … a file in its folders.
Steps lost: done when the run ended, and done again. Where an input was edited, the undisturbed run is one on the edited input.
Snakemake, killed with jobs alive, and two of them on one folder: see `tests/cluster`.

{summary(found)}
"""


def main() -> None:
    parser = ArgumentParser("python -m tests.faults.table", description=__doc__)
    parser.add_argument("folder", type=Path, help="for runs and rows")
    parser.add_argument("--only", default="", help="rows that match this pattern; then no evidence is written")
    arguments = parser.parse_args()
    forks.warm_up()
    todo = [case for case in cases() if re.search(arguments.only, case.name)]
    found = []
    for row in rows(todo, arguments.folder.resolve()):
        found.append(row)
        print(
            f"{len(found)}/{len(todo)} {'good' if is_good(row) else 'BAD '} {row.case}: {row.injected} → {row.outcome}",
            flush=True,
        )
    if not arguments.only:
        EVIDENCE.mkdir(exist_ok=True)
        pd.DataFrame(map(asdict, found)).drop(columns="case").to_csv(EVIDENCE / "faults.csv", index=False)
        (EVIDENCE / "README.md").write_text(readme(found))
    os._exit(0 if all(map(is_good, found)) else 1)


if __name__ == "__main__":
    main()
