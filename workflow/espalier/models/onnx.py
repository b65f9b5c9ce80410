"""ONNX: a model as one file for other runtimes, and such a file in onnxruntime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from espalier.data.tokenizer import reads_token_types
from espalier.models.classes import has_no_head
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

Inputs = dict[str, Int[Tensor, "batch length"]]
"""input_ids, attention_mask and, where the model has them, token_type_ids."""
Runner = Callable[[Inputs], object]
"""One forward pass."""

TOLERANCE = 1.0e-4
"""Largest difference between logits in ONNX and in PyTorch, both fp32. For logits above `LARGE` it grows in proportion."""
LARGE = 10.0
EACH_TOKEN = 5.0
"""Factor on it where every token has outputs: the largest of 100,000 rounding errors is some 5 times as large as of a few."""
CHECKED = ((1, 1), (2, 9), (7, 64), (32, 24), (2, 512))
"""Batch sizes and lengths at which logits are compared; a model with fewer positions gets rows of its full length."""
EXAMPLE = (2, 9)
"""Batch size and length of the pass that the exporter records; the written file takes any of both."""
OPSET = 20
"""Version of ONNX's operators; the first with GELU as one of them."""
LARGEST = 2**31 - 2**24
"""Bytes of weights that fit into one file: protobuf allows 2 GiB in all; 16 MiB are left for the graph."""
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def input_names(model: PreTrainedModel) -> list[str]:
    """Names of the model's inputs; token types only where the model has more than one."""
    return ["input_ids", "attention_mask", *(["token_type_ids"] if reads_token_types(model.config, model) else [])]


def output_names(model: PreTrainedModel) -> list[str]:
    """Names of the model's outputs: logits of rows or tokens, of an answer's start and of its end, or states of tokens."""
    if has_no_head(model):
        return ["last_hidden_state"]
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

    with atomic(path) as temporary:
        _record(model.eval(), temporary)
        _check(model, temporary, path)


def _record(model: PreTrainedModel, path: Path) -> None:
    """Write what a traced forward pass does; the exporter that builds on `torch.export` takes several times as long.

    A trace keeps what Python computes from the example's length as a constant. `_check` refuses a file where that matters.
    """
    rows = {0: "batch", 1: "length"}
    one_per_row = type(model).__name__.endswith("ForSequenceClassification")
    axes = dict.fromkeys(output_names(model), {0: "batch"} if one_per_row else rows)
    example = padded_batch(model, *EXAMPLE)
    alone = has_no_head(model)
    with quiet():
        torch.onnx.export(
            _States(model).eval() if alone else model,
            tuple(example[name] for name in input_names(model)) if alone else (),
            path,
            kwargs={} if alone else example,
            input_names=input_names(model),
            output_names=output_names(model),
            dynamic_axes=dict.fromkeys(input_names(model), rows) | axes,
            opset_version=OPSET,
            # folding stores matrices transposed, and so a vocabulary twice that inputs and outputs share
            do_constant_folding=model.get_output_embeddings() is None,
            dynamo=False,
        )
    _keep_inputs(path, input_names(model))


class _States(nn.Module):
    """An encoder without a head, of which a file has the states of the last layer alone: no vector of a pooler."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.names = input_names(model)

    def forward(self, *inputs: Int[Tensor, "batch length"]) -> Tensor:
        """The states, for inputs in the order of `input_names`."""
        return self.model(**dict(zip(self.names, inputs, strict=True))).last_hidden_state


def _keep_inputs(path: Path, names: list[str]) -> None:
    """Give a file the inputs that its trace has left out, because nothing reads them: a model without any head has no mask.

    So every file of a family takes the same inputs, and a program need not ask which.
    """
    file = onnx.load(path)
    present = {value.name: value for value in file.graph.input}
    if set(names) <= present.keys():
        return

    kind = onnx.TensorProto.INT64
    inputs = [present.get(name) or onnx.helper.make_tensor_value_info(name, kind, ["batch", "length"]) for name in names]
    del file.graph.input[:]
    file.graph.input.extend(inputs)
    onnx.save(file, path)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's warnings about its own internals; errors are still raised."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


@torch.inference_mode()
def _check(model: PreTrainedModel, written: Path, path: Path) -> None:
    session = onnx_session(written, PROVIDERS["cpu"])
    for batch, length in CHECKED:
        inputs = padded_batch(model, batch, min(length, token_limit(model)))
        outputs = model(**inputs)
        logits = torch.stack([outputs[name] for name in output_names(model)])
        onnx_logits = torch.from_numpy(np.stack(_outputs(session, inputs)))

        gap = float((logits - onnx_logits).abs().max())
        allowed = TOLERANCE * max(1.0, float(logits.abs().max()) / LARGE)
        if length > 1 and logits.shape[1:3] == inputs["input_ids"].shape:
            allowed *= EACH_TOKEN
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

    session = onnx_session(path, provider)
    return lambda inputs: _outputs(session, inputs)


def onnx_session(path: Path, provider: str) -> onnxruntime.InferenceSession:
    """A file, opened in onnxruntime on as many threads as torch uses.

    Args:
        path: the file.
        provider: what computes; one of `PROVIDERS`.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # threads that spin while they wait would slow down whatever runs next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=[provider])


def _outputs(session: onnxruntime.InferenceSession, inputs: Inputs) -> list[np.ndarray]:
    return session.run(None, {name: value.numpy(force=True) for name, value in inputs.items()})
