"""Rows that go through a model layer by layer see what they see in one forward pass; least squares are numpy's."""

import numpy as np
import pytest
import torch

from espalier.data.batches import Batch
from espalier.models.modeling_espalier import family_of, find
from espalier.pruning.calibrated.least_squares import Moments, best_matrix, best_scales
from espalier.pruning.calibrated.refit import moments_of
from espalier.pruning.calibrated.streams import Stream
from espalier.pruning.parts import SUBLAYERS
from tests import tiny


def batches():
    """The three padded rows, twice, in batches of three and two."""
    rows = tiny.padded_batch()
    whole = Batch(torch.arange(3), rows["input_ids"], rows["attention_mask"], None, torch.zeros(3, dtype=torch.long))
    return [whole, whole.part(slice(0, 2))]


@pytest.mark.parametrize("variant", list(tiny.EVERY))
def test_layer_by_layer_is_the_whole_forward_pass(variant):
    model = tiny.encoder(variant)
    family = family_of(model.config)
    layers, inputs, given = find(model.base_model, family.layers), {}, {}
    for index, layer in enumerate(layers):
        for kind, path in zip(SUBLAYERS, (family.from_heads, family.ffn_out), strict=True):
            find(layer, path).register_forward_hook(
                lambda module, values, result, key=(index, kind): inputs.setdefault(key, []).append((values[0], result))
            )
        layer.register_forward_hook(
            lambda module, values, result, key=index: given.setdefault(key, []).append(
                result[0] if isinstance(result, tuple) else result
            )
        )
    with torch.no_grad():
        for batch in batches():
            model(**batch.inputs())
    expected, expected_given = {key: list(value) for key, value in inputs.items()}, dict(given)

    stream = Stream(model, batches())
    for index in range(len(layers)):
        real = [batch.attention_mask.bool() for batch in batches()]
        for kind in SUBLAYERS:
            assert stream.has(kind)
            seen = list(stream.sublayer(kind))
            for (read, written), each, mask in zip(expected[index, kind], seen, real, strict=True):
                torch.testing.assert_close(each.inputs, read[mask])
                torch.testing.assert_close(each.written, written[mask])
            wanted = [each.total for each in seen]
            assert [moments_of(stream, kind, wanted, first_tokens=first).tokens for first in (True, False)] == [5, 44 + 27]
        totals = []
        stream.advance(lambda place, kind, each, totals=totals: totals.append((place, kind, each.total)))
        assert [(place, kind) for place, kind, _ in totals] == [(place, kind) for place in range(2) for kind in SUBLAYERS]
        for states, each in zip(stream.states, expected_given[index][:2], strict=True):
            torch.testing.assert_close(states, each)
        if family.pre_norm:
            torch.testing.assert_close(totals[1][2], stream.states[0][real[0]])
        else:
            normed = find(layers[index], family.norms[1])(totals[1][2])
            torch.testing.assert_close(normed, stream.states[0][real[0]])
    assert all("forward" not in vars(layer) for layer in layers), "the model is as before"


def problem(tokens=50, width=6, outputs=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(tokens, width, generator=generator, dtype=torch.float64)
    wanted = torch.randn(tokens, outputs, generator=generator, dtype=torch.float64)
    moments = Moments(width, outputs, torch.device("cpu"))
    for part in (slice(0, 20), slice(20, None)):
        moments.add(inputs[part], wanted[part])
    weight, bias = torch.randn(outputs, width, generator=generator).double(), torch.randn(outputs, generator=generator).double()
    return inputs, wanted, moments, weight, bias


def test_the_error_is_that_of_the_rows():
    inputs, wanted, moments, weight, bias = problem()
    assert moments.error(weight, bias) == pytest.approx(float((inputs @ weight.T + bias - wanted).square().sum()))
    assert moments.error(weight, None) == pytest.approx(float((inputs @ weight.T - wanted).square().sum()))
    torch.testing.assert_close(moments.energy, inputs.square().sum(dim=0))


@pytest.mark.parametrize("has_bias", [True, False])
def test_the_best_matrix_is_numpy_s(has_bias):
    inputs, wanted, moments, weight, bias = problem()
    found, found_bias = best_matrix(moments, weight, bias if has_bias else None, damping=0.0)
    matrix = np.concatenate([inputs.numpy(), np.ones((len(inputs), 1))], axis=1) if has_bias else inputs.numpy()
    solution = np.linalg.lstsq(matrix, wanted.numpy(), rcond=None)[0]
    np.testing.assert_allclose(found.T.numpy(), solution[:6], atol=1e-10)
    if has_bias:
        np.testing.assert_allclose(found_bias.numpy(), solution[6], atol=1e-10)
    else:
        assert found_bias is None


def test_the_best_matrix_of_some_columns_is_numpy_s():
    inputs, wanted, moments, weight, bias = problem()
    kept = torch.tensor([4, 0, 3])
    found, _ = best_matrix(moments.of_columns(kept), weight[:, kept], bias, damping=0.0)
    matrix = np.concatenate([inputs[:, kept].numpy(), np.ones((len(inputs), 1))], axis=1)
    np.testing.assert_allclose(found.T.numpy(), np.linalg.lstsq(matrix, wanted.numpy(), rcond=None)[0][:3], atol=1e-10)


@pytest.mark.parametrize("size", [1, 2])
def test_the_best_scales_are_numpy_s(size):
    inputs, wanted, moments, weight, bias = problem()
    written = inputs[:, None, :] * weight[None]  # tokens, outputs, columns
    matrix = written.reshape(len(inputs), 4, 6 // size, size).sum(dim=-1).reshape(-1, 6 // size)
    solution = np.linalg.lstsq(matrix.numpy(), (wanted - bias).reshape(-1).numpy(), rcond=None)[0]
    np.testing.assert_allclose(best_scales(moments, weight, bias, size).numpy(), solution, atol=1e-3)


@pytest.mark.parametrize("damping", [1e-8, 1e-4, 1.0, 100.0])
@pytest.mark.parametrize("tokens", [3, 50])
@pytest.mark.parametrize("seed", range(3))
def test_a_refit_never_raises_the_error_whatever_the_damping_and_however_few_the_rows(damping, tokens, seed):
    inputs, wanted, _, weight, bias = problem(tokens=tokens + 20, seed=seed)
    few = Moments(6, 4, torch.device("cpu"))
    few.add(inputs[:tokens].float(), wanted[:tokens].float())
    before = few.error(weight.float(), bias.float())
    found = best_matrix(few, weight.float(), bias.float(), damping)
    assert few.error(*found) <= before
    if damping <= 1e-4:
        assert few.error(*found) < 0.99 * before
