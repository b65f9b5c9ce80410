"""The block `deploy`: in which formats models are served, and how large their embeddings are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from espalier.config.blocks import Block, Many
from espalier.config.deployment.embeddings import Factorise, KeptVocabulary
from espalier.config.deployment.formats import Format

Embeddings = Literal["int8", "fp32"]
"""Numbers of the embedding tables in int8 formats."""
WeightBits = Literal[7, 8]
"""Bits of a weight in int8 formats."""


class Deploy(Block):
    """Formats in which every model is served, the dense teacher among them. Each one is scored again in its own runtime on
    every evaluation set, timed beside the dense model, and compared with the predictions of the fp32 model."""

    formats: Annotated[tuple[Format, ...], Many] = ("torch", "onnx", "onnx-int8")
    """Formats to write, score and time. An empty list leaves models as they are exported, in PyTorch and ONNX, without a
    comparison. int8 in onnxruntime computes the ranges of activations anew for every batch; int8 in OpenVINO measures them
    before, on training rows. [ours]"""
    max_drop: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01
    """Largest loss of score against the same model in PyTorch and fp32. A format that loses more is marked as failed in table,
    card and report, and is not offered. [score; ours]"""
    embeddings: Embeddings = "int8"
    """Numbers of the embedding tables in int8 formats. In small models these tables are most of the file. [ours]"""

    weight_bits: WeightBits = 7
    """Bits of a weight that int8 formats use. x86 CPUs without VNNI add products of 8 bits in 16, which may overflow: scores
    then fall far. 7 is right on every CPU; 8 rounds half as coarsely, for CPUs with VNNI, and Arm. Both give files of one size.
    [bits; ours: reduce_range of onnxruntime, overflow_fix of NNCF]"""

    vocabulary: KeptVocabulary | None = None
    """Tokens that models keep; null leaves the vocabulary whole. Where it is given, or factorise, every model also has a folder
    trimmed beside compact, in the same formats. [ours]"""
    factorise: Factorise | None = None
    """Store the word table as a product of two smaller ones; null stores it as it is. Models of text tasks keep their table,
    because it gives their outputs, too, and so does a model whose table the product would not make smaller. [ours]"""

    @property
    def trims(self) -> bool:
        """Whether models with smaller embeddings are made."""
        return self.vocabulary is not None or self.factorise is not None

    @field_validator("formats")
    @classmethod
    def _once(cls, formats: tuple[Format, ...]) -> tuple[Format, ...]:
        if len(set(formats)) < len(formats):
            raise ValueError(f"a format occurs twice, got {', '.join(formats)}")
        return formats
