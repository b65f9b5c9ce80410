"""The table of sublayer times: models of one base whose layers are all alike, timed in turn.

Every layer has so many heads and no FFN, or so many units and no attention; what the model without any sublayer takes is
subtracted, and the rest is shared between the layers. Sublayers run one after another, so times add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from espalier.evaluation.cost import eager_runner, full_batch, latencies_ms
from espalier.models.modeling_espalier import Shape, compact_config
from espalier.provenance.job_records import versions
from espalier.pruning.latency import Curve, LatencyTable
from espalier.pruning.parts import prunable_shape

SECONDS = 40.0
"""For all timed passes together, where `FEWEST` and `MOST` allow it. No setting: another table trains its plans anew."""
FEWEST, MOST = 7, 50
"""Timed passes of each model."""
PARTS = (1, 2, 4, 6, 8, 12, 16, 20, 24, 28)
"""FFN widths to time besides the whole, in 32nds of it."""
PACKAGES = ("torch", "transformers")
Layer = tuple[int, int]
"""Heads and FFN units."""


def measure_table(config: PreTrainedConfig, batch_size: int, length: int, device: torch.device) -> dict[str, Any]:
    """Everything that a latency table holds.

    Random weights take the same time as trained ones. Times are medians in fp32 and PyTorch eager, without padding. They
    are scaled by a few per cent so that their sum is the dense model's own latency.

    Raises:
        UserError: the base's family cannot be pruned structurally.
    """
    shape = prunable_shape(config)
    (heads, units), layers = shape.layers[0], len(shape.layers)
    alike = [(0, 0), (heads, units), *((n, 0) for n in range(1, heads + 1)), *((0, n) for n in ffn_widths(units))]
    times = _times_ms({layer: _model(config, shape, layer) for layer in alike}, batch_size, length, device)
    rest_ms = times[0, 0]
    attention = _curve({n: (times[n, 0] - rest_ms) / layers for n in range(1, heads + 1)})
    ffn = _curve({n: (times[0, n] - rest_ms) / layers for n in ffn_widths(units)})
    table = LatencyTable(layers, attention, ffn, rest_ms)
    return {
        **asdict(table.scaled(times[heads, units] / table.dense_ms)),
        "scale": times[heads, units] / table.dense_ms,
        "model_type": config.model_type,
        "batch_size": batch_size,
        "length": length,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": versions(PACKAGES),
    }


def ffn_widths(units: int) -> list[int]:
    """The widths to time: the whole, and multiples of 8."""
    return sorted({units, *(min(units, max(8, 8 * round(units * part / 256))) for part in PARTS)})


def rising(times: Sequence[float]) -> list[float]:
    """Times without the noise that lets them fall: means of the running maximum and the running minimum from the end.

    Times that rise, and are not below 0, stay as they are.
    """
    values = np.maximum(times, 0.0)
    highest, lowest = np.maximum.accumulate(values), np.minimum.accumulate(values[::-1])[::-1]
    return ((highest + lowest) / 2).tolist()


def _curve(times: Mapping[int, float]) -> Curve:
    """A sublayer that is gone takes no time."""
    return Curve((0, *times), (0.0, *rising(list(times.values()))))


def _model(config: PreTrainedConfig, shape: Shape, layer: Layer) -> PreTrainedModel:
    """A model in which every layer is like this one, with random weights."""
    alike = shape._replace(layers=(layer,) * len(shape.layers))
    return AutoModelForSequenceClassification.from_config(compact_config(config, alike))


def _times_ms(
    models: Mapping[Layer, PreTrainedModel], batch_size: int, length: int, device: torch.device
) -> dict[Layer, float]:
    """Median milliseconds of each model."""
    first = next(iter(models.values()))
    for model in models.values():  # word embeddings are the largest part, and one table is enough
        model.set_input_embeddings(first.get_input_embeddings())
    inputs = {name: value.to(device) for name, value in full_batch(first, batch_size, length).items()}
    runners = {str(layer): partial(eager_runner(model, device), inputs) for layer, model in models.items()}
    once = sum(times["median"] for times in latencies_ms(runners, 1).values()) / 1000.0
    found = latencies_ms(runners, min(MOST, max(FEWEST, round(SECONDS / once))))
    return {layer: found[str(layer)]["median"] for layer in models}
