"""Folders, and what a stage starts from."""

from __future__ import annotations

import pytest

from espalier.config import ConfigError, parse
from espalier.config.layout import Layout, base_files, check_files, task_files
from espalier.config.methods.sdp import SdpPlan

SEED = "results/small/minilm/docs-library/seed42"
STUDENT = ["config.json", "model.safetensors", "masks.safetensors"]


@pytest.fixture
def layout(small) -> Layout:
    small["plans"]["fine"] = {"method": "sdp", "path": [0.5, 0.975], "start": "teacher", "recover": {"epochs": 0.0}}
    small["tasks"]["docs-corpus"] = None
    return Layout(parse(small))


def test_a_path_reads_as_a_sentence(layout):
    assert layout.student("minilm", "docs-library", 42, "fine", "97.5") == f"{SEED}/fine/97.5"
    assert layout.percents("fine") == ["50", "97.5"]


@pytest.mark.parametrize(
    ("plan", "percent", "start"),
    [
        ("sdp", "50", [f"results/small/bases/minilm/{name}" for name in STUDENT[:2]]),
        ("fine", "50", [f"{SEED}/teacher/0/{name}" for name in STUDENT[:2]]),
        ("sdp", "90", [f"{SEED}/sdp/50/{name}" for name in STUDENT]),
        ("fine", "97.5", [f"{SEED}/fine/50/{name}" for name in STUDENT]),
    ],
)
def test_a_stage_starts_from(layout, plan, percent, start):
    assert layout.start("minilm", "docs-library", "42", plan, percent) == start


def test_targets_of_other_kinds_have_folders_of_their_own(small):
    small["plans"]["small"] = {"method": "sdp", "path": [{"parameters": "5M"}, {"parameters": "800k"}]}
    layout = Layout(parse(small))
    assert layout.percents("small") == ["5M-parameters", "800k-parameters"]
    before = [f"{SEED}/small/5M-parameters/{name}" for name in STUDENT]
    assert layout.start("minilm", "docs-library", "42", "small", "800k-parameters") == before
    assert layout.latency("minilm", "small") == layout.latency("minilm", "sdp") == []


def test_a_plan_that_aims_at_a_speed_needs_a_table_of_its_base(small):
    small["plans"] = {"fast": {"method": "cofi", "path": [{"speedup": 2}, {"speedup": 4}]}}
    layout = Layout(parse(small))
    assert layout.percents("fast") == ["2x", "4x"]
    assert layout.latency("minilm", "fast") == ["results/small/latency/minilm/b32-l128.json"]


@pytest.mark.parametrize(("plan", "folder"), [("sdp", "sdp/50/recovered"), ("fine", "fine/50"), ("teacher", "teacher/50")])
def test_the_final_weights_are(layout, plan, folder):
    assert layout.final("minilm", "docs-library", "42", plan, "50") == f"{SEED}/{folder}"


def test_teachers_students_and_recoveries(layout):
    students = ["teacher/0", "magnitude/50", "sdp/50", "sdp/90", "fine/50", "fine/97.5"]
    recovered = ["magnitude/50/recovered", "sdp/50/recovered", "sdp/90/recovered"]
    corpus = "results/small/minilm/docs-corpus/seed42/teacher/0"  # no plan here works on text
    assert layout.students() == [*(f"{SEED}/{name}" for name in students), corpus]
    assert layout.runs() == [*(f"{SEED}/{name}" for name in students), corpus, *(f"{SEED}/{name}" for name in recovered)]


def test_a_plan_runs_on_the_kinds_of_task_that_it_knows(small, monkeypatch):
    monkeypatch.setattr(SdpPlan, "kinds", frozenset({"text"}))
    small["tasks"]["docs-corpus"] = None
    students = {tuple(folder.split("/")[3:6:2]) for folder in Layout(parse(small)).compressed()}
    assert students == {("docs-library", "magnitude"), ("docs-corpus", "sdp")}


def test_tokens_of_a_corpus_are_packed(layout):
    assert layout.tokens("minilm", "docs-library")[0] == "results/small/minilm/docs-library/tokens/train.parquet"
    assert layout.tokens("minilm", "docs-corpus")[1] == "results/small/minilm/docs-corpus/tokens/evaluation.arrow"


def test_the_user_s_files(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "base/config.json", "base/vocab.txt", "base/model.safetensors", "base/notes.bin"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    small["tasks"] = {
        "rte": {"source": "files", "train": "a.csv", "validation": {"easy": "a.csv", "hard": "a.csv"}},
        "cola": None,
    }
    small["bases"] |= {"mine": {"source": "local", "path": "base"}}
    config = parse(small)
    assert task_files(config, "rte") == {"train": "a.csv", "validation.easy": "a.csv", "validation.hard": "a.csv"}
    assert task_files(config, "cola") == {}
    assert base_files(config, "mine") == ["base/config.json", "base/model.safetensors", "base/vocab.txt"]
    assert base_files(config, "minilm") == []
    check_files(config)


def test_missing_files_are_all_named(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small["tasks"] = {"rte": {"source": "files", "train": "a.csv", "validation": "b.csv"}}
    small["bases"] |= {"mine": {"source": "local", "path": "base"}}
    with pytest.raises(ConfigError) as caught:
        check_files(parse(small))
    assert caught.value.problems == [
        f"tasks.rte.train: no such file: {tmp_path}/a.csv",
        f"tasks.rte.validation: no such file: {tmp_path}/b.csv",
        f"bases.mine.path: no such file: {tmp_path}/base/config.json",
    ]


def test_a_format_s_packages_are_asked_for_before_any_work(small, monkeypatch):
    small["deploy"] = {"formats": ["torch", "openvino-int8"]}
    monkeypatch.setattr("espalier.config.deployment.formats.find_spec", lambda name: None if name == "nncf" else name)
    with pytest.raises(ConfigError) as caught:
        check_files(parse(small))
    problem = "deploy.formats: format openvino-int8 needs the package nncf, which is not installed here: `pip install nncf`"
    assert caught.value.problems == [problem]


@pytest.mark.parametrize(
    ("files", "lacking"),
    [
        (["vocab.txt"], ["weights"]),
        (["model.safetensors", "tokenizer_config.json"], ["tokenizer"]),
        (["model.safetensors.index.json", "spiece.model"], []),
        (["pytorch_model.bin"], ["weights", "tokenizer"]),
    ],
)
def test_a_local_base_needs_weights_and_a_tokenizer(small, tmp_path, files, lacking):
    for name in ("config.json", *files):
        (tmp_path / name).touch()
    small["bases"] = {"mine": {"source": "local", "path": str(tmp_path)}}
    if not lacking:
        check_files(parse(small))
        return
    with pytest.raises(ConfigError) as caught:
        check_files(parse(small))
    assert [problem.split(" in ")[0] for problem in caught.value.problems] == [
        f"bases.mine.path: no {part}" for part in lacking
    ]
    assert all(f"in {tmp_path}; needed: " in problem for problem in caught.value.problems)
