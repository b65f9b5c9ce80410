"""One way to compute with a model, whatever its format: arrays of tokens in, arrays of logits out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from transformers import PreTrainedModel

from espalier.config.deployment.formats import FORMATS, Format, missing_packages
from espalier.config.kinds import Kind
from espalier.models.files import open_student
from espalier.models.onnx import PROVIDERS, input_names, onnx_session, output_names
from espalier.runtime.errors import UserError
from espalier.runtime.process import same_signal_stack

TokenArrays = Mapping[str, Int[np.ndarray, "_ _"]]
"""input_ids, attention_mask and, where they are at hand, token_type_ids: int64, padded, one row of tokens for each text."""
TYPES = "token_type_ids"
STATES = "last_hidden_state"
KNOWN_NAMES = ("input_ids", "attention_mask", TYPES, "logits", "start_logits", "end_logits", STATES)
"""Names of inputs and outputs."""
OPENVINO_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
"""By itself OpenVINO computes in bf16 on a CPU that has it, which moves logits by 1e-2: a score must not depend on that."""


@dataclass(frozen=True)
class FormatRunner:
    """A model, opened in one format. A call makes one forward pass on the CPU, on as many threads as torch uses."""

    format: Format
    inputs: tuple[str, ...]
    """Names of the arrays that the model reads."""
    outputs: tuple[str, ...]
    """Names of its outputs: `logits`, or `start_logits` and `end_logits`, or the states of an encoder without a head."""
    compute: Callable[[dict[str, np.ndarray]], list[np.ndarray]]
    """The model's inputs → its outputs, in the order of `outputs`."""

    def __call__(self, arrays: TokenArrays) -> dict[str, Float[np.ndarray, "_ ..."]]:
        """The outputs for a batch, fp32."""
        return dict(zip(self.outputs, self.compute(read_arrays(arrays, self.inputs)), strict=True))


def read_arrays(arrays: TokenArrays, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of a batch that a model reads.

    Token types that it reads and that are not given are zero, as everywhere in transformers.
    """
    given = {TYPES: np.zeros_like(arrays["input_ids"]), **arrays}
    return {name: given[name] for name in names}


def open_format(folder: Path, format: Format, kind: Kind) -> FormatRunner:
    """Open the model of a folder in one of its formats.

    Args:
        folder: `compact/` or another folder of that layout.
        format: one that the folder has.
        kind: of the model's task.

    Raises:
        UserError: the folder lacks the format, or a package that opens it is not installed.
    """
    need_packages(format)
    weights = FORMATS[format].weights
    if missing := [name for name in weights if not (folder / name).is_file()]:
        there = [name for name, served in FORMATS.items() if all((folder / file).is_file() for file in served.weights)]
        raise UserError(f"{folder}: no {missing[0]}, so no format {format}; formats here: {', '.join(there) or 'none'}")

    opened = {"PyTorch": _open_torch, "onnxruntime": _open_onnx, "OpenVINO": _open_openvino}
    return opened[FORMATS[format].runtime](folder, format, kind)


def need_packages(format: Format) -> None:
    """Make sure that a format can be written and opened here.

    Raises:
        UserError: a package is not installed.
    """
    if problem := missing_packages(format):
        raise UserError(problem)


def _open_torch(folder: Path, format: Format, kind: Kind) -> FormatRunner:
    model = open_student([folder / "config.json", folder / "model.safetensors"], kind).eval()
    return torch_runner(model, format)


def torch_runner(model: PreTrainedModel, format: Format = "torch") -> FormatRunner:
    """A model in PyTorch, eager, in the precision and on the device that it has."""
    names = output_names(model)

    @torch.inference_mode()
    def compute(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        outputs = model(**{name: torch.from_numpy(array).to(model.device) for name, array in inputs.items()})
        return [outputs[name].float().numpy(force=True) for name in names]

    return FormatRunner(format, tuple(input_names(model)), tuple(names), compute)


def _open_onnx(folder: Path, format: Format, kind: Kind) -> FormatRunner:
    session = onnx_session(folder / FORMATS[format].weights[0], PROVIDERS["cpu"])
    inputs, outputs = (tuple(value.name for value in values) for values in (session.get_inputs(), session.get_outputs()))
    return FormatRunner(format, inputs, outputs, lambda arrays: session.run(None, arrays))


def _open_openvino(folder: Path, format: Format, kind: Kind) -> FormatRunner:
    settings = {**OPENVINO_SETTINGS, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    with same_signal_stack():
        model = openvino_package().Core().compile_model(folder / FORMATS[format].weights[0], "CPU", settings)
        request = model.create_infer_request()

    inputs, outputs = (tuple(openvino_name(value) for value in values) for values in (model.inputs, model.outputs))
    return FormatRunner(format, inputs, outputs, lambda arrays: list(request.infer(arrays, share_inputs=True).values()))


def openvino_name(value: Any) -> str:
    """The name of an input or output that the model's other formats know; OpenVINO may have further ones for it."""
    return next(name for name in value.get_names() if name in KNOWN_NAMES)


def openvino_package() -> Any:
    """The package openvino, which only those need who serve models in it."""
    return import_module("openvino")
