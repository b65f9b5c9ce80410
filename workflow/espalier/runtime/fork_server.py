"""A process that has imported torch once and forks a child for every short stage, which then starts at once.

Importing torch and transformers takes five seconds of a core, more than most stages that do not train need for their work.
Snakemake's main process starts one server where jobs run beside it. A stage asks the server for a child, with its own
arguments, environment, folder and streams; where no server answers, it goes on by itself. Outputs are the same either way.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from espalier.runtime.process import die_with

ADDRESS = "ESPALIER_FORK_SERVER"
"""Environment variable that names the server's socket."""
STREAMS = (0, 1, 2)
HANDOVER = 10.0
"""Seconds within which a client must have sent its request."""
SAME = [sys.prefix, str(Path(__file__).resolve().parents[1])]
"""What client and server must share: the environment, and this package; else versions or code would differ."""


def start(entry: str, modules: Sequence[str]) -> int:
    """Start a server and tell the stages that this process starts where it is.

    Args:
        entry: `module:function` that runs a stage, given its arguments, and returns its exit status.
        modules: what the server imports before its first child.

    Returns:
        A file descriptor; the server ends when it is closed, with this process at the latest.
    """
    folder = tempfile.mkdtemp(prefix="espalier-")  # nobody else can open it, nor the socket in it
    os.environ[ADDRESS] = f"{folder}/socket"
    command = [sys.executable, "-m", __name__, os.environ[ADDRESS], entry, *modules]

    reading, writing = os.pipe()
    quiet = subprocess.DEVNULL
    subprocess.Popen(command, stdin=reading, stdout=quiet, stderr=quiet, start_new_session=True)
    os.close(reading)
    return writing


def ask(arguments: Sequence[str]) -> tuple[int, Callable[[], int]] | None:
    """Ask the server to run a stage.

    Args:
        arguments: name and options of the stage.

    Returns:
        The child's process id, and a function that waits for its exit status, which is negative for a signal; None where no
        server can run it.
    """
    address = os.environ.get(ADDRESS)
    if address is None:
        return None

    connection = socket.socket(socket.AF_UNIX)
    request = {"same": SAME, "path": sys.path, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    text = json.dumps(request | {"arguments": list(arguments)}).encode()
    try:
        connection.connect(address)
        socket.send_fds(connection, [len(text).to_bytes(8, "big")], STREAMS)
        connection.sendall(text)
        answers = connection.makefile("r")
        child = int(answers.readline() or 0)  # the first waits for the imports
    except OSError:
        return None
    return (child, lambda: int(answers.readline() or -signal.SIGKILL)) if child else None


class Server:
    """Forks a child for each request, and kills a child whose client is gone."""

    def __init__(self, address: str, entry: str, modules: Sequence[str]) -> None:
        self.entry = entry
        self.modules = list(modules)
        self.children: dict[int, socket.socket] = {}
        """Process id of a child → connection to its client."""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(address)
        self.listener.listen(64)

        # A child that ends writes to this pair through the signal's wake-up file.
        self.ended, wake = socket.socketpair()
        for end in (self.ended, wake):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake.fileno())
        self.wake = wake

        self.ready = selectors.DefaultSelector()
        self.ready.register(self.listener, selectors.EVENT_READ, self._accept)
        self.ready.register(self.ended, selectors.EVENT_READ, self._reap)
        self.ready.register(sys.stdin, selectors.EVENT_READ, self._close)
        self.open = True

    def serve(self) -> None:
        """Serve until the process that started the server is gone and the last child has ended."""
        while self.open or self.children:
            for key, _ in self.ready.select():
                key.data(key.fileobj)

    def _accept(self, _: Any) -> None:
        connection = self.listener.accept()[0]
        connection.settimeout(HANDOVER)
        try:
            start, streams, _, _ = socket.recv_fds(connection, 8, len(STREAMS))
            with connection.makefile("rb") as file:
                request = json.loads(file.read(int.from_bytes(start, "big")))
        except (OSError, ValueError):
            connection.close()
            return

        connection.settimeout(None)
        if request["same"] == SAME:
            self._fork(request, streams, connection)
        else:
            connection.close()
        for stream in streams:
            os.close(stream)

    def _fork(self, request: dict[str, Any], streams: Sequence[int], connection: socket.socket) -> None:
        while self.modules:
            import_module(self.modules.pop(0))

        server = os.getpid()
        child = os.fork()
        if not child:
            die_with(server)
            self._become(request, streams)

        self.children[child] = connection
        self.ready.register(connection, selectors.EVENT_READ, self._lost)
        self._tell(connection, child)

    def _tell(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError):  # a client that has just gone is seen as lost
            connection.sendall(f"{number}\n".encode())

    def _become(self, request: dict[str, Any], streams: Sequence[int]) -> None:
        """In the child: take over what the client has, run the stage and end. It returns never."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.ready.close()
            for end in (self.listener, self.ended, self.wake, *self.children.values()):
                end.close()
            for number, stream in zip(STREAMS, streams, strict=True):
                os.dup2(stream, number)

            os.chdir(request["folder"])
            os.environ.clear()
            os.environ.update(request["environment"])
            sys.path[:] = request["path"]
            sys.argv[1:] = request["arguments"]
            _limit_threads()

            module, _, function = self.entry.partition(":")
            status = getattr(import_module(module), function)(request["arguments"])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self, _: Any) -> None:
        self.ended.recv(4096)
        for child, connection in list(self.children.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if not done:
                continue
            if connection.fileno() >= 0:
                self._tell(connection, os.waitstatus_to_exitcode(status))
                self.ready.unregister(connection)
                connection.close()
            del self.children[child]

    def _lost(self, connection: socket.socket) -> None:
        """A client says nothing more: readable means gone. What it asked for must not go on unwatched."""
        self.ready.unregister(connection)
        connection.close()
        for child, other in self.children.items():
            if other is connection:
                os.kill(child, signal.SIGKILL)

    def _close(self, _: Any) -> None:
        self.ready.unregister(sys.stdin)
        self.ready.unregister(self.listener)
        self.listener.close()
        self.open = False


def _limit_threads() -> None:
    """Give libraries that are loaded already the number of threads that this environment asks for."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if not threads.isdigit():
        return

    if torch := sys.modules.get("torch"):
        torch.set_num_threads(int(threads))
    if control := sys.modules.get("threadpoolctl"):
        control.threadpool_limits(int(threads))


def main(address: str, entry: str, *modules: str) -> None:
    """Serve at an address, in the process of its own that `start` makes."""
    try:
        Server(address, entry, modules).serve()
    finally:
        shutil.rmtree(Path(address).parent, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
