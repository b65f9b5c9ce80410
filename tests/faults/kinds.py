"""Every kind of fault: how it is injected, how the process has to end, what it has to say, how much work may be lost."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from espalier.runtime.errors import TRY_AGAIN
from tests.faults import injections as do
from tests.faults import kills
from tests.faults.forks import SAVE_EVERY
from tests.faults.kills import Injected
from tests.faults.sites import RUNS, STEPS, Site

TRAINED = RUNS[:-1]
PACKAGE_SAVES = 10
"""What espalier itself has for SAVE_EVERY."""
KILLED = -signal.SIGKILL
STATE, BASE, TEACHER = "state.pt", "base/model.safetensors", "done/teacher/out/model.safetensors"
CHANGED, DAMAGED = "beginning anew, because these have changed", r"state\.pt is damaged \("


@dataclass(frozen=True)
class Fault:
    """One row for each of `runs`, `times` over."""

    kind: str
    inject: Callable[[Site, Random], Injected]
    runs: tuple[str, ...]
    status: int
    says: str = ""
    """Regular expression for what the process, or the run after it, has to say."""
    loses: int = SAVE_EVERY
    """Steps that may have to be done again."""
    times: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    reference: Callable[[Site], Site] | None = None
    """The undisturbed run to compare with, where it is another one."""
    mend: Callable[[Site], object] = lambda site: None
    """What a person does before the run is started again."""
    kills: int = 0
    """Kill points in one row."""
    damages: tuple[str, ...] = ()
    """Files that the fault itself leaves damaged."""


def killed(kind: str, inject: Callable[[Site, Random], Injected], times: int, **changes: Any) -> Fault:
    return Fault(**{"kind": kind, "inject": inject, "runs": RUNS, "status": KILLED, "times": times, "kills": 1, **changes})


def stopped_then(kind: str, runs: tuple[str, ...], damage: Callable, *names: str, says: str, **changes: Any) -> Fault:
    """Stopped by SIGTERM, then something in the work folder damaged."""
    inject = do.then(damage, *names, first=changes.pop("first", 5))
    return Fault(kind, inject, runs, TRY_AGAIN, says, damages=names, **changes)


def edited(kind: str, runs: tuple[str, ...], name: str, damage: Callable) -> Fault:
    """Stopped by SIGTERM, then an input edited: the run after it must be the run of what is there now."""
    inject = partial(do.edited_meanwhile, name, damage)
    return Fault(kind, inject, runs, TRY_AGAIN, f"{CHANGED}.*{name}", STEPS, reference=do.afresh)


def refused(kind: str, runs: tuple[str, ...], inject: Callable, says: str) -> Fault:
    """Refused in words before anything is done; once mended, it runs."""
    return Fault(kind, inject, runs, 1, says, 0, mend=Site.sound_inputs)


def damaged(kind: str, runs: tuple[str, ...], name: str, damage: Callable, says: str) -> Fault:
    return refused(kind, runs, partial(do.damaged_input, name, damage), says)


def diverged() -> Callable[[Site, Random], Injected]:
    return partial(do.in_a_step, "NaN in a gradient", do.diverge, (5, STEPS - 2))


def out_of_memory(*steps: int) -> Callable[[Site, Random], Injected]:
    return partial(do.in_a_step, "out of memory", do.exhaust, steps)


KILLS = (
    killed("SIGKILL, by the clock", kills.by_clock, 6),
    killed("SIGKILL, before a file is changed", kills.by_change, 8),
    killed("SIGKILL, twice", kills.twice, 1, runs=TRAINED, kills=2),
    killed("SIGKILL of `python -m espalier`", kills.whole_process, 1, loses=PACKAGE_SAVES),
)
SIGNALS = (
    Fault("SIGTERM", do.stopped, TRAINED, TRY_AGAIN, "it is saved, the next run goes on", 0),
    Fault("SIGINT (Ctrl-C)", partial(do.stopped, number=signal.SIGINT), ("sdp", "homodistil"), 130),
    Fault("SIGHUP (the terminal is closed)", partial(do.stopped, number=signal.SIGHUP), ("cofi", "recover"), -signal.SIGHUP),
    Fault("SIGSTOP, SIGCONT", do.suspended, ("spd", "teacher"), 0),
)
DISK = (
    Fault("disk full: state", partial(do.full, "state"), ("teacher", "cofi"), 1, r"state\.pt: cannot be written"),
    Fault("disk full: best checkpoint", partial(do.full, "best"), ("sdp", "recover"), 1, r"best\.pt: cannot be written"),
    Fault("disk full: results", do.no_room_for_results, ("teacher", "spd", "export"), 1, r"(cannot be written|File too large)"),
    Fault("results folder cannot be written", do.no_folder, ("sdp", "spd"), 1, "results cannot be written here", 0),
)
WORK = (
    stopped_then("state truncated", ("sdp", "homodistil"), do.truncate, STATE, says=DAMAGED),
    stopped_then("state with a wrong bit", ("cofi", "spd"), do.flip, STATE, says=DAMAGED),
    stopped_then("state empty", ("teacher",), do.empty, STATE, says=DAMAGED),
    stopped_then("state that would run code", ("recover",), do.run_code, STATE, says=r"is damaged \(UnpicklingError"),
    stopped_then("both states damaged", ("sdp",), do.truncate, STATE, "state-before.pt", says=DAMAGED, loses=STEPS),
    stopped_then("end between two renames", ("spd", "cofi"), do.to_partial, STATE, says="resuming at step"),
    stopped_then("best checkpoint damaged", ("sdp",), do.flip, "best.pt", says=r"best\.pt is damaged", loses=STEPS, first=33),
    stopped_then("fingerprint damaged", ("cofi",), do.truncate, "fingerprint.json", says=CHANGED, loses=STEPS),
    stopped_then("half a line of history", ("homodistil",), do.tear, "history.jsonl", says="resuming at step"),
    stopped_then("lock of a process that is gone", ("teacher", "spd"), do.other_holder, "lock", says="resuming at step"),
    Fault("two runs on one work folder", do.second_run, ("sdp", "homodistil"), 0, r"work is in use by process \d+ on"),
)
INPUTS = (
    edited("base edited while stopped", ("teacher",), BASE, do.edit_weights),
    edited("teacher edited while stopped", ("sdp", "cofi"), TEACHER, do.edit_weights),
    edited("data edited while stopped", ("spd", "teacher"), "mine/train.parquet", do.edit_rows),
    damaged("NaN in the model to start from", ("teacher",), BASE, do.poison_weights, "infinite or not a number"),
    damaged("NaN in the teacher", ("spd",), TEACHER, do.poison_weights, "infinite or not a number"),
    damaged("weights truncated between stages", ("sdp", "spd"), TEACHER, do.truncate, "is damaged"),
    damaged("masks truncated between stages", ("recover",), "done/sdp/out/masks.safetensors", do.truncate, "is damaged"),
    damaged("packed text truncated between stages", ("homodistil",), "words/train.arrow", do.truncate, "is damaged"),
    damaged("weights of a base truncated", ("fetch",), BASE, do.truncate, "safetensors are damaged or incomplete"),
    damaged("weights of a base as a pickle", ("fetch",), BASE, do.to_pickle, "can run code, so it is refused"),
    damaged("tokenizer of a base missing", ("fetch",), "base/tokenizer.json", do.Path.unlink, "there is no tokenizer"),
    refused("digest of a base changed", ("fetch",), do.other_digest, "these are other weights"),
    damaged("data truncated between stages", ("teacher",), "mine/train.parquet", do.truncate, "is damaged"),
)
TRAINING = (
    Fault("NaN in training", diverged(), ("sdp", "homodistil", "cofi"), 1, r"training diverged at step \d+"),
    Fault("out of memory", out_of_memory(5, STEPS - 2), ("cofi", "spd"), 1, "set micro_batch_size below"),
    Fault(
        "out of memory, micro-batches auto",
        out_of_memory(0, 0),
        ("spd", "homodistil"),
        0,
        "from here on 8 rows in one forward pass",
        settings={"micro_batch_size": "auto"},
        reference=partial(do.afresh, micro_batch_size=8),
    ),
    Fault("clock jumps ahead", partial(do.jumping_clock, 1e7), ("sdp",), TRY_AGAIN, loses=0),
    Fault("clock jumps back", partial(do.jumping_clock, -1e7), ("cofi",), TRY_AGAIN, loses=0),
)
FAULTS = (*KILLS, *SIGNALS, *DISK, *WORK, *INPUTS, *TRAINING)
