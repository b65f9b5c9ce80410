"""Formats in which a model can be served, and the files that hold them in a model's folder.

The names of the files are those that transformers.js, sentence-transformers and the hub's tools look for.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Literal, NamedTuple

Format = Literal["torch", "onnx", "onnx-int8", "openvino", "openvino-int8"]
"""A format, named by its runtime and the numbers that it computes with: int8 where the name says so, fp32 elsewhere."""


class ServedFormat(NamedTuple):
    """One format: what opens it, and which files it needs."""

    runtime: str
    """The runtime in words."""
    packages: tuple[str, ...]
    """Python packages that write the format and compute with it, besides those that every installation has."""
    weights: tuple[str, ...]
    """Files with the weights, and with the graph where that is a file of its own; paths in the model's folder."""
    copies: tuple[str, ...] = ()
    """Further names of the first of these files, for clients that look for it there."""
    calibrated: bool = False
    """Whether writing it reads training rows, on which ranges of activations are measured."""


ONNX_FILE = "onnx/model.onnx"
POOLING = "1_Pooling/config.json"
SENTENCE_FILES = ("modules.json", POOLING, "sentence_bert_config.json")
"""By which sentence-transformers opens a model that gives vectors."""
FORMATS: dict[Format, ServedFormat] = {
    "torch": ServedFormat("PyTorch", (), ("model.safetensors",)),
    "onnx": ServedFormat("onnxruntime", (), (ONNX_FILE,)),
    "onnx-int8": ServedFormat("onnxruntime", (), ("onnx/model_int8.onnx",), ("onnx/model_quantized.onnx",)),
    "openvino": ServedFormat("OpenVINO", ("openvino",), ("openvino/openvino_model.xml", "openvino/openvino_model.bin")),
    "openvino-int8": ServedFormat(
        "OpenVINO",
        ("openvino", "nncf"),
        ("openvino/openvino_model_int8.xml", "openvino/openvino_model_int8.bin"),
        calibrated=True,
    ),
}
"""Every format. `torch` and `onnx` are written by `export`, the others by `deploy`."""
EXPORTED: tuple[Format, ...] = ("torch", "onnx")
"""Formats that every model has as soon as it is exported."""


def converted_files(formats: Iterable[Format]) -> list[str]:
    """Files that `deploy` writes into a model's folder for these formats, in the order of `FORMATS`."""
    wanted = [FORMATS[name] for name in FORMATS if name in set(formats) - set(EXPORTED)]
    return [file for served in wanted for file in (*served.weights, *served.copies)]


def missing_packages(format: Format) -> str | None:
    """What to say where a package that a format needs is not installed here; otherwise None."""
    missing = " ".join(package for package in FORMATS[format].packages if find_spec(package) is None)
    return (
        f"format {format} needs the package {missing}, which is not installed here: `pip install {missing}`"
        if missing
        else None
    )
