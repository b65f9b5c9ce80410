import os
import platform
import subprocess
import sys

import pytest

from espalier.runtime import device, files
from espalier.runtime.errors import UserError
from espalier.runtime.process import exclusive


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(OSError, match="disk"), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert files.read_json(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["file.json"]


def test_two_processes_exclude_each_other_and_the_holder_is_named(tmp_path):
    imports = "import sys; from pathlib import Path; from espalier.runtime.process import exclusive"
    code = f"{imports}\nwith exclusive(Path(sys.argv[1])): pass"
    with exclusive(tmp_path):
        result = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert "is in use by process" in result.stderr
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 0


def test_the_lock_of_a_killed_process_is_free_whoever_has_its_number_now(tmp_path):
    imports = "import os, signal, sys; from pathlib import Path; from espalier.runtime.process import exclusive"
    code = f"{imports}\nwith exclusive(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    assert (tmp_path / "lock").read_text().startswith("process ")
    (tmp_path / "lock").write_text(f"process 1 on {platform.node()}\n")  # alive, and another one
    with exclusive(tmp_path):
        assert (tmp_path / "lock").read_text() == f"process {os.getpid()} on {platform.node()}\n"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="device: got 'cuda', but torch sees no GPU"):
        device.pick_device("cuda")
    assert device.pick_device("auto").type == "cpu"


@pytest.mark.parametrize(("flags", "precision"), [("fpu avx512_bf16", "bf16"), ("fpu avx2", "fp32")])
def test_bf16_is_chosen_where_the_processor_computes_it(monkeypatch, flags, precision):
    monkeypatch.setattr("pathlib.Path.read_text", lambda self: f"flags : {flags}\n")
    assert device.pick_precision("auto", device.torch.device("cpu")) == precision
    assert device.pick_precision("fp32", device.torch.device("cpu")) == "fp32"


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with files.atomic(tmp_path / "private") as temporary:
        temporary.touch(mode=0o600)
    assert (tmp_path / "private").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has these settings")
@pytest.mark.parametrize("keep", [False, True])
def test_what_is_freed_stays_with_the_process(keep):
    code = """
import sys
from espalier.runtime.process import keep_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1])
if sys.argv[1] == "True":
    keep_freed_memory()
block = bytearray(b"x") * (64 << 20)
full = resident()
del block
print(full - resident() < 1000)
"""
    result = subprocess.run([sys.executable, "-c", code, str(keep)], capture_output=True, text=True, check=True)
    assert result.stdout == f"{keep}\n"
