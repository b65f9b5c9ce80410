"""Linear maps that round in training compute what int8 of onnxruntime computes; gradients pass as if they did not round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper, save
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.torch import load_file
from torch import nn

from espalier.__main__ import main
from espalier.config import ConfigError, parse
from espalier.models.int8 import RoundedLinear, rounded_linears, rounded_states, rounded_weight
from tests import stages

PLANS = """
project: p
device: cpu
precision: fp32
progress: {log_every: 1}
teacher: {epochs: 1.0, batch_size: 16}
plans: {sdp: {method: sdp, path: [0.6], batch_size: 16, dense_epochs: 0.0, epochs_per_step: 1.0, recover: RECOVER}}
"""


def test_weights_lie_on_a_grid_for_each_output_and_zeros_stay() -> None:
    weight = torch.tensor([[0.0, 0.64, -0.253], [0.0, 0.0, 0.0], [1.28, 0.011, 0.0]])
    expected = torch.tensor([[0.0, 0.64, -0.25], [0.0, 0.0, 0.0], [1.28, 0.02, 0.0]])
    assert torch.allclose(rounded_weight(weight), expected, atol=1e-6)


def test_activations_lie_on_a_grid_of_256_numbers_with_zero() -> None:
    states = torch.linspace(-1.0, 3.0, 4001)
    rounded = rounded_states(states)
    assert 250 <= len(rounded.unique()) <= 256
    assert (rounded == 0.0).any()
    assert (rounded - states).abs().max() <= 4.0 / 255 + 1e-6


@pytest.mark.parametrize("shift", [0.0, 4.0, -4.0])
def test_a_rounded_linear_computes_what_int8_of_onnxruntime_does(tmp_path: Path, shift: float) -> None:
    torch.manual_seed(1)
    linear, states = nn.Linear(32, 8), torch.randn(5, 32) + shift
    weight, bias = linear.weight.detach().numpy().T.copy(), linear.bias.detach().numpy()
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "b"], ["z"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, 32])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [5, 8])],
        [helper.make_tensor(*named, weight_or_bias.ravel()) for named, weight_or_bias in _tensors(weight, bias)],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "fp32.onnx")
    settings = {"per_channel": True, "weight_type": QuantType.QInt8, "reduce_range": True}
    quantize_dynamic(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", **settings)
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])

    with rounded_linears(linear):
        ours = linear(states).detach().numpy()
    theirs = session.run(None, {"x": states.numpy()})[0]
    assert np.abs(ours - linear(states).detach().numpy()).max() > 1e-3, "it rounds"
    assert np.abs(ours - theirs).max() < 1e-4


def _tensors(weight: np.ndarray, bias: np.ndarray):
    return [(("w", TensorProto.FLOAT, weight.shape), weight), (("b", TensorProto.FLOAT, bias.shape), bias)]


def test_gradients_are_those_at_the_rounded_point_and_modules_come_back() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 2))
    states = torch.randn(3, 6, requires_grad=True)
    with rounded_linears(model):
        assert [type(module) for module in model] == [RoundedLinear, nn.GELU, RoundedLinear]
        model[0](states).sum().backward()

    # d sum(x W + b) / dW = sum of the rounded rows; d / dx = sum of the rounded weights.
    assert torch.allclose(model[0].weight.grad, rounded_states(states.detach()).sum(dim=0).expand(4, 6))
    assert torch.allclose(states.grad, rounded_weight(model[0].weight.detach()).sum(dim=0).expand(3, 6))
    assert [type(module) for module in model] == [nn.Linear, nn.GELU, nn.Linear]


@pytest.fixture(scope="module")
def recovered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, its pruned student, and two recoveries of two epochs, of which one rounds in the last."""
    root = tmp_path_factory.mktemp("int8")
    stages.write_inputs(root)
    for name, recover in (("plain", "{epochs: 2.0}"), ("int8", "{epochs: 2.0, int8: true}")):
        config = parse(stages.study(PLANS.replace("RECOVER", recover)))
        for run in ("teacher", "sdp", "recover"):
            out = root / (name if run == "recover" else run)
            if not out.exists():
                assert main(stages.arguments(config, run, root, out, lambda done: root / done)) == 0
    return root


@pytest.mark.slow
def test_only_the_last_epoch_of_a_recovery_rounds(recovered: Path) -> None:
    plain, int8 = (pd.read_parquet(recovered / name / "history.parquet") for name in ("plain", "int8"))
    totals = [history["loss"].dropna().to_numpy() for history in (plain, int8)]
    half = len(totals[0]) // 2
    assert half >= 2
    assert (totals[0][:half] == totals[1][:half]).all()
    assert (totals[0][half:] != totals[1][half:]).all()


@pytest.mark.slow
def test_what_was_removed_stays_removed(recovered: Path) -> None:
    plain, int8 = (load_file(recovered / name / "model.safetensors") for name in ("plain", "int8"))
    for name, weight in plain.items():
        if weight.ndim == 2 and "encoder" in name:
            assert ((weight == 0) == (int8[name] == 0)).all(), name


def test_int8_needs_an_epoch() -> None:
    with pytest.raises(
        ConfigError, match=r"int8 rounds in the last of the recovery's epochs, so epochs must be at least 1; got 0.5"
    ):
        parse(stages.study(PLANS.replace("RECOVER", "{epochs: 0.5, int8: true}")))
