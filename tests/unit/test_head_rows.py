"""Models whose heads have lost single dimensions: logits of the masked model in every family, files, and ONNX."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import BertModel

from espalier.evaluation.cost import macs
from espalier.models.classes import as_stock
from espalier.models.encoder import count_weights
from espalier.models.files import open_student, write_compact
from espalier.models.modeling_espalier import HeadRows, family_of, shape_of
from espalier.models.onnx import write_onnx
from espalier.pruning.inside_heads.matrices import matrices_of, set_to_zero
from espalier.pruning.inside_heads.rows import full_row_masks
from espalier.pruning.parts import full_masks, heads_of, inner_of, is_ragged, masked_shape, queries_of, units_of, values_of
from espalier.pruning.shrink import shrink
from tests import tiny

WAYS = ("equal", "unequal")


def masks_for(model, way):
    """Equal heads keep 5, 4, 3 dimensions in the three layers, not the same ones; unequal ones anything; one head goes."""
    masks = full_row_masks(shape_of(model.config))
    generator = torch.Generator().manual_seed(3)
    for layer in range(3):
        queries, values = torch.zeros(4, 8, dtype=torch.bool), torch.zeros(4, 8, dtype=torch.bool)
        for head in range(4):
            for mask in (queries, values):
                count = 5 - layer if way == "equal" else int(torch.randint(1, 9, (1,), generator=generator))
                mask[head, torch.randperm(8, generator=generator)[:count]] = True
        if way == "unequal":
            queries[2] = False  # attends to all tokens alike
            values[1] = queries[1] = False  # gone
        masks |= {queries_of(layer): queries.flatten(), values_of(layer): values.flatten(), heads_of(layer): values.any(dim=1)}
        masks[units_of(layer)][5:9] = False
    return masks


def masked(model, masks):
    zeroed = copy.deepcopy(model)
    set_to_zero(matrices_of(zeroed), masks, None)
    return zeroed


@torch.no_grad()
def logits(model):
    return model(**tiny.padded_batch()).logits


@pytest.mark.parametrize("way", WAYS)
def test_the_compact_model_gives_the_masked_one_s_logits(double, variant, way):
    model = tiny.encoder(variant)
    masks = masks_for(model, way)
    small, size = shrink(model, masks), float(logits(model).abs().max())
    # DeBERTa takes the root of a head's size in single precision
    tolerance = 1e-5 if variant.startswith("deberta") else 1e-9
    assert (logits(small) - logits(masked(model, masks))).abs().max() <= tolerance * size
    assert (logits(small) - logits(model)).abs().max() > 0.01 * size, "the case changes nothing"
    assert shape_of(small.config) == masked_shape(shape_of(model.config), masks, rotary=family_of(model.config).rotary)

    # the file holds what is left, and another cut, of whole heads too, goes on from there
    kept = sum(int(matrix.along(masks).expand_as(matrix.weight).sum()) for matrix in matrices_of(model))
    assert count_weights(small) == kept
    again = full_row_masks(shape_of(small.config))
    again[heads_of(0)][0] = False
    queries, values = (flags[0].count("1") for flags in shape_of(small.config).heads_in(0)[1:])
    again[queries_of(0)][:queries] = again[values_of(0)][:values] = False
    again[values_of(1)][1] = False
    assert (logits(shrink(small, again)) - logits(masked(small, again))).abs().max() <= tolerance * size


def test_heads_that_go_as_a_whole_take_their_dimensions_with_them(double):
    model = tiny.encoder("bert")
    small = shrink(model, masks_for(model, "unequal"))
    parts = full_masks(shape_of(small.config))
    parts[heads_of(1)][0] = False
    less = shrink(small, parts)
    flags = shape_of(small.config).heads_in(1)
    assert inner_of(shape_of(less.config), 1)[1] == inner_of(shape_of(small.config), 1)[1] - flags.values[0].count("1")


@pytest.mark.parametrize("way", WAYS)
def test_an_encoder_without_a_head_is_cut_too(double, way):
    model = tiny.randomised(BertModel(tiny.encoder("bert").config))
    masks = masks_for(model, way)
    whole, small = (one(**tiny.padded_batch()).last_hidden_state for one in (masked(model, masks), shrink(model, masks)))
    assert (whole - small).abs().max() <= 1e-9 * whole.abs().max()


def test_rows_of_alike_heads_are_ordinary_attention():
    model = tiny.encoder("bert")
    small = shrink(model, masks_for(model, "equal"))
    shape = shape_of(small.config)
    assert shape.rows == (HeadRows(5), HeadRows(4), HeadRows(3)) and not any(is_ragged(shape, layer) for layer in range(3))
    assert small.bert.encoder.layer[2].attention.self.query.weight.shape == (12, 32)
    assert as_stock(small) is None
    assert macs(small, 10) == 10 * count_weights(small) + 2 * 100 * 4 * (5 + 4 + 3)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["bert", "deberta-v2", "distilbert", "modernbert"])
def test_the_file_opens_again_and_onnx_agrees(tmp_path, name, way):
    model = tiny.encoder(name, initializer_range=0.2)
    small = shrink(model, masks_for(model, way)).eval()
    files = [tmp_path / "config.json", tmp_path / "model.safetensors"]
    write_compact(small, *files, tmp_path / "modeling_espalier.py")
    opened = open_student(files, "classification").eval()
    assert shape_of(opened.config) == shape_of(small.config)
    assert torch.equal(logits(opened), logits(small))
    write_onnx(small, tmp_path / "model.onnx")  # compares logits at several sizes, and refuses a file that differs
