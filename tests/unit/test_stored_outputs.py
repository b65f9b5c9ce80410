"""A teacher's outputs in files are what the teacher says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from espalier.config.job_specs import Storing, TeachSpec
from espalier.config.teacher_outputs import Reads
from espalier.models.forward import forward, pool
from espalier.runtime.files import read_json, write_json
from espalier.stages.models import teach
from espalier.training.stored_outputs import CONTENTS, NotStoredError, Places
from espalier.training.storing import Costs, chosen, disk_seconds
from espalier.training.teachers import StoredTeacher
from tests import tiny
from tests.methods.stored import batches, opened, stored, uneven_rows

ALL = Reads("first-token", "all")


@pytest.fixture
def teacher():
    return tiny.classifier(2, num_hidden_layers=3).eval()


@pytest.fixture
def rows():
    return uneven_rows()


def taught(note, teacher, rows, reads=ALL) -> StoredTeacher:
    found = opened(note, rows, reads)
    return StoredTeacher(found.outputs, teacher, tiny.accelerator(), found.layers)


def test_a_row_is_stored_for_a_quarter_more_tokens_and_for_all_that_batches_are_padded_to():
    lengths = np.array([4, 12, 41, 64, 30, 100])
    assert Places(lengths, None).widths.tolist() == [8, 16, 56, 80, 40, 100]
    assert Places(lengths, 128).widths.tolist() == [128] * 6
    assert sorted(Places(lengths, None).first.tolist()) == [0, 8, 24, 64, 120, 200], "rows of similar length side by side"


def test_what_is_stored_is_what_the_teacher_says_to_the_bit(tmp_path, teacher, rows):
    """For the batch that it was computed in: all 64 rows."""
    found = taught(stored(tmp_path / "files", teacher, rows, ALL), teacher, rows)
    places = found.layers.places
    batch = rows.widened(int(places.widths.max())).batch(np.argsort(rows.lengths, kind="stable"), torch.device("cpu"))
    with torch.no_grad():
        said = forward(teacher, batch, hidden_states=True)
    assert torch.equal(found.outputs.logits[batch.rows], said.logits)
    assert torch.equal(found.outputs.representation[batch.rows], said.hidden_states[-1][:, 0])
    for layer, states in enumerate(said.hidden_states):
        for line, row in enumerate(batch.rows.tolist()):
            first, width = places.first[row], places.widths[row]
            assert torch.equal(found.layers.states[layer][first : first + width], states[line, :width])


def test_in_other_batches_it_is_what_the_teacher_says_to_rounding_padding_included(tmp_path, teacher, rows):
    found = taught(stored(tmp_path / "files", teacher, rows, ALL), teacher, rows)
    assert any(len(found.layers.short(batch)) for batch in batches(rows)), "some batches are longer than what is stored"
    for batch in batches(rows):
        with torch.no_grad():
            said = forward(teacher, batch, hidden_states=True)
        torch.testing.assert_close(found(batch).logits, said.logits, atol=1e-5, rtol=1e-5)
        assert len(found(batch).hidden_states) == 3
        torch.testing.assert_close(found(batch).hidden_states, said.hidden_states, atol=1e-5, rtol=1e-5)


def test_a_batch_without_short_rows_runs_no_teacher(tmp_path, teacher, rows):
    found = taught(stored(tmp_path / "files", teacher, rows, ALL), teacher, rows)
    teacher.register_forward_hook(lambda *_: pytest.fail("the teacher ran"))
    found(rows.batch(np.argsort(rows.lengths)[:8], torch.device("cpu")))


def test_rows_that_a_method_pads_are_stored_up_to_there(tmp_path, teacher, rows):
    reads = Reads(layers="all", pad_to=40)
    found = taught(stored(tmp_path / "files", teacher, rows, reads), teacher, rows, reads)
    batch = rows.widened(40).batch(np.arange(8), torch.device("cpu"))
    assert not len(found.layers.short(batch)) and found(batch).hidden_states[0].shape == (8, 40, 32)


def test_only_the_layers_that_are_read_are_stored_and_given(tmp_path, teacher, rows):
    reads = Reads(layers=2)  # of three layers the second and the last
    note = stored(tmp_path / "files", teacher, rows, reads)
    assert sorted(path.name for path in (tmp_path / "files").glob("*.npy")) == ["layer1.npy", "layer2.npy", "logits.npy"]
    said = taught(note, teacher, rows, reads)(batches(rows)[0]).hidden_states
    assert [bool(states.isnan().any()) for states in said] == [True, False, False]


def test_without_layers_there_is_a_vector_or_logits_alone(tmp_path, teacher, rows):
    batch = rows.batch(np.arange(16), torch.device("cpu"))
    with torch.no_grad():
        said = pool(forward(teacher, batch, hidden_states=True).hidden_states[-1], batch.attention_mask, "mean")
    means = opened(stored(tmp_path / "mean", teacher, rows, Reads("mean")), rows, Reads("mean"))
    torch.testing.assert_close(means.outputs.representation[:16], said, atol=1e-5, rtol=1e-5)
    assert means.layers is None
    stored(tmp_path / "logits", teacher, rows, Reads())
    assert [path.name for path in (tmp_path / "logits").glob("*.npy")] == ["logits.npy"]


def test_bf16_takes_half_the_space_and_three_digits_are_left(tmp_path, teacher, rows):
    notes = [stored(tmp_path / precision, teacher, rows, ALL, precision) for precision in ("fp32", "bf16")]
    sizes = [(tmp_path / precision / "layer0.npy").stat().st_size - 128 for precision in ("fp32", "bf16")]
    exact, rounded = (taught(note, teacher, rows) for note in notes)
    assert sizes[0] == 2 * sizes[1]
    for batch in batches(rows):
        one, other = exact(batch).hidden_states[0], rounded(batch).hidden_states[0]
        assert not torch.equal(one, other) and other.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=0.0, rtol=2**-8)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("note.json", {"digests": {"teacher": "other", "tokens": "r"}}, "another teacher"),
        (CONTENTS, {"digests": {"teacher": "t", "tokens": "other"}}, "on other rows"),
        (CONTENTS, {"reads": "mean-layers-all"}, "what another plan reads"),
        ("note.json", {"folder": "gone"}, "is not there; `snakemake --forcerun teach --until teach` stores the files again"),
        (CONTENTS, {"layers": [0]}, "too dear"),
    ],
)
def test_files_that_are_not_what_a_job_reads_are_not_taken(tmp_path, teacher, rows, file, change, said):
    note = stored(tmp_path, teacher, rows, ALL)
    write_json(tmp_path / file, read_json(tmp_path / file) | change)
    with pytest.raises(NotStoredError, match=said):
        opened(note, rows, ALL)


def test_a_file_that_was_cut_short_is_not_taken(tmp_path, teacher, rows):
    note = stored(tmp_path, teacher, rows, ALL)
    with (tmp_path / "layer2.npy").open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(NotStoredError, match="cannot be read"):
        opened(note, rows, ALL)


@pytest.mark.parametrize(
    ("teacher", "write", "read", "passes", "stores"),
    [(10.0, 1.0, 0.5, 20.0, True), (10.0, 1.0, 11.0, 20.0, False), (10.0, 8.0, 5.0, 1.0, False), (10.0, 8.0, 5.0, 2.0, True)],
)
def test_storing_pays_where_passes_cost_more_than_reading(teacher, write, read, passes, stores):
    assert Costs(teacher, write, read).favour_storing(passes) is stores


def test_auto_measures_and_says_why(tmp_path, teacher, rows):
    arguments = (teacher, rows, tiny.accelerator(), tmp_path)
    choices = {passes: chosen(*arguments, storing("auto", passes), ALL, "fp32") for passes in (1e6, 0.0)}
    assert "1e+06 passes over the rows take" in choices[1e6].why
    assert choices[0.0].why.endswith("so they are not stored") and not choices[0.0].layers
    assert not list(tmp_path.iterdir()), "what was written to measure the disk"
    assert chosen(*arguments, storing("always"), ALL, "fp32").layers == [0, 1, 2]
    assert chosen(*arguments, storing("auto"), Reads(), "fp32") == ([], "no outputs of layers are read")


def test_what_does_not_fit_is_not_stored(tmp_path, teacher, rows):
    size = 3 * Places(rows.lengths, None).tokens * 32 * 4 / 2**30
    for precision, budget, fits in (("fp32", size, 3), ("fp32", 0.99 * size, 0), ("bf16", 0.5 * size, 3)):
        choice = chosen(teacher, rows, tiny.accelerator(), tmp_path, storing("always", budget_gib=budget), ALL, precision)
        assert len(choice.layers) == fits and f"3 layers take {size / (2 if precision == 'bf16' else 1):.3g} GiB" in choice.why


def storing(store: str, passes: float = 1.0, budget_gib: float = 4.0) -> Storing:
    return Storing(store=store, passes=passes, budget_gib=budget_gib)


def test_the_disk_is_measured_in_both_formats(tmp_path):
    for precision, kind in (("fp32", np.float32), ("bf16", np.int16)):
        assert min(disk_seconds(tmp_path / "new", np.zeros((64, 32), kind), precision)) > 0
    assert not list((tmp_path / "new").iterdir())


def test_plans_that_read_the_same_share_files():
    several = [Reads(), Reads("mean"), Reads(layers=4), Reads(layers="all"), Reads(layers="all", pad_to=128)]
    assert [reads.name for reads in several] == ["logits", "mean", "layers-4", "layers-all", "layers-all-pad-128"]


def test_the_stage_by_itself(tmp_path, capsys):
    tiny.write_base(tmp_path / "base")
    tiny.write_task(tmp_path / "mine")
    tiny.classifier(2).save_pretrained(tmp_path / "teacher")
    files = [tmp_path / "teacher/config.json", tmp_path / "teacher/model.safetensors"]
    tokens, work, reads = tmp_path / "mine/train.parquet", tmp_path / "work", Reads(layers="all")
    machine = {"device": "cpu", "precision": "fp32"}
    spec = TeachSpec(kind="classification", machine=machine, reads=reads, precision="bf16").model_dump_json()
    notes = []
    for store, stores in (("always", True), ("auto", False)):
        notes.append(tmp_path / f"{store}.json")
        settings = storing(store, passes=0.0).model_dump_json()
        teach.run(spec, settings, teacher=files, tokens=[tokens], work=work, outputs=notes[-1])
        contents = read_json(work / CONTENTS)
        assert bool(contents["layers"]) is stores and contents["why"] in capsys.readouterr().out
        assert contents["bytes"] == sum(path.stat().st_size for path in work.glob("*.npy"))
        assert sorted(work.glob("layer*")) == ([work / "layer0.npy", work / "layer1.npy"] if stores else [])
    assert notes[0].read_bytes() == notes[1].read_bytes(), "what is stored is no reason to run anything again"
