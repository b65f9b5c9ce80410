"""A stage that the fork server runs ends, speaks and dies as one that runs by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from espalier.runtime import fork_server, process
from tests.conftest import ROOT

CLIENT = """
import sys
from espalier.runtime import fork_server
served = fork_server.ask(sys.argv[1:])
sys.exit("by itself" if served is None else f"ended with {served[1]()}")
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'workflow'}:{ROOT}")
    monkeypatch.setenv(fork_server.ADDRESS, "set again by start, and back by pytest")
    closing = fork_server.start("tests.unit.served_stage:run", ["torch"])
    until(Path(os.environ[fork_server.ADDRESS]).exists)
    yield closing
    with suppress(OSError):  # a test may have closed it
        os.close(closing)


def until(condition) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not happen within 30 seconds"
        time.sleep(0.02)


def client(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CLIENT, *arguments], capture_output=True, text=True, check=False, **options)


def waiting(path: Path) -> tuple[subprocess.Popen[str], int]:
    """A client whose stage waits, and the process id of that stage."""
    process = subprocess.Popen([sys.executable, "-c", CLIENT, "wait", str(path)], stderr=subprocess.PIPE, text=True)
    until(lambda: path.exists() and path.read_text())
    return process, int(path.read_text())


def runs(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@pytest.mark.usefixtures("server")
def test_a_stage_has_its_clients_folder_environment_arguments_and_streams(tmp_path: Path) -> None:
    done = client("say", "hello", cwd=tmp_path, env={**os.environ, "SAID": "here"})
    assert done.stdout == f"hello {tmp_path} here ['say', 'hello']\n"
    assert done.stderr == "ended with 3\n"


@pytest.mark.usefixtures("server")
def test_an_error_is_told_and_the_server_serves_on() -> None:
    done = client("fail")
    assert "RuntimeError: a fault" in done.stderr
    assert done.stderr.endswith("ended with 1\n")
    assert client("nothing").stderr == "ended with 3\n"


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_are_those_of_the_clients_environment(threads: str) -> None:
    assert client("threads", env={**os.environ, "OMP_NUM_THREADS": threads}).stdout == f"{threads}\n"


@pytest.mark.usefixtures("server")
def test_a_signal_that_ends_a_stage_is_its_status(tmp_path: Path) -> None:
    watcher, stage = waiting(tmp_path / "stage")
    os.kill(stage, signal.SIGTERM)
    assert watcher.communicate(timeout=30)[1] == f"ended with -{signal.SIGTERM.value}\n"


@pytest.mark.usefixtures("server")
def test_a_stage_dies_with_its_client(tmp_path: Path) -> None:
    watcher, stage = waiting(tmp_path / "stage")
    watcher.kill()
    until(lambda: not runs(stage))


def test_a_server_waits_for_its_stages_and_then_ends(tmp_path: Path, server: int) -> None:
    address = Path(os.environ[fork_server.ADDRESS])
    watcher, stage = waiting(tmp_path / "stage")
    os.close(server)
    until(lambda: client("nothing").stderr == "by itself\n")
    assert runs(stage)

    os.kill(stage, signal.SIGTERM)
    watcher.communicate(timeout=30)
    until(lambda: not address.parent.exists())


@pytest.mark.usefixtures("server")
def test_another_package_or_environment_runs_by_itself() -> None:
    other = CLIENT.replace("served =", "fork_server.SAME = ['/elsewhere', '/other']\nserved =")
    done = subprocess.run([sys.executable, "-c", other, "nothing"], capture_output=True, text=True, check=False)
    assert done.stderr == "by itself\n"


def test_without_a_server_a_stage_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fork_server.ADDRESS, raising=False)
    assert client("nothing").stderr == "by itself\n"


@pytest.mark.parametrize(
    ("trains", "processes", "driver", "forked"),
    [
        (False, "1", True, True),
        (False, "4", False, True),
        (True, "1", False, True),
        (True, "1", True, False),
        (True, "2", False, False),
    ],
)
def test_training_in_several_processes_or_beside_a_gpu_has_its_own_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trains: bool, processes: str, driver: bool, forked: bool
) -> None:
    monkeypatch.setenv(process.PROCESSES, processes)
    monkeypatch.setattr(process, "ACCELERATORS", (tmp_path if driver else tmp_path / "none",))
    assert process.may_be_forked(trains) == forked
