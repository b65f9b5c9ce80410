"""A killed stage's parent says what happened; everything else is as without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from espalier.runtime import watching
from espalier.runtime.watching import ending

START = "import os, signal, sys, time\nfrom espalier.runtime.watching import go_on_watched\ngo_on_watched('compress', True)\n"


def watched(code: str, **options) -> subprocess.Popen[str]:
    """A process that goes on watched and then runs this code."""
    return subprocess.Popen(
        [sys.executable, "-c", START + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("SIGKILL", "memory ran out (SIGKILL). To use less memory set micro_batch_size to a smaller number"),
        ("SIGTERM", "stopped by SIGTERM: a person or a cluster's time limit"),
        ("SIGSEGV", "crashed in a library (SIGSEGV, Segmentation fault)"),
        ("SIGILL", "crashed in a library (SIGILL, Illegal instruction)"),
    ],
)
def test_what_is_said_of_a_signal(number, said):
    process = watched(f"print('12%|###', end='', file=sys.stderr)\nos.kill(os.getpid(), signal.{number})")
    _, error = process.communicate()
    assert process.returncode == 128 + signal.Signals[number]
    head, line, end = error.split("\n")
    assert (head, end) == ("12%|###", "") and line.startswith("compress: ") and said in line


@pytest.mark.parametrize("status", [0, 1, 75, 130])
def test_an_ordinary_end_stays_what_it_is(status):
    process = watched(f"print('done')\nsys.exit({status})")
    assert process.communicate() == ("done\n", "") and process.returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(number):
    code = f"signal.signal({int(number)}, lambda *of: sys.exit(75))\nprint('ready', flush=True)\ntime.sleep(60)"
    process = watched(code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(10) == 75


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such request to the kernel")
def test_nobody_goes_on_unwatched():
    process = watched("print(os.getpid(), flush=True)\ntime.sleep(60)")
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.01)
    assert not _runs(child)


def _runs(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{number}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_the_kernel_s_count_tells_whether_it_was_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "VIRTUAL_MEMORY", tmp_path / "vmstat")
    assert watching.memory_kills() == 0
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 3\n")
    assert watching.memory_kills() == 3
    assert ending("measure", False, signal.SIGKILL, 1).startswith("the kernel killed it, because memory ran out (SIGKILL)")
    assert "lower measure.batch_sizes" in ending("measure", False, signal.SIGKILL, 0)
    assert "runs it again" in ending("measure", False, signal.SIGKILL, 0)
    assert "goes on from the last save" in ending("finetune", True, signal.SIGKILL, 0)
