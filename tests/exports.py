"""Exported folders of tiny models, as the stages `export` and `deploy` write them: stock, and with layers of unequal size."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from espalier.config.deployment.formats import EXPORTED, Format
from espalier.config.job_specs import ExportSpec
from espalier.data.tokenizer import open_tokenizer
from espalier.deployment.conversion import write_format
from espalier.models.files import write_model
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.parts import full_masks
from espalier.pruning.shrink import shrink
from espalier.stages.models import export
from tests import tagged, tiny

CLASSES = {"id2label": {0: "low", 1: "middle", 2: "high"}, "label2id": {"low": 0, "middle": 1, "high": 2}}
TAGS = {"id2label": dict(enumerate(tagged.CLASSES)), "label2id": {name: index for index, name in enumerate(tagged.CLASSES)}}
OUTPUTS = {
    "config": "config.json",
    "weights": "model.safetensors",
    "code": "modeling_espalier.py",
    "onnx": "onnx/model.onnx",
    "tokenizer_json": "tokenizer.json",
    "tokenizer_config": "tokenizer_config.json",
}
LENGTH = 16
"""Tokens of a row: some of the tests' texts are longer."""


def spec_of(kind: str, text: tuple[str, ...] = ("text",)) -> ExportSpec:
    """What the stage reads of a task on these columns."""
    windows = {"stride": 6, "max_answer_length": 8} if kind == "span" else {}
    return ExportSpec(task="mine", kind=kind, text=text, max_length=LENGTH, **windows)


def stock(kind: str = "classification") -> PreTrainedModel:
    """A dense model whose answers differ from row to row."""
    if kind == "span":
        return tiny.answerer().eval()
    if kind == "tokens":
        return tagged.tagger(**TAGS).eval()
    return tiny.classifier(**(CLASSES if kind == "classification" else {"classes": 1})).eval()


def unequal(model: PreTrainedModel) -> PreTrainedModel:
    """The same with heads, FFN units, a whole FFN and hidden dimensions cut away, as CoFi leaves a student."""
    masks = full_masks(shape_of(model.config))
    masks["layer.0.heads"][1:] = False
    masks["layer.0.ffn"][:40] = False
    masks["layer.1.ffn"][:] = False
    masks["hidden"][::7] = False
    return shrink(copy.deepcopy(model), masks).eval()


def write_export(folder: Path, model: PreTrainedModel, spec: ExportSpec, *formats: Format) -> Path:
    """Run the stage `export` on a model, and convert the folder to further formats; returns the folder."""
    base, student = tiny.write_base(folder / "base"), folder / "student"
    # as `fetch` keeps it: it gives what the base beside it reads
    open_tokenizer([base / "tokenizer.json"], LENGTH).save_pretrained(base)
    write_model(model, student / "config.json", student / "model.safetensors")
    compact = folder / "compact"
    export.run(
        spec.model_dump_json(),
        student=[student / "config.json", student / "model.safetensors"],
        tokenizer=[base / "tokenizer.json", base / "tokenizer_config.json"],
        decisions=[],
        sentences=[],
        **{name: compact / file for name, file in OUTPUTS.items()},
    )

    calibration = [{name: values[None] for name, values in row.items()} for row in _rows(32)]
    for format in set(formats) - set(EXPORTED):
        write_format(compact, format, calibration, "int8")
    return compact


def _rows(count: int) -> list[dict[str, np.ndarray]]:
    """Rows of random words for calibration."""
    generator = np.random.default_rng(1)
    rows = []
    for _ in range(count):
        ids = np.array([2, *generator.integers(4, 64, 10), 3])
        rows.append({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)})
    return rows


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts of two to twenty known words."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(tiny.WORDS, generator.integers(2, 20))) for _ in range(count)]
