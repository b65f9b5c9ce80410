"""Records name what a job wrote; `verify` names what is no longer so; `trace` goes back to data and base."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from espalier.commands import trace, verify
from espalier.provenance import job_records as records
from espalier.runtime.errors import UserError
from espalier.runtime.files import sha256_text

ROWS, WEIGHTS, CARD = "results/mine/rows.parquet", "results/mine/b/model.safetensors", "results/mine/b/README.md"


def note(outputs: dict[str, str], rule: str, inputs: dict[str, str], started: float = 100.0) -> None:
    """What Snakemake would have written, and the outputs themselves."""
    for path, content in outputs.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(content)
        record = {
            "rule": rule,
            "log": [f"logs/{rule}.log"],
            "params": [repr("f" * 64), repr('{"seed": 7, "name": "it\'s"}'), repr("work/x/1")],
            "input": list(inputs),
            "input_checksums": {name: f"sha256:{sha256_text(text)}" for name, text in inputs.items()},
            "starttime": started,
            "endtime": started + 2.5,
        }
        name = base64.urlsafe_b64encode(path.encode()).decode()
        cut = [f"@{name[:10]}", name[10:]] if rule == "train" else [name]  # long names are cut into folders
        place = Path(".snakemake/metadata", *cut)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(record))


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    """prepare → train → card; the last one alone has a record of its own."""
    monkeypatch.chdir(tmp_path)
    Path("data.csv").write_text("raw")
    note({ROWS: "rows"}, "prepare", {"data.csv": "raw"})
    note({WEIGHTS: "weights", "results/mine/b/run.json": '{"device": "cpu"}'}, "train", {ROWS: "rows"})
    note({CARD: "card"}, "card", {WEIGHTS: "weights"})
    Path(CARD).unlink()
    with records.job_record("card", [Path(CARD), Path(WEIGHTS), Path("elsewhere.txt")]):
        Path(CARD).write_text("card")
        Path("elsewhere.txt").write_text("")


def found(*arguments: str, capsys) -> tuple[int, dict[str, list[str]]]:
    code = verify.main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_record_has_what_was_written_and_nothing_else():
    record = json.loads(Path("results/mine/records/card/b/README.md.json").read_text())
    assert record["outputs"] == {CARD: sha256_text("card")}
    assert record["versions"]["python"] and "finished" in record


@pytest.mark.parametrize(
    ("outputs", "place"),
    [
        (["results/mine/b/97.5/config.json", "results/mine/b/97.5/run.json"], "results/mine/records/train/b/97.5.json"),
        (["results/mine/latency/b/b1-l8.json"], "results/mine/records/train/latency/b/b1-l8.json.json"),
        (["results/mine/table.csv", "results/mine/metrics.json"], "results/mine/records/train.json"),
    ],
)
def test_every_job_has_a_record_of_its_own(outputs, place):
    assert records.record_path("train", [Path(output) for output in outputs]) == Path(place)


def test_a_block_that_fails_records_nothing():
    with pytest.raises(OSError), records.job_record("other", [Path("results/mine/half.json")]):
        Path("results/mine/half.json").write_text("")
        raise OSError
    assert not Path("results/mine/records/other").exists()


def test_all_is_as_it_was_written(capsys):
    code, kinds = found(capsys=capsys)
    assert code == 0 and sorted(kinds["verified"]) == sorted([ROWS, WEIGHTS, CARD])
    assert kinds["unknown"] == ["results/mine/b/run.json"], "nobody read it, and its job left no record"


def test_what_is_wrong_is_named(capsys):
    Path(CARD).write_text("cart")
    Path(WEIGHTS).write_text("weightz")
    Path(ROWS).unlink()
    Path("results/mine/b/notes.txt").write_text("mine")
    code, kinds = found(capsys=capsys)
    assert code == 1
    assert (kinds["differs"], kinds["missing"], kinds["extra"]) == ([CARD, WEIGHTS], [ROWS], ["results/mine/b/notes.txt"])
    assert verify.main([]) == 1
    assert f"differs  {CARD}: is not what its job wrote\n" in capsys.readouterr().out


def test_a_place_can_be_verified_alone(capsys):
    Path(ROWS).unlink()
    assert found("results/mine/b", capsys=capsys)[0] == 0
    assert found(str(Path(ROWS).absolute()), capsys=capsys)[1]["missing"] == [ROWS]


def test_a_place_that_is_neither_there_nor_recorded_is_refused(capsys):
    with pytest.raises(UserError, match="results/mine/typo: no such file or folder, and no job wrote one"):
        verify.main(["results/mine/b", "results/mine/typo"])


def test_a_project_that_was_never_fetched_is_not_missing(capsys):
    note({"results/other/table.csv": ""}, "table", {})
    for path in sorted(Path("results/other").rglob("*"), reverse=True):
        path.unlink()
    Path("results/other").rmdir()
    assert found(capsys=capsys)[0] == 0


def test_a_record_that_is_older_than_the_job_does_not_count(capsys):
    note({CARD: "from the cache"}, "card", {WEIGHTS: "weights"}, started=4.0e9)
    code, kinds = found(capsys=capsys)
    assert code == 0 and CARD in kinds["unknown"]


def test_a_trace_goes_back_to_the_data(capsys):
    assert trace.main([CARD, "--json"]) == 0
    story = json.loads(capsys.readouterr().out)
    assert story["files"] == [{"path": CARD, "sha256": sha256_text("card"), "is": "as recorded"}]
    assert [job["rule"] for job in story["jobs"]] == ["card", "train", "prepare"]
    card, train, _ = story["jobs"]
    assert train["settings"] == {"seed": 7, "name": "it's"} and train["seed"] == 7 and train["code_sha256"] == "f" * 64
    assert train["inputs"] == {ROWS: sha256_text("rows")} and train["wall_seconds"] == 2.5 and train["device"] == "cpu"
    assert card["versions"]["python"] and train["outputs"] == [WEIGHTS, "results/mine/b/run.json"]
    assert story["sources"] == {"data.csv": sha256_text("raw")}


def test_a_trace_reads_as_text(capsys):
    Path(WEIGHTS).write_text("weightz")
    assert trace.main(["results/mine/b"]) == 0
    text = capsys.readouterr().out
    assert f"{WEIGHTS}  sha256 {sha256_text('weightz')[:12]}, not what its job wrote" in text
    assert "  settings  seed: 7\n" in text and text.index("\ncard\n") < text.index("\ntrain\n") < text.index("\nprepare\n")


def test_what_no_job_wrote_has_no_trace(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"data\.csv: no job wrote it; a file or folder under results/ is needed"):
        trace.main(["data.csv"])
    monkeypatch.chdir("/")
    with pytest.raises(UserError, match="stay in the repository"):
        trace.main([str(tmp_path / CARD)])
