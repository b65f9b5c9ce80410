"""Stages in processes forked from a parent that has imported everything: a start costs milliseconds instead of seconds."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from espalier.__main__ import main
from espalier.config.methods import METHODS
from espalier.stages import MODULES
from espalier.training import loop as loop_module

SAVE_EVERY = 2
"""Rows of history between two saved states in forked runs; as the package has it, most runs here would end before the first."""
STAGES = ("finetune", "pretrain", "compress", "recover", "export", "fetch")
ALSO = ("torch.onnx._internal.torchscript_exporter.utils",)
"""What writing an ONNX file imports on its way."""
Before = Callable[[], object]
LIMIT = 300
"""Seconds after which a stage that hangs is ended; then the row is bad."""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    """Exit status; below 0 the signal."""
    said: str


def warm_up() -> None:
    """Import in the parent what its children need; it never computes, so that it has no threads to lose."""
    torch.set_num_threads(1)
    loop_module.SAVE_EVERY = SAVE_EVERY
    for name in (*(MODULES[stage] for stage in STAGES), *(entry.partition(":")[0] for entry in METHODS.values())):
        import_module(name)
    for name in ALSO:
        import_module(name)


@dataclass
class Child:
    """A stage that runs in a fork."""

    pid: int
    log: Path

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Ended:
        _, status = os.waitpid(self.pid, 0)
        return Ended(os.waitstatus_to_exitcode(status), self.log.read_text())

    def killed_after(self, seconds: float, works: Callable[[], object]) -> Ended:
        """SIGKILL so many seconds after it was first seen to work, if it still runs then."""
        while not works() and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.005)
        time.sleep(seconds)
        self.signal(signal.SIGKILL)  # until it is waited for, the number stays its own
        return self.wait()


def start(arguments: list[str], log: Path, before: Before = lambda: None) -> Child:
    """Fork; the child does `before`, then runs the stage."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, log)
    with log.open("w", buffering=1) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        sys.stdout = sys.stderr = file
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background and nohup have these two ignored
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.alarm(LIMIT)
        os._exit(_status(arguments, before))


def apart(action: Callable[[], Any]) -> Any:
    """What a function gives, as JSON, from a fork; if the parent used pyarrow, later forks would wait for its threads."""
    source, sink = os.pipe()
    if not (pid := os.fork()):
        try:
            os.write(sink, json.dumps(action(), default=str).encode())
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(sink)
    with os.fdopen(source) as file:
        told = file.read()
    os.waitpid(pid, 0)
    return json.loads(told)


def _status(arguments: list[str], before: Before) -> int:
    """As the last lines of espalier/__main__.py have it, for a process that must not return to its caller's code."""
    try:
        before()
        return main(arguments)
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 70


TEMPORARY = r"partial-(\w{8}$|[0-9]+)"
"""What is in names of temporary folders and files, other in every process."""
WRITING = os.O_WRONLY | os.O_RDWR
CHANGES = ("os.rename", "os.remove", "os.chmod", "os.mkdir", "os.rmdir", "shutil.rmtree", "shutil.copyfile")


def watch(folder: Path, notice: Callable[[str], object]) -> None:
    """Tell of every change of a file in `folder` that this process is about to make; to its end."""

    def hook(event: str, arguments: tuple) -> None:
        if (event in CHANGES or (event == "open" and arguments[2] & WRITING)) and _is_in(folder, event, arguments):
            name = re.sub(TEMPORARY, "partial", Path(os.fsdecode(arguments[0])).name)
            notice(f"{event.partition('.')[2] or event} {name}")

    sys.addaudithook(hook)


def _is_in(folder: Path, event: str, arguments: tuple) -> bool:
    """Whether a change is in the folder, or within `rmtree`, which names files relative to an open folder."""
    if isinstance(arguments[0], int):
        return False
    relative = event in ("os.remove", "os.rmdir") and arguments[-1] != -1
    return relative or str(folder) in str(arguments[-1 if event == "shutil.copyfile" else 0])
