"""report: what the page says, that it asks nobody for anything, and that it is the same each time."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from test_table import SPEC, found, linear, project, write

from espalier.results.summary import speeds
from espalier.results.table import read_results
from tests.reports import FIGURES, write_report

pytestmark = pytest.mark.slow

TIME = {"median": 5.0, "q25": 4.5, "q75": 6.0}
SMALL = {"teacher": {"0": 0.9}, "dense": {"0": 0.89}, "sdp-cc": {"50": 0.88}}
HOSTILE = "<script>alert('1')</script>\"&$x^2$"


def edit(path: Path, **changes: Any) -> None:
    write(path, json.loads(path.read_text()) | changes)


def study(folder: Path, **more: Any) -> Path:
    """A results tree in which only PyTorch was timed, at batch 1."""
    root = project(folder, **more)
    for path in found(root, "cost.json"):
        edit(path, repeats=5, onnx={"latency_ms": {}, "dense_latency_ms": {}, "speedup": {}, "size_mib": 1.0})
    return root


def shrink(root: Path, plan: str) -> None:
    """Make the students of a plan structured ones: less is stored, some of it in no time, and a layer is gone."""
    for path in found(root, "cost.json"):
        if path.parent.parent.name == plan:
            times = {"latency_ms": dict.fromkeys(("1", "32"), TIME), "speedup": {"1": 2.0, "32": 4.0}}
            edit(path, params_total=500, onnx=times | {"size_mib": 1.0}, **times)
    for path in found(root, "scores.json"):
        if path.parent.parent.name == plan:
            layers = [{"heads": {"kept": 3, "total": 12}, "ffn": {"kept": 312, "total": 1536}}] * 2
            gone = {"heads": {"kept": 0, "total": 12}, "ffn": {"kept": 0, "total": 1536}}
            hidden = {"kept": 380, "total": 384}
            content = {"target": 0.5, "sparsity": 0.5, "layers": [*layers, gone], "hidden": hidden}
            write(path.with_name("structure.json"), content)


def make_report(root: Path, curves: bool = False, text: bool = False) -> str:
    """The page; drawing the training curves takes most of its time."""
    histories = found(root, "history.parquet") if curves else []
    return write_report(root, SPEC, histories, text=text, analysed=curves)


def words(page: str) -> str:
    """The page's text as a reader sees it."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.split("</style>", 1)[1].split("<script>")[0]).split())


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags_of(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page)
    return parser.tags


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = study(tmp_path_factory.mktemp("two"), seeds=(1, 2))
    return root, make_report(root, curves=True)


@pytest.fixture(scope="module")
def structured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = study(tmp_path_factory.mktemp("structured"), seeds=(1, 2), scores=SMALL)
    shrink(root, "sdp-cc")
    return root, make_report(root)


def sections(page: str) -> list[str | None]:
    return [attributes["id"] for tag, attributes in tags_of(page) if tag == "section"]


def test_every_section_is_there(two_seeds, structured):
    assert sections(two_seeds[1]) == ["results", "quality", "latency", "training", "sets", "provenance"]
    assert sections(structured[1]) == ["results", "quality", "structure", "latency", "training", "sets", "provenance"]
    for page in (two_seeds[1], structured[1]):
        links = [attributes["href"] for tag, attributes in tags_of(page) if tag == "a"]
        assert links == ["#content"] + [f"#{name}" for name in sections(page)]


def test_what_is_left_of_each_layer_is_shown_for_structured_students(two_seeds, structured):
    root, page = structured
    labels = [attributes.get("aria-label") for tag, attributes in tags_of(page) if tag == "svg"]
    assert "heads and FFN units kept in each layer, base · tiny · sdp-cc" in labels
    assert "sdp-cc : kept of 12 heads and 1,536 FFN units a layer." in words(page)
    assert "removed 50.0 %, hidden 380 of 384, n = 2" in words(page)
    assert "sublayer gone" in (root / "figures/structure.svg").read_text()
    assert "No student of this study is structured." in (two_seeds[0] / "figures/structure.svg").read_text()


def test_students_whose_gates_missed_the_target_are_warned_of(structured, tmp_path):
    root = tmp_path / "missed"
    shutil.copytree(structured[0], root)
    assert "missed the target" not in words(structured[1])
    first, *_ = [path for path in found(root, "structure.json") if "layers" in json.loads(path.read_text())]
    landing = {"of": "sparsity", "target": 0.5, "tolerance": 0.01, "expected": 0.1, "decided": 0.12, "landed": 0.5}
    edit(first, landing=landing)
    place = "/".join(first.parts[-6:-1])
    assert f"{place}: the gates missed the target: at the end of training they expected to remove 10.0 %" in words(
        make_report(root)
    )


def test_a_linear_model_stands_in_the_tables_and_pictures(structured, tmp_path):
    root = tmp_path / "rivals"
    shutil.copytree(structured[0], root)
    write(root / "prepared/tiny/linear.json", linear(0.7002))
    page = make_report(root)
    said = words(page)
    assert "linear – 1 0.700 −0.201 0.012 – – – – –" in said, "no target, updates, sparsities, parameters and training"
    assert "Against linear (0.700 at 0.012 MiB): dense (+0.191) and sdp-cc at 50 % (+0.181) higher." in said
    assert "2 plans (dense, sdp-cc)" in said, "it is no plan"
    assert all("linear" in (root / f"figures/{name}.svg").read_text() for name in ("quality", "size"))
    assert "Against linear" not in words(structured[1])
    metrics = said.partition("All metrics")[2]
    assert "base tiny linear – validation 100 accuracy 0.7002 1" in metrics, "it stands among all metrics, too"
    assert metrics.index("tiny teacher") < metrics.index("tiny linear") < metrics.index("tiny dense")


def test_tasks_without_a_linear_model_say_why(structured, tmp_path):
    root = tmp_path / "spans"
    shutil.copytree(structured[0], root)
    edit(root / "prepared/tiny/task.json", kind="span")
    assert "There is no linear model to compare with: its answers are places in a context." in words(make_report(root))


def test_scores_stand_against_sparsity_size_and_the_speeds_that_were_measured(two_seeds, structured):
    def pictures(page: str) -> list[str]:
        labels = [str(attributes.get("aria-label")) for tag, attributes in tags_of(page) if tag == "svg"]
        return [label.removeprefix("accuracy against ") for label in labels if label.startswith("accuracy against ")]

    both = ["size stored, base on tiny", "encoder sparsity, base on tiny"]
    assert pictures(two_seeds[1]) == both  # batch 32 was not timed
    speeds = [f"speed-up at batch 32, {runtime}, base on tiny" for runtime in ("PyTorch eager", "onnxruntime")]
    assert pictures(structured[1]) == [*both, *speeds]
    assert "Every pruned student stores as many parameters as its teacher" in words(two_seeds[1])
    assert "carry their target" in words(structured[1])


def test_the_conditions_of_the_timing_are_said(two_seeds, structured):
    said = "Timed as the median of 5 forward passes or more at batch 1, rows of 128 tokens without padding,"
    assert f"{said} fp32, 2 threads, cpu;" in words(two_seeds[1])
    assert "2 models timed as the median of 5 forward passes or more at batch 1 and 32" in words(structured[1])
    assert "The middle half of a typical model’s passes spans 30 % of their median." in words(structured[1])


def test_scores_stand_with_their_spread_and_count(two_seeds):
    _, page = two_seeds
    assert "sdp-cc (sdp) 97.5 % 2 0.601 ± 0.001 −0.300 ± 0.000 86.1 97.5 % 58.5 % 415 120 3 min 27 s" in words(page)
    assert "most frequent class gives an accuracy of 0.550" in words(page)


def test_several_tasks_are_summed_up_in_their_mean(tmp_path, two_seeds):
    assert "mean over tasks" not in words(two_seeds[1])
    root = study(tmp_path, scores=SMALL, seeds=(1, 2))
    study(tmp_path, scores=SMALL | {"sdp-cc": {"50": 0.68, "90": 0.5}}, seeds=(1, 2), task="other")
    page = words(make_report(root))
    assert "base, mean over tasks. other, tiny: each with its own metric" in page
    assert "sdp-cc (sdp) 50 % 2 0.782 ± 0.001 −0.120 ± 0.000 80 50.0 %" in page.partition("mean over tasks.")[2]
    assert "90 %" not in page.partition("mean over tasks.")[2].partition("Updates are")[0]


def test_one_picture_a_panel(two_seeds):
    _, page = two_seeds
    labels = [attributes["aria-label"] for tag, attributes in tags_of(page) if tag == "svg" and "aria-label" in attributes]
    assert labels[0] == "accuracy against size stored, base on tiny"
    assert [label for label in labels if label.endswith(", sdp-cc")] == [
        "task over training steps, sdp-cc",
        "sdp-cc over training steps, sdp-cc",
        "validation accuracy over training steps, sdp-cc",
    ]


def test_ids_do_not_clash_between_pictures(two_seeds, structured):
    for _, page in (two_seeds, structured):
        ids = [attributes["id"] for _, attributes in tags_of(page) if "id" in attributes]
        assert len(ids) == len(set(ids)) > 20


def test_nothing_is_requested_from_elsewhere(two_seeds):
    _, page = two_seeds
    for tag, attributes in tags_of(page):
        assert tag not in ("link", "iframe", "object", "img", "base")
        for name, value in attributes.items():
            assert name.startswith("xmlns") or "//" not in (value or ""), f"{tag} {name}={value}"
            assert name not in ("href", "xlink:href", "src") or (value or "").startswith("#")
    assert "@import" not in page and "fetch(" not in page and "http" not in page.split("<script>")[1]
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_the_page_s_policy_lets_its_own_script_run_and_no_other(two_seeds):
    _, page = two_seeds
    script = page.split("<script>")[1].split("</script>")[0]
    digest = b64encode(sha256(script.encode()).digest()).decode()
    [policy] = [attributes["content"] for tag, attributes in tags_of(page) if attributes.get("http-equiv")]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_light_and_dark_have_the_same_variables_and_every_picture_uses_them(two_seeds, structured):
    page = two_seeds[1] + "".join(re.findall(r"<svg.*?</svg>", structured[1], flags=re.DOTALL))
    light, dark = page.split("@media screen and (prefers-color-scheme: dark)")
    names = re.findall(r"^\s*(--[\w-]+):", light, flags=re.MULTILINE)
    assert names == re.findall(r"^\s*(--[\w-]+):", dark.split("}")[0], flags=re.MULTILINE)
    assert set(re.findall(r"var\((--[\w-]+)\)", page)) <= set(names)
    pictures = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", pictures) == []


def test_same_inputs_same_bytes(two_seeds):
    root, page = two_seeds
    names = [f"figures/{name}.svg" for name in FIGURES]
    before = [(root / name).read_bytes() for name in names]
    assert make_report(root, curves=True) == page
    assert [(root / name).read_bytes() for name in names] == before


def test_standalone_pictures_are_xml(two_seeds):
    root, _ = two_seeds
    for name in FIGURES:
        assert ElementTree.parse(root / "figures" / f"{name}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_hostile_text_is_shown_and_not_obeyed(tmp_path):
    root = study(tmp_path, seeds=(1,), scores=SMALL)
    student = root / "base" / "tiny" / "seed1" / "sdp-cc" / "50"
    edit(student / "run.json", git_commit=HOSTILE, stage=HOSTILE, versions={HOSTILE: HOSTILE}, inputs={HOSTILE: HOSTILE})
    edit(student / "run.json", selected={"checkpoint": "best", "set": HOSTILE, "step": 1}, device=HOSTILE)
    write(student / "history.parquet", [{"step": 0, "loss": 1.0, f"loss/{HOSTILE}": 1.0}])
    scores = json.loads((student / "scores.json").read_text())
    edit(student / "scores.json", sets=scores["sets"] | {HOSTILE: {"rows": 1, HOSTILE: 0.5}})
    page = make_report(root, curves=True)
    assert page.count("<script") == 1 and "&lt;script&gt;" in page
    assert not [tag for tag, attributes in tags_of(page) if any(key.startswith("on") for key in attributes)]
    ElementTree.parse(root / "figures" / "training.svg")


def test_both_runtimes_are_told_and_tabled(structured):
    said = words(structured[1])
    told = (
        "2 students with smaller matrices of up to 50 % ran at 2.00 times the speed of the dense teacher at batch 1 and "
        "at 4.00 times at batch 32 in PyTorch eager, and at 2.00 times at batch 1 and at 4.00 times at batch 32 in onnxruntime."
    )
    assert told in said
    times = "5.00 ± 0.00 2.00 ± 0.00 5.0 ± 0.0 4.00 ± 0.00"
    assert f"sdp-cc (sdp) 50 % 2 123,457 {times} {times}" in said


def test_speeds_leave_out_the_teacher_and_the_control(two_seeds):
    root, _ = two_seeds
    (speed,) = speeds(read_results(root / "table.csv"))
    assert (speed.runtime, speed.batch) == ("PyTorch eager", 1)
    assert (speed.batch, speed.structured, speed.students, speed.sparsest, speed.none) == (1, False, 8, 0.975, True)
