"""States are whole or refused."""

import random
from pathlib import Path

import pytest
import torch

from espalier.runtime.errors import UserError
from espalier.training.saves import Saves, differences, load

STATE = {"step": 3, "student": {"weight": torch.arange(4000.0)}, "method": {"generator": torch.Generator().get_state()}}


def saved(folder: Path, *steps: int) -> Saves:
    saves = Saves(folder, {"spec_sha256": "a"})
    saves.read()
    for step in steps:
        saves.write({**STATE, "step": step})
    return saves


def test_the_last_two_states_are_kept(tmp_path):
    saves = saved(tmp_path, 1, 2, 3)
    assert saves.read()["step"] == 3
    assert [load(tmp_path / name)["step"] for name in ("state-before.pt", "state.pt")] == [2, 3]


@pytest.mark.parametrize("seed", range(60))
def test_a_file_with_one_wrong_bit_is_refused_or_says_the_same(tmp_path, seed):
    saved(tmp_path, 3)
    path, generator = tmp_path / "state.pt", random.Random(seed)
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)
    try:
        state = load(path)
    except UserError as error:
        assert str(error).startswith(f"{path} is damaged (")
    else:
        assert state["step"] == 3 and torch.equal(state["student"]["weight"], STATE["student"]["weight"])


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_file_that_ends_early_is_refused(tmp_path, part):
    saved(tmp_path, 3)
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(UserError, match="is damaged"):
        load(path)


def test_a_damaged_best_checkpoint_is_refused_by_name(tmp_path):
    saves = saved(tmp_path)
    saves.write_best(STATE)
    assert saves.read_best()["step"] == 3
    (tmp_path / "best.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"best\.pt is damaged"):
        saves.read_best()


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    saved(tmp_path, 3)
    torch.save({"step": 3, "hook": print}, tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"is damaged \(UnpicklingError"):
        load(tmp_path / "state.pt")


def test_what_two_fingerprints_disagree_on_is_named():
    first = {"spec_sha256": "a", "inputs": {"x": 1, "y": 2}, "versions": {"torch": "2"}}
    second = {"spec_sha256": "b", "inputs": {"x": 1, "y": 3}, "versions": {"torch": "2"}}
    assert differences(first, second) == ["y", "spec"]
