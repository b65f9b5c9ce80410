"""What the fork server of test_fork_server.py runs in the place of stages."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def run(arguments: list[str]) -> int:
    what, *rest = arguments
    if what == "say":
        print(*rest, Path.cwd(), os.environ["SAID"], sys.argv[1:])
    elif what == "fail":
        raise RuntimeError("a fault")
    elif what == "wait":
        Path(rest[0]).write_text(str(os.getpid()))
        time.sleep(60)
    elif what == "threads":
        print(__import__("torch").get_num_threads())
    return 3
