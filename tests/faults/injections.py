"""Faults other than SIGKILL, each done to a run; what is done, and how the run ended, is told."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from espalier.runtime.files import sha256
from espalier.training.loop import Loop
from tests.faults.forks import Before, Ended, apart
from tests.faults.kills import Injected, at, signal_self
from tests.faults.sites import STEPS, Site

WITHOUT_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."


def stopped(site: Site, random: Random, first: int = 5, number: int = signal.SIGTERM) -> Injected:
    """Stopped by a signal at a step; by SIGTERM, that step is saved."""
    step = random.randint(first, STEPS - 2)
    return f"{signal.Signals(number).name} at step {step}", site.outcome(at(step, signal_self(number)))


def then(damage: Callable[[Path], object], *names: str, first: int = 5) -> Callable[[Site, Random], Injected]:
    """Stopped, and files of the work folder damaged before the next run."""

    def inject(site: Site, random: Random) -> Injected:
        what, ended = stopped(site, random, first)
        for name in names:
            apart(partial(damage, site.work / name))
        return f"{what}; {', '.join(names)} damaged", ended

    return inject


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def run_code(path: Path) -> None:
    torch.save({"step": 3, "hook": print}, path)


def tear(path: Path) -> None:
    path.write_text(path.read_text() + '{"step": 7, "lo')


def to_partial(path: Path) -> None:
    path.replace(path.with_name(f".{path.stem}.partial-1{path.suffix}"))


def other_holder(path: Path) -> None:
    path.write_text("process 1 on a-machine-that-is-gone\n")


def full(name: str, site: Site, random: Random) -> Injected:
    """A disk without room for a file: what is to become it is a link to /dev/full."""
    step = random.randint(1, 20)

    def fill() -> None:
        (site.work / f".{name}.partial-{os.getpid()}.pt").symlink_to("/dev/full")

    return f"no room for {name}.pt from step {step} on", site.outcome(at(step, fill))


def limit() -> None:
    """Files of this process end at 20,000 bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def no_room_for_results(site: Site, random: Random) -> Injected:
    before = limit if site.run == "export" else at(STEPS, limit)
    return "no room for results", site.outcome(before)


def no_folder(site: Site, random: Random) -> Injected:
    arguments = [part if part == str(site.work) else part.replace(str(site.out), "/sys/results") for part in site.arguments()]
    return "results below /sys, where nobody can write", site.start(arguments=arguments).wait()


def edit_weights(path: Path) -> None:
    weights = load_file(path)
    weights[min(weights)] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})


def poison_weights(path: Path) -> None:
    weights = load_file(path)
    weights[min(weights)].view(-1)[3] = torch.nan
    save_file(weights, path, metadata={"format": "pt"})


def edit_rows(path: Path) -> None:
    table = pd.read_parquet(path)
    table["label"] = table["label"].to_numpy()[::-1]
    table.to_parquet(path)


def to_pickle(path: Path) -> None:
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()


def damaged_input(name: str, damage: Callable[[Path], object], site: Site, random: Random) -> Injected:
    """An input is damaged before the run."""
    path = site.own_inputs() / name
    apart(lambda: damage(path))
    return f"{damage.__name__}: {name}", site.outcome()


def edited_meanwhile(name: str, damage: Callable[[Path], object], site: Site, random: Random) -> Injected:
    """An input is edited while the run stands still."""
    root = site.own_inputs()
    what, ended = stopped(site, random)
    apart(lambda: damage(root / name))
    return f"{what}; {damage.__name__}: {name}", ended


def other_digest(site: Site, random: Random) -> Injected:
    site.base = {"sha256": sha256(site.root / "base/model.safetensors")}
    return damaged_input("base/model.safetensors", edit_weights, site, random)


def afresh(site: Site, **settings: object) -> Site:
    """An undisturbed run on the inputs as they are now."""
    other = Site(site.root, site.run, site.folder / "reference", settings or site.settings, site.base)
    other.outcome()
    return other


def failing(step: int, fails: Callable[[Loop], object]) -> Before:
    """A forward and backward pass of a step after which something fails."""

    def before() -> None:
        accumulate = Loop._accumulate

        def failed(self: Loop, picked: object) -> object:
            totals = accumulate(self, picked)
            if self.step == step:
                fails(self)
            return totals

        Loop._accumulate = failed

    return before


def diverge(loop: Loop) -> None:
    next(parameter for parameter in loop._trained() if parameter.grad is not None).grad.fill_(torch.nan)


def exhaust(loop: Loop) -> None:
    if loop.micro > 8:
        raise RuntimeError(WITHOUT_MEMORY)


def in_a_step(what: str, fails: Callable[[Loop], object], steps: tuple[int, int], site: Site, random: Random) -> Injected:
    step = random.randint(*steps)
    return f"{what} after {step} steps", site.outcome(failing(step, fails))


def jumping(jump: float) -> Callable[[], float]:
    """A clock of which every second look is wrong."""
    now, looks = time.time, iter(range(10**9))
    return lambda: now() + jump * (next(looks) % 2)


def jumping_clock(jump: float, site: Site, random: Random) -> Injected:
    """Every second look at the clock is wrong; afterwards the saved files are from then, too."""
    step = random.randint(5, STEPS - 2)

    def before() -> None:
        time.time = jumping(jump)
        at(step, signal_self(signal.SIGTERM))()

    ended = site.outcome(before)
    for path in site.work.iterdir():
        os.utime(path, (time.time() + jump, time.time() + jump))
    return f"clock off by {jump:+.0e} s; SIGTERM at step {step}", ended


def second_run(site: Site, random: Random) -> Injected:
    """Started while the first one is at a step; what it says is told, but it is the first that must end well."""
    step, go = random.randint(5, STEPS - 2), site.folder / "go"

    def wait() -> None:
        while not go.exists():
            time.sleep(0.02)

    first = site.start(at(step, wait))
    while site.done < step:
        time.sleep(0.02)
    second = site.outcome()
    go.touch()
    return f"a second run at step {step}", Ended(first.wait().status if second.status == 1 else 99, second.said)


def suspended(site: Site, random: Random) -> Injected:
    step, child = random.randint(2, STEPS - 10), site.start()
    while site.done < step:
        time.sleep(0.005)
    child.signal(signal.SIGSTOP)
    time.sleep(0.5)
    child.signal(signal.SIGCONT)
    return f"SIGSTOP at about step {step}, SIGCONT later", child.wait()
