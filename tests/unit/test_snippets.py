"""Lines for every runtime and kind of task, as cards and `espalier choose` print them, run on real exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from espalier.commands import predict
from espalier.config.deployment.formats import FORMATS
from espalier.report.snippets import inputs_in, snippet
from espalier.runtime.errors import UserError
from espalier.runtime.files import read_json
from tests import exports
from tests.cards import run_lines

FORMATS_READ = ("torch", "onnx", "onnx-int8", "openvino")
COLUMNS = {"classification": ("text",), "regression": ("a", "b"), "span": ("question", "context")}
EXAMPLES = {
    "classification": ("a text",),
    "regression": ("a text", "the other text"),
    "span": ("a question", "its context"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    made = {}
    for kind, text in COLUMNS.items():
        formats = [name for name in FORMATS_READ if all(_installed(package) for package in FORMATS[name].packages)]
        student = exports.unequal(exports.stock(kind))
        made[kind] = exports.write_export(tmp_path_factory.mktemp(kind), student, exports.spec_of(kind, text), *formats)
    return made


def _installed(package: str) -> bool:
    try:
        __import__(package)
    except ImportError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("format", FORMATS_READ)
def test_lines_give_what_predict_gives(folders, tmp_path, kind, format):
    for package in FORMATS[format].packages:
        pytest.importorskip(package, reason=f"format {format} needs it")
    folder = folders[kind]
    rows = [exports.texts(6, seed) for seed in (1, 2)][: len(COLUMNS[kind])]
    if kind == "span":
        rows[0] = [text.split()[0] for text in rows[0]]

    lines = snippet(format, inputs_in(read_json(folder / "config.json")), str(folder))
    found = run_lines(lines, tmp_path, dict(zip(EXAMPLES[kind], rows, strict=True)))

    output = tmp_path / "answers.jsonl"
    texts = [(name, text) for name, words in zip(("--text", "--pair"), rows, strict=False) for text in words]
    options = [part for pair in texts for part in pair]
    predict.main([str(folder), *options, "--format", format, "--output", str(output)])
    answers = pd.read_json(output, lines=True)

    if kind == "span":
        assert found["answers"] == answers["answer"].astype(str).tolist()
        return

    logits = np.asarray(found["logits"].detach() if format == "torch" else found["logits"])
    # int8 in onnxruntime takes its ranges from the whole batch, and `predict` makes other batches
    tolerance = 0.1 if format == "onnx-int8" else 1e-4
    if kind == "regression":
        np.testing.assert_allclose(logits[:, 0], answers["prediction"], atol=tolerance, rtol=0)
    else:
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        columns = ["probability_low", "probability_middle", "probability_high"]
        np.testing.assert_allclose(answers[columns], expected, atol=tolerance, rtol=0)


def test_a_folder_of_an_earlier_version_is_refused():
    with pytest.raises(UserError, match="no section 'espalier': the folder was exported by an earlier version"):
        inputs_in({"model_type": "bert"})
