"""Writing a model's further formats beside the ones that `export` wrote."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from espalier.config.deployment.formats import EXPORTED, FORMATS, ONNX_FILE, Format
from espalier.config.deployment.settings import Embeddings, WeightBits
from espalier.deployment.runtimes import TokenArrays, need_packages, openvino_name, openvino_package, read_arrays
from espalier.models.onnx import quiet
from espalier.runtime.files import atomic
from espalier.runtime.process import same_signal_stack


def write_format(
    folder: Path, format: Format, calibration: Sequence[TokenArrays], embeddings: Embeddings, weight_bits: WeightBits = 7
) -> None:
    """Write one format into a model's folder, from its ONNX file; nothing for a format that `export` writes.

    Args:
        folder: with `onnx/model.onnx`.
        format: what to write.
        calibration: training rows, each a batch, on which ranges of activations are measured; read where the format is
            calibrated.
        embeddings: numbers of the embedding tables; int8 formats read it.
        weight_bits: bits of a weight that int8 formats use; with 7 no sum of products overflows on any CPU.

    Raises:
        UserError: a package is not installed.
    """
    need_packages(format)
    source, paths = folder / ONNX_FILE, [folder / name for name in FORMATS[format].weights]
    if format == "onnx-int8":
        with atomic(paths[0]) as temporary:
            _quantise_onnx(source, temporary, embeddings, weight_bits)
    elif format not in EXPORTED:
        model = openvino_package().Core().read_model(source)
        if format == "openvino-int8":
            model = _quantised_openvino(model, calibration, embeddings, weight_bits)
        # the graph's temporary name gives the temporary name of its weights, since they differ by the ending alone
        graph, weights = paths
        with atomic(weights), atomic(graph) as temporary:
            openvino_package().save_model(model, temporary, compress_to_fp16=False)

    for name in FORMATS[format].copies:
        with atomic(folder / name) as temporary:
            # one file under two names: the formats are replaced by new files and never changed in place
            os.link(paths[0], temporary)


def _quantise_onnx(source: Path, target: Path, embeddings: Embeddings, weight_bits: WeightBits) -> None:
    """Weights in int8, one scale a column; ranges of activations are measured anew for every batch.

    Source: onnxruntime, "Quantize ONNX models", dynamic quantisation. An embedding table has one scale.
    """
    model = onnx.load(source)
    _turn_weights(model)
    # the shapes that an exporter has noted may contradict those that the quantiser works out
    del model.graph.value_info[:]

    operators = ["MatMul", "Gemm", *(["Gather"] if embeddings == "int8" else [])]
    with quiet():
        quantize_dynamic(model, target, operators, per_channel=True, weight_type=QuantType.QInt8, reduce_range=weight_bits == 7)


def _turn_weights(model: onnx.ModelProto) -> None:
    """Transpose weights in the file rather than in every pass: the quantiser knows no others."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    turns = [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in stored]

    for node in turns:
        order = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
        turned = numpy_helper.to_array(stored[node.input[0]]).transpose(order)
        graph.initializer.append(numpy_helper.from_array(turned.copy(), node.output[0]))
        graph.node.remove(node)

    read = {name for node in graph.node for name in node.input}
    for name in {node.input[0] for node in turns} - read:
        graph.initializer.remove(stored[name])


def _quantised_openvino(model: Any, calibration: Sequence[TokenArrays], embeddings: Embeddings, weight_bits: WeightBits) -> Any:
    """Weights and activations in int8; ranges of activations are measured on the calibration rows.

    Source: NNCF, post-training quantisation with model type transformer.
    """
    nncf = _nncf()
    names = [openvino_name(value) for value in model.inputs]
    rows = nncf.Dataset([read_arrays(arrays, names) for arrays in calibration])
    half = nncf.OverflowFix.ENABLE if weight_bits == 7 else nncf.OverflowFix.DISABLE
    with same_signal_stack():
        return nncf.quantize(
            model,
            rows,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
            # a model may have no such operator that could be left out
            ignored_scope=None if embeddings == "int8" else nncf.IgnoredScope(types=["Gather"], validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=half),
        )


def _nncf() -> Any:
    """The package nncf, which sends notes on its use to its makers unless it believes that it runs in a test."""
    os.environ.setdefault("NNCF_CI", "1")
    return import_module("nncf")
