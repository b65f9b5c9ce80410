"""Formats in which models are served: written, opened, scored in their own runtime, compared, timed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from espalier.config.deployment.formats import EXPORTED, FORMATS, converted_files
from espalier.config.deployment.specs import DeploySpec
from espalier.config.job_specs import TokeniseSpec
from espalier.config.project import Measure
from espalier.deployment import timing
from espalier.deployment.conversion import write_format
from espalier.deployment.rows import rows_for
from espalier.deployment.runtimes import FormatRunner, open_format
from espalier.deployment.scoring import scored
from espalier.evaluation import cost
from espalier.kinds.base import task_kind
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json, write_json
from espalier.stages.models import deploy
from tests import tagged, tiny
from tests.methods import on_text
from tests.served import asked, gap, models, padded, write_folder

pytestmark = pytest.mark.slow

CONVERTED = [name for name in FORMATS if name not in EXPORTED]
TOLERATED = {"onnx": 1e-4, "openvino": 1e-4, "onnx-int8": 0.15, "openvino-int8": 0.3}
"""Mean distance of logits from PyTorch's, as a fraction of their spread, that a random model of two layers stays below."""
KINDS = ("classification", "regression", "span", "text", "tokens")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory):
    """Kind of task → a folder with a model of it in every format."""
    root, written = tmp_path_factory.mktemp("served"), {}
    for kind, model in models().items():
        written[kind] = write_folder(root / kind, model, base)
        for format in CONVERTED:
            write_format(written[kind], format, asked(model, 24), "int8")
    return written


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_model_s_logits(folders, kind, format):
    """Rows alone, and padded beside longer ones: neither was seen when the ranges of activations were measured."""
    runner, torch = (open_format(folders[kind], name, kind) for name in (format, "torch"))
    rows = asked(models()[kind], rows=16, seed=1)
    assert gap(runner, torch, rows) < TOLERATED[format]
    assert gap(runner, torch, [padded(rows)]) < TOLERATED[format]
    assert set(runner.outputs) == ({"start_logits", "end_logits"} if kind == "span" else {"logits"})


@pytest.mark.parametrize("kind", KINDS)
def test_all_matrices_and_tables_are_int8(folders, kind):
    """Six matrices a layer, and those of pooler and head; the word table of a text model is a matrix, too."""
    graph = onnx.load(folders[kind] / "onnx/model_int8.onnx").graph
    above = {"classification": 2, "regression": 2, "span": 1, "text": 2, "tokens": 1}[kind]
    assert Counter(node.op_type for node in graph.node)["MatMulInteger"] == 2 * 6 + above
    floats = [value for value in graph.initializer if value.data_type == onnx.TensorProto.FLOAT]
    assert max(np.prod(value.dims, dtype=int) for value in floats) <= 64, "no matrix is left in fp32"


@pytest.mark.parametrize("format", ["onnx-int8", "openvino-int8"])
def test_embedding_tables_stay_fp32_where_that_is_asked_for(base, tmp_path, format):
    model = tiny.classifier(vocab_size=2000)
    folder = write_folder(tmp_path, model, base)
    sizes = {}
    for numbers in ("int8", "fp32"):
        write_format(folder, format, asked(model, 8), numbers)
        sizes[numbers] = sum((folder / name).stat().st_size for name in FORMATS[format].weights)
    table = 2000 * 32
    assert 2.8 * table < sizes["fp32"] - sizes["int8"] < 3.2 * table, "three of four bytes a number; scales add some"


def test_token_types_that_are_not_given_are_zero(folders):
    rows = asked(models()["classification"], 1)[0]
    runner = open_format(folders["classification"], "onnx-int8", "classification")
    without = {name: array for name, array in rows.items() if name != "token_type_ids"}
    np.testing.assert_array_equal(runner(rows)["logits"], runner(without)["logits"])


def test_files_lie_where_clients_look_for_them(folders):
    folder = folders["classification"]
    assert (folder / "onnx/model_quantized.onnx").read_bytes() == (folder / "onnx/model_int8.onnx").read_bytes()
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("o*/*")} == {
        "onnx/model.onnx",
        *converted_files(FORMATS),
    }
    assert converted_files(["torch", "onnx"]) == []


def test_what_a_folder_lacks_is_said_with_what_it_has(base, tmp_path):
    folder = write_folder(tmp_path, tiny.classifier(), base)
    with pytest.raises(UserError, match=r"no openvino/openvino_model.xml, so no format openvino; formats here: torch, onnx$"):
        open_format(folder, "openvino", "classification")


def test_a_package_that_is_missing_is_named(folders, monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr("espalier.config.deployment.formats.find_spec", lambda name: None if name == "nncf" else there(name))
    with pytest.raises(UserError, match=r"format openvino-int8 needs the package nncf.*`pip install nncf`"):
        write_format(folders["classification"], "openvino-int8", [], "int8")
    open_format(folders["classification"], "openvino", "classification")


def table_of(column):
    return pd.DataFrame({"set": "validation", "prediction": column})


@pytest.mark.parametrize(
    ("kind", "own", "reference", "expected"),
    [
        ("classification", [0, 1, 2, 2], [0, 1, 1, 2], 0.75),
        ("span", ["a b", "c"], ["a b", "d"], 0.5),
        ("tokens", ["O", "B-X", "I-X", "O"], ["O", "B-X", "O", "O"], 0.75),
        ("regression", [1.0, 2.0, 3.0], [10.0, 20.0, 30.0], 1.0),
        ("regression", [1.0, 2.0, 3.0], [3.0, 2.0, 1.0], -1.0),
        ("regression", [2.0, 2.0, 2.0], [3.0, 2.0, 1.0], 0.0),
        ("text", [np.array([1, 2]), np.array([3])], [np.array([1, 5]), np.array([3])], 2 / 3),
    ],
)
def test_agreement(kind, own, reference, expected):
    assert task_kind(kind).agreement(table_of(own), table_of(reference)) == pytest.approx(expected)


def write_words(folder, kind):
    """Prepared rows, in words, for training and evaluation; packed ones for text."""
    if kind == "text":
        on_text.write_task(folder)
        return [folder / f"{name}.arrow" for name in ("train", "evaluation")]
    if kind == "tokens":
        tagged.write_task(folder, 40)
        return [_in_two_sets(folder / f"{name}-rows.parquet") for name in ("train", "evaluation")]
    paths = []
    for seed, (name, count) in enumerate((("train", 40), ("evaluation", 60))):
        generator = np.random.default_rng(seed)
        if kind == "span":
            columns = pd.DataFrame(tiny.span_rows(count, seed)).to_dict("list")
        else:
            texts = [" ".join(generator.choice(tiny.WORDS, generator.integers(3, 12))) for _ in range(count)]
            labels = generator.integers(0, 3, count) if kind == "classification" else generator.normal(size=count)
            columns = {"text_a": texts, "label": labels}
        if name == "evaluation":
            columns["set"] = ["first"] * (count // 2) + ["second"] * (count - count // 2)
        paths.append(folder / f"{name}.parquet")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), paths[-1])
    return paths


def _in_two_sets(path):
    """A table of prepared rows; those of an evaluation table in two sets."""
    table = pq.read_table(path)
    if "set" in table.column_names:
        half = table.num_rows // 2
        sets = pa.array(["first"] * half + ["second"] * (table.num_rows - half))
        pq.write_table(table.set_column(table.column_names.index("set"), "set", sets), path)
    return path


METRICS = {
    "tokens": ("entity-f1", "accuracy"),
    "classification": ("accuracy", "macro-f1"),
    "regression": ("pearson",),
    "span": ("squad-f1", "exact-match"),
    "text": ("masked-accuracy", "perplexity"),
}


def settings(kind, formats):
    length = 16 if kind == "text" else 24
    stride, answer = (6, 8) if kind == "span" else (None, None)
    rows = TokeniseSpec(kind=kind, max_length=length, stride=stride, max_answer_length=answer)
    measure = Measure(batch_sizes=(1, 3), length=8, repeats=3)
    return DeploySpec(rows=rows, metrics=METRICS[kind], formats=tuple(formats), embeddings="int8", measure=measure)


def deployed(kind, folder, rows, dense, formats, out):
    """The content of the file that the stage writes."""
    spec, first = settings(kind, formats), "validation" if kind == "text" else "first"
    sets, predictions = scored(open_format(folder, "torch", kind), kind, rows_for(folder, spec.rows, rows[1]), spec.metrics)
    write_json(out / "scores.json", {"score": sets[first][spec.metrics[0]], "metric": spec.metrics[0], "set": first})
    predictions.to_parquet(out / "predictions.parquet")
    deploy.run(
        spec.model_dump_json(),
        model=[folder / "config.json", folder / "onnx/model.onnx"],
        dense=[dense / "onnx/model.onnx", dense / "config.json"] if dense else [],
        rows=rows,
        scores=out / "scores.json",
        predictions=out / "predictions.parquet",
        deployment=out / "compact.json",
        converted=[folder / name for name in converted_files(formats)],
    )
    return read_json(out / "compact.json"), sets


@pytest.mark.parametrize("kind", KINDS)
def test_the_stage_scores_compares_and_times_every_format(base, folders, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(cost, "TIMED_SECONDS", 0.02)
    monkeypatch.setattr(deploy, "CALIBRATION_ROWS", 8)
    # measuring ranges takes most of the time, and goes through the same code for all kinds with labels
    formats = [name for name in FORMATS if name != "openvino-int8" or kind in ("classification", "text")]
    rows = write_words(tmp_path / "rows", kind)
    folder = write_folder(tmp_path / "compact", models()[kind], base)
    content, sets = deployed(kind, folder, rows, folders[kind], formats, tmp_path)

    assert list(content["formats"]) == formats and content["metric"] == METRICS[kind][0]
    for name, values in content["formats"].items():
        assert values["sets"].keys() == sets.keys() and values["drop"] == pytest.approx(content["score"] - values["score"])
        assert values["latency_ms"].keys() == values["speedup"].keys() == {"b1_l8", "b1_lrows", "b3_l8", "b3_lrows"}
        assert all(0 < times["median"] <= times["p95"] for times in values["latency_ms"].values())
        weights = sum((folder / file).stat().st_size for file in FORMATS[name].weights)
        assert values["size_mib"] == pytest.approx(weights / 2**20) and values["total_mib"] > values["size_mib"]
        if "int8" not in name:
            assert values["agreement"] == pytest.approx(1.0) and values["drop"] == pytest.approx(0.0, abs=1e-6)
        else:
            assert 0.7 < values["agreement"] <= 1.0, "rounded, and still the same model"


def test_the_dense_model_is_timed_against_itself(base, tmp_path, monkeypatch):
    """PyTorch is the denominator whether or not it is one of the formats."""
    monkeypatch.setattr(cost, "TIMED_SECONDS", 0.02)
    rows = write_words(tmp_path / "rows", "classification")
    folder = write_folder(tmp_path / "compact", tiny.classifier(), base)
    content, _ = deployed("classification", folder, rows, None, ["onnx"], tmp_path)
    assert list(content["formats"]) == ["onnx"]
    assert set(content["formats"]["onnx"]["same_runtime_speedup"].values()) == {1.0}
    assert set(content["formats"]["onnx"]["speedup"].values()) != {1.0}


def test_models_of_one_runtime_take_turns_side_by_side(monkeypatch):
    calls = []
    monkeypatch.setattr(cost, "TIMED_SECONDS", 0.0)
    monkeypatch.setattr(cost, "WARMUP", 0)

    def runners(model):
        def compute(format):
            return lambda inputs: [np.float32(calls.append((model, format, inputs["input_ids"].item())) or [0.0])]

        return {format: FormatRunner(format, ("input_ids",), ("logits",), compute(format)) for format in ("torch", "onnx")}

    first, second, third = ({"input_ids": np.array([[number]])} for number in (1, 2, 3))
    times = timing.times_of((runners("own"), {"b1_l8": [first, second]}), (runners("dense"), {"b1_l8": [third]}), repeats=2)
    turn = [("own", "torch"), ("dense", "torch"), ("own", "onnx"), ("dense", "onnx")]
    assert [call[:2] for call in calls] == turn + turn
    assert [call[2] for call in calls] == [1, 3, 1, 3, 2, 3, 2, 3]
    assert times.keys() == {"torch", "onnx"}


def test_the_same_rows_are_sampled_for_every_tokenizer(base, folders, tmp_path):
    rows = write_words(tmp_path, "classification")[0]
    spec = settings("classification", []).rows
    folder = folders["classification"]
    sampled, whole = rows_for(folder, spec, rows, 10), rows_for(folder, spec, rows)
    assert len(sampled) == 10 and len(whole) == 40 == len(rows_for(folder, spec, rows, 1000))
    assert json.dumps(sampled.labels.tolist()) == json.dumps(rows_for(folder, spec, rows, 10).labels.tolist())


STACK = """
import ctypes, sys
from pathlib import Path
from espalier.deployment.runtimes import open_format

runner = open_format(Path(sys.argv[1]), "openvino", "classification")
stack = (ctypes.c_size_t * 3)()
ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
print(stack[0], stack[1] & 0xFFFFFFFF)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the layout of stack_t is that of Linux")
def test_a_model_in_openvino_leaves_no_stack_for_signals_that_it_would_free(folders):
    """The CPU plugin's own stack goes with it, and the next signal that Python handles would crash the process."""
    command = [sys.executable, "-c", STACK, str(folders["classification"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "0 2\n", f"SS_DISABLE: none. {done.stderr[-2000:]}"
