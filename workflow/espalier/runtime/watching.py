"""A process that is killed can say nothing: its parent waits for it, and says in the log what happened and what helps."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from espalier.runtime import fork_server
from espalier.runtime.process import die_with, may_be_forked

PASSED_ON = (signal.SIGTERM, signal.SIGINT)
VIRTUAL_MEMORY = Path("/proc/vmstat")
CLUSTER = "profiles/slurm/config.yaml"
LESS_MEMORY = {
    "measure": "lower measure.batch_sizes or measure.length",
    "latency": "lower batch_size or length of the targets of speed",
    "prepare": "lower rows of the task, or keep the rows in parquet, which is read piece by piece",
    "tokenise": "lower rows of the task",
    "pack": "lower rows of the task",
    "export": "take a smaller base",
    "evaluate": "lower max_length of the task",
    "analyse": "lower max_length of the task",
    "training": "set micro_batch_size to a smaller number, or lower max_length of the task",
}
"""Stage → what of the configuration saves memory; `training` for all stages that train."""


def go_on_watched(stage: str, trains: bool) -> None:
    """Go on in a child process. The parent waits, passes signals on, and ends as the child does; it returns from here never.

    Where there is a fork server, the stage is its child, unless it trains on a GPU or in several processes.

    Args:
        stage: name of the stage, for the message.
        trains: whether it saves its state, so that the same command goes on where it stopped.
    """
    kills, parent = memory_kills(), os.getpid()
    served = fork_server.ask(sys.argv[1:]) if may_be_forked(trains) else None
    child = served[0] if served else os.fork()
    if not child:
        die_with(parent)
        return

    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: os.kill(child, number))
    status = served[1]() if served else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    if status < 0:
        # the log may end in the middle of a progress bar
        print(f"\n{stage}: {ending(stage, trains, signal.Signals(-status), memory_kills() - kills)}", file=sys.stderr)
    sys.exit(status if status >= 0 else 128 - status)


def ending(stage: str, trains: bool, number: signal.Signals, kills: int) -> str:
    """What is said of a stage that a signal has ended; `kills` are processes that the kernel killed meanwhile for memory."""
    again = f"The same command {'goes on from the last save' if trains else 'runs it again'}."
    if number == signal.SIGTERM:
        return (
            "stopped by SIGTERM: a person or a cluster's time limit ended it. "
            f"{again} More minutes: `runtime` in {CLUSTER}, or --set-resources {stage}:runtime=MINUTES"
        )
    if number != signal.SIGKILL:
        return f"crashed in a library ({number.name}, {signal.strsignal(number)}). {again}"

    why = "the kernel killed it, because memory ran out" if kills else "killed from outside, most often because memory ran out"
    knob = LESS_MEMORY.get("training" if trains else stage, "close other programs")
    return (
        f"{why} (SIGKILL). To use less memory {knob}, and let fewer jobs run at once (--cores 1); "
        f"on a cluster ask for more with `mem_mb` in {CLUSTER}. {again}"
    )


def memory_kills() -> int:
    """Processes that the kernel has killed for memory since it started; 0 where it does not say."""
    try:
        counts = dict(line.split() for line in VIRTUAL_MEMORY.read_text().splitlines())
    except OSError:
        return 0
    return int(counts.get("oom_kill", 0))
