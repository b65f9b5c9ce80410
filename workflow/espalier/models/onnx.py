"""ONNX: a model as one file for other runtimes, and such a file in onnxruntime."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

Inputs = dict[str, Int[Tensor, "batch length"]]
"""input_ids, attention_mask and, where the model has them, token_type_ids."""
Runner = Callable[[Inputs], object]
"""One forward pass."""

TOLERANCE = 1.0e-4
"""Largest difference between logits in ONNX and in PyTorch, both fp32. For logits above `LARGE` it grows in proportion."""
LARGE = 10.0
CHECKED = ((1, 1), (2, 9), (7, 64), (32, 24), (2, 512))
"""Batch sizes and lengths at which logits are compared; a model with fewer positions gets rows of its full length."""
EXAMPLE = (2, 9)
"""Batch size and length of the pass that the exporter records; the written file takes any of both."""
LARGEST = 2**31 - 2**24
"""Bytes of weights that fit into one file: protobuf allows 2 GiB in all; 16 MiB are left for the graph."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def input_names(model: PreTrainedModel) -> list[str]:
    """Names of the model's inputs; token types only where the model has more than one."""
    typed = "token_type_ids" in inspect.signature(model.forward).parameters and getattr(model.config, "type_vocab_size", 0) > 1
    return ["input_ids", "attention_mask", *(["token_type_ids"] if typed else [])]


def output_names(model: PreTrainedModel) -> list[str]:
    """Names of the model's outputs: logits of rows or tokens, or logits of an answer's start and of its end."""
    return ["start_logits", "end_logits"] if type(model).__name__.endswith("ForQuestionAnswering") else ["logits"]


def token_limit(model: PreTrainedModel) -> int:
    """The longest row that the model takes, in tokens."""
    for name, table in model.named_modules():
        if name.endswith(".position_embeddings") and isinstance(table, nn.Embedding):
            # a table with a padding index counts positions from the entry after it
            return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
    return model.config.max_position_embeddings


def padded_batch(model: PreTrainedModel, batch: int, length: int) -> Inputs:
    """Rows of random tokens from a fixed seed; the first row is the shortest, the last one has no padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (batch, length), generator=generator)

    # row i of n has ceil(i length / n) real tokens, i from 1
    real = torch.arange(length) < (torch.arange(1, batch + 1) * length / batch).ceil()[:, None]
    inputs = {"input_ids": ids.where(real, model.config.pad_token_id or 0), "attention_mask": real.long()}
    if "token_type_ids" in input_names(model):
        types = torch.randint(model.config.type_vocab_size, (batch, length), generator=generator)
        inputs["token_type_ids"] = types * real
    return inputs


def write_onnx(model: PreTrainedModel, path: Path) -> None:
    """Write a model with its weights as one ONNX file that takes rows of any number and length.

    The file carries neither paths of this machine nor the shapes of intermediate values, so that equal models give equal
    files and `onnxruntime.quantization` accepts them.

    Raises:
        UserError: the weights are too large for one file, or the file's logits differ from the model's.
    """
    size = sum(parameter.nbytes for parameter in model.parameters())
    if size > LARGEST:
        raise UserError(f"{path}: {size / 2**30:.2f} GiB of weights; one ONNX file holds {LARGEST / 2**30:.2f} GiB at most")

    model.eval()
    with _quiet():
        program = torch.onnx.export(
            model,
            kwargs=padded_batch(model, *EXAMPLE),
            dynamic_shapes={name: {0: "batch", 1: "length"} for name in input_names(model)},
            output_names=output_names(model),
            dynamo=True,
            verbose=False,
        )
    _strip(program)

    with atomic(path) as temporary:
        program.save(temporary, external_data=False)
        _check(model, temporary, path)


def _strip(program: torch.onnx.ONNXProgram) -> None:
    """Remove notes on the exporter's source, which hold paths of this machine, and shapes of intermediate values."""
    graph = program.model.graph
    inner = [value for node in graph for value in node.outputs if not value.is_graph_output()]
    for part in (graph, *graph, *inner, *graph.inputs, *graph.outputs, *graph.initializers.values()):
        part.metadata_props.clear()
    for value in (*inner, *graph.initializers.values()):
        value.shape = value.type = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about its own internals; errors are still raised."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


@torch.inference_mode()
def _check(model: PreTrainedModel, written: Path, path: Path) -> None:
    session = _session(written, PROVIDERS["cpu"])
    for batch, length in CHECKED:
        inputs = padded_batch(model, batch, min(length, token_limit(model)))
        outputs = model(**inputs)
        logits = torch.stack([outputs[name] for name in output_names(model)])
        onnx_logits = torch.from_numpy(np.stack(_outputs(session, inputs)))

        gap = float((logits - onnx_logits).abs().max())
        allowed = TOLERANCE * max(1.0, float(logits.abs().max()) / LARGE)
        # not `gap > allowed`, which is False for not-a-number
        if not gap <= allowed:
            shape = "x".join(map(str, inputs["input_ids"].shape))
            raise UserError(
                f"{path}: logits of a batch of {shape} tokens differ from PyTorch's by {gap:.2g}; allowed: {allowed:.2g}"
            )


def onnx_runner(path: Path, device: torch.device) -> Runner | None:
    """A forward pass in onnxruntime, on as many threads as torch uses; None where onnxruntime cannot use this device."""
    provider = PROVIDERS[device.type]
    if provider not in onnxruntime.get_available_providers():
        return None

    session = _session(path, provider)
    return lambda inputs: _outputs(session, inputs)


def _session(path: Path, provider: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # threads that spin while they wait would slow down whatever runs next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=[provider])


def _outputs(session: onnxruntime.InferenceSession, inputs: Inputs) -> list[np.ndarray]:
    return session.run(None, {name: value.numpy(force=True) for name, value in inputs.items()})
