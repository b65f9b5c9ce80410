"""Write a student as a model that others can open: a checkpoint, an ONNX file and the tokenizer, checked by opening them."""

from __future__ import annotations

from pathlib import Path

import torch

from espalier.config.job_specs import ExportSpec
from espalier.deployment.sentences import write_sentence_files
from espalier.models.files import open_student, write_compact
from espalier.models.onnx import write_onnx
from espalier.runtime.errors import UserError
from espalier.runtime.files import copy_file, read_json


def run(
    spec: str,
    *,
    student: list[Path],
    tokenizer: list[Path],
    decisions: list[Path],
    config: Path,
    weights: Path,
    code: Path,
    onnx: Path,
    tokenizer_json: Path,
    tokenizer_config: Path,
    sentences: list[Path],
) -> None:
    """Write the compact folder; its logits must be the student's to the last bit, in ONNX to 1e-4.

    Args:
        spec: an `ExportSpec` as JSON.
        student, tokenizer: config.json and weights of the model, and the files of its tokenizer.
        decisions: decisions.json, where the task's kind decides something on held-out rows.
        config, weights, code, onnx, tokenizer_json, tokenizer_config: what is written.
        sentences: written, too: the files by which sentence-transformers opens a model that gives vectors; else none.
    """
    serving = ExportSpec.model_validate_json(spec)
    kind = serving.kind
    model = open_student(student, kind).eval()
    decided = {name: value for path in decisions for name, value in read_json(path).items()}
    write_compact(model, config, weights, code, serving.model_dump(mode="json", exclude_none=True) | decided)
    reopened = open_student([config, weights], kind).eval()
    ids = torch.arange(5, 5 + 4 * 16).view(4, 16) % model.config.vocab_size
    with torch.inference_mode():
        pairs = zip(model(input_ids=ids).to_tuple(), reopened(input_ids=ids).to_tuple(), strict=True)
        if not all(torch.equal(one, other) for one, other in pairs):
            raise UserError(f"{weights} does not give the student's logits after it was opened again")
    write_onnx(reopened, onnx)
    write_sentence_files(sentences, model.config.hidden_size, serving.max_length)
    files = {path.name: path for path in tokenizer}
    for name, target in (("tokenizer.json", tokenizer_json), ("tokenizer_config.json", tokenizer_config)):
        copy_file(files[name], target)
