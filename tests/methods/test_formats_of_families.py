"""The behaviour matrix by formats: pruned models of every family open in every runtime, and agree."""

from __future__ import annotations

import pytest

from espalier.config.deployment.formats import FORMATS
from espalier.deployment.conversion import write_format
from espalier.deployment.runtimes import open_format
from espalier.models.modeling_espalier import shape_of
from espalier.pruning.inside_heads.rows import full_row_masks
from espalier.pruning.parts import full_masks, queries_of, values_of
from espalier.pruning.shrink import shrink
from tests import tiny
from tests.served import asked, gap, padded, write_folder

pytestmark = pytest.mark.slow
TOLERATED = {"onnx": 1e-5, "openvino": 1e-5, "onnx-int8": 0.15, "openvino-int8": 0.3}
"""Mean distance of logits from PyTorch's, as a fraction of their spread, that a random model of three layers stays below."""
ROUGHER = ("nomic_bert", "gte", "gte, no token types")
"""Variants whose FFN multiplies two matrices' outputs, both rounded: int8 may be twice as far off."""


def pruned(variant):
    """A model whose layers have lost different parts: one head, half of the units, a hidden dimension."""
    dense = tiny.encoder(variant, **({} if variant in ROUGHER else {"initializer_range": 0.2}))
    masks = full_masks(shape_of(dense.config))
    masks["layer.0.heads"][1] = masks["hidden"][5] = False
    masks["layer.1.ffn"][::2] = False
    return shrink(dense, masks).eval()


def narrowed(variant):
    """A model whose heads have lost unequal numbers of dimensions."""
    dense = tiny.encoder(variant, initializer_range=0.2)
    masks = full_row_masks(shape_of(dense.config))
    masks[queries_of(0)][::3] = masks[values_of(1)][5:9] = masks[values_of(2)][1::2] = False
    return shrink(dense, masks).eval()


@pytest.mark.parametrize("variant", list(tiny.VARIANTS))
def test_every_format_of_a_pruned_model_agrees(tmp_path, variant):
    all_formats_agree(tmp_path, variant, pruned(variant))


@pytest.mark.parametrize("variant", ["bert", "deberta-v2", "distilbert", "modernbert"])
def test_every_format_of_a_model_with_unlike_heads_agrees(tmp_path, variant):
    all_formats_agree(tmp_path, variant, narrowed(variant))


def all_formats_agree(tmp_path, variant, model):
    folder = write_folder(tmp_path, model)
    expected = open_format(folder, "torch", "classification")

    for format, tolerated in TOLERATED.items():
        write_format(folder, format, asked(model, 16), "int8")
        runner = open_format(folder, format, "classification")
        distance = gap(runner, expected, [padded(asked(model, 32, seed=1))])
        assert distance < (2 * tolerated if variant in ROUGHER and "int8" in format else tolerated), format
    assert {"torch", *TOLERATED} == FORMATS.keys()
