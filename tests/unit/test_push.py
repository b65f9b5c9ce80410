"""`espalier push`: the model, its card and nothing else reach the hub; what is wrong is said before anything is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from espalier.commands import push
from espalier.runtime.errors import UserError
from tests import exports, hub
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
ALWAYS = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
SERVED = {"onnx/model.onnx", "onnx/model_int8.onnx", "onnx/model_quantized.onnx"}
STRAY = ("notes.txt", ".env", "onnx/model.onnx.partial", "optimizer.pt")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A stock and an unequal student with a card, and files beside them that are nobody's business."""
    made = {}
    for name, model in {"stock": exports.stock(), "unequal": exports.unequal(exports.stock())}.items():
        spec = exports.spec_of("classification")
        made[name] = exports.write_export(tmp_path_factory.mktemp(name), model, spec, "onnx-int8")
        (made[name] / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# A model\n")
        for stray in STRAY:
            (made[name] / stray).write_text("secret")
    return made


def pushed(server: hub.Hub, folder: Path, *arguments: str, token: str | None = hub.TOKEN) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own: the hub's address is read when its package is imported."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment |= {"HF_ENDPOINT": server.address, "HF_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT / "workflow")}
    environment["HF_HUB_DISABLE_XET"] = "1"  # its protocol is no part of the stand-in; large files go by git LFS
    if token:
        environment["HF_TOKEN"] = token
    command = [sys.executable, "-m", "espalier", "push", str(folder), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "more"), [("stock", set()), ("unequal", {"modeling_espalier.py"})])
def test_the_model_and_its_card_arrive_byte_for_byte(folders, name, more):
    with hub.serving() as server:
        result = pushed(server, folders[name], "me/small", "--private", "--message", "First")
        assert result.returncode == 0, result.stderr
        assert server.repositories == {"me/small": True}
        (commit,) = server.commits
    assert (commit["repository"], commit["message"]) == ("me/small", "First")
    assert commit["files"].keys() == ALWAYS | SERVED | more
    assert all(content == (folders[name] / file).read_bytes() for file, content in commit["files"].items())
    assert f"Sent: {server.address}/me/small/commit/1234" in result.stdout


def test_a_repository_that_is_there_is_written_to_again(folders):
    with hub.serving() as server:
        for _ in range(2):
            assert pushed(server, folders["stock"], "me/small").returncode == 0
        assert server.repositories == {"me/small": False} and len(server.commits) == 2


def test_a_dry_run_prints_files_and_sizes_and_sends_nothing(folders):
    with hub.serving() as server:
        result = pushed(server, folders["stock"], "me/small", "--dry-run", token=None)
        assert result.returncode == 0 and not server.repositories and not server.commits
    lines = result.stdout.splitlines()
    assert {line.split()[-1] for line in lines[:-2]} == ALWAYS | SERVED
    assert lines[-2].endswith(f"in {len(ALWAYS | SERVED)} files") and "/me/small; where that is new" in lines[-1]


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "push: no token of the hub: run `hf auth login`, or set HF_TOKEN"),
        ("wrong", "push: me/small: the hub refused, status 401; the token is not valid: "),
        (
            hub.READ_ONLY,
            "push: me/small: the hub refused, status 403; the token may not write there: You don't have the rights",
        ),
    ],
)
def test_a_token_that_does_not_do_is_said_in_a_sentence(folders, token, said):
    with hub.serving() as server:
        result = pushed(server, folders["stock"], "me/small", token=token)
        assert result.returncode == 1 and said in result.stderr and "Traceback" not in result.stderr
        assert not server.commits


def test_a_hub_that_cannot_be_reached_is_said_in_a_sentence(folders):
    result = pushed(hub.Hub("http://127.0.0.1:9"), folders["stock"], "me/small")
    assert result.returncode == 1 and "push: http://127.0.0.1:9: the hub cannot be reached" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["small", "me/small/more", "me/sm all", "me/-small", "me/a--b", ""])
def test_a_name_that_the_hub_would_refuse_is_refused(name):
    with pytest.raises(UserError, match=r"^REPO: "):
        push.check_repository(name)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("README.md", "no README.md; the rule `card` writes it"),
        ("model.safetensors", "no model.safetensors"),
        ("config.json", "no config.json with an object in it"),
        ("tokenizer.json", "no tokenizer.json"),
    ],
)
def test_a_folder_that_is_not_complete_is_refused(folders, missing, said):
    path = folders["stock"] / missing
    kept = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(UserError, match=said):
            push.sent_files(folders["stock"])
    finally:
        path.write_bytes(kept)


def test_a_card_without_metadata_is_refused(folders):
    path = folders["stock"] / "README.md"
    kept = path.read_text()
    path.write_text("# A model\n")
    try:
        with pytest.raises(UserError, match="does not begin with metadata"):
            push.sent_files(folders["stock"])
    finally:
        path.write_text(kept)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such folder"):
        push.sent_files(tmp_path / "none")
