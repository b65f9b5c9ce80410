"""Goes before a stage's program: notes the GPUs that the job was given and when it ran; waits or fails if a test wants it."""

import atexit
import json
import os
import sys
import time
from pathlib import Path

began = time.time()
folder = Path("seen")
folder.mkdir(exist_ok=True)
own = folder / f"{sys.argv[1]}-{time.time_ns()}.json"


def note(ended: float | None) -> None:
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    seen = {"stage": sys.argv[1], "job": os.environ.get("SLURM_JOB_ID"), "devices": devices, "began": began, "ended": ended}
    own.write_text(json.dumps(seen))


note(None)
atexit.register(lambda: note(time.time()))
while Path(f"hold-{sys.argv[1]}").exists():
    time.sleep(0.1)
if Path(f"fail-{sys.argv[1]}").exists():
    Path(f"fail-{sys.argv[1]}").unlink()
    sys.exit("failed once, as a test wants it")
