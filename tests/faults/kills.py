"""SIGKILL at random instants: by the clock, by what a process is about to do to its files, and of whole processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from random import Random

from espalier.runtime.files import read_json
from espalier.training.history import History
from tests.faults.forks import Before, Ended, watch
from tests.faults.sites import STEPS, Site

Injected = tuple[str, Ended]
"""What was done, and how the process ended that it was done to."""


def signal_self(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def at(step: int, action: Callable[[], object]) -> Before:
    """Do something when history gets the row of a step."""

    def before() -> None:
        add = History.add

        def acting(self: History, number: int, epoch: float, row: dict) -> None:
            add(self, number, epoch, row)
            if number == step and "loss" in row:
                action()

        History.add = acting

    return before


def notes(site: Site) -> dict:
    """On the undisturbed run."""
    return read_json(site.root / "done" / site.run / "notes.json")


def works(site: Site) -> bool:
    """Whether a stage has made a step or a file: most of its time goes by before that."""
    return bool(site.done or site.outputs)


def by_clock(site: Site, random: Random) -> Injected:
    seconds = random.uniform(0.0, 0.4 * notes(site)["seconds"])
    while (ended := site.start().killed_after(seconds, lambda: works(site))).status != -signal.SIGKILL:
        shutil.rmtree(site.out)  # it was done before
        seconds *= 0.7
    return f"SIGKILL {seconds:.3f} s after its first step or file", ended


def by_change(site: Site, random: Random) -> Injected:
    """Each kind of change is as likely as any other, be it made once or at every step."""
    changes = notes(site)["changes"]
    change = random.choice(sorted(changes))
    number, seen = random.randint(1, changes[change]), []

    def notice(name: str) -> None:
        seen.append(name)
        if seen.count(change) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return f"SIGKILL before '{change}', time {number}", site.outcome(lambda: watch(site.out, notice))


def twice(site: Site, random: Random) -> Injected:
    first = random.randint(5, 20)
    second = random.randint(first + 1, STEPS - 1)
    site.outcome(at(first, signal_self(signal.SIGKILL)))
    return f"SIGKILL at step {first}, the resumed run at step {second}", site.outcome(at(second, signal_self(signal.SIGKILL)))


def whole_process(site: Site, random: Random) -> Injected:
    """`python -m espalier`, killed a while after it was first seen to work."""
    site.folder.mkdir(parents=True)
    seconds = random.uniform(0.0, 0.15 * notes(site)["seconds"])
    while True:
        with (site.folder / "process.txt").open("w+") as said:
            process = subprocess.Popen([sys.executable, "-m", "espalier", *site.arguments()], stdout=said, stderr=said)
            while process.poll() is None and not works(site):
                time.sleep(0.02)
            time.sleep(seconds)
            process.kill()
            if process.wait() == -signal.SIGKILL:
                return f"SIGKILL {seconds:.3f} s after its first step or file", Ended(process.returncode, "")
        shutil.rmtree(site.out)
        seconds *= 0.5
