"""The table of sublayer times: models of one base whose layers are all alike, timed in turn.

All layers of a model have the same number of heads and no FFN, or the same number of FFN units and no attention. The time of a
model without any sublayer is subtracted, and the rest is divided by the number of layers. Sublayers run one after another,
so times add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from espalier.evaluation.cost import eager_runner, full_batch, latencies_ms, timed_precision
from espalier.models.compact_config import compact_config
from espalier.models.modeling_espalier import Shape, whole_heads
from espalier.provenance.job_records import package_versions
from espalier.pruning.latency import Curve, LatencyTable
from espalier.pruning.parts import prunable_shape

SECONDS = 40.0
"""Time for all timed passes together, where `FEWEST` and `MOST` allow it. This is no option of the configuration, because a
new table makes Snakemake train again every plan that reads it.
"""
FEWEST, MOST = 7, 50
"""Least and largest number of timed passes of each model."""
PARTS = (1, 2, 4, 6, 8, 12, 16, 20, 24, 28)
"""FFN widths to time besides the whole width, in 32nds of it."""
TIMED_PACKAGES = ("torch", "transformers")
"""Packages whose versions the table records, because the times depend on them."""
Layer = tuple[int, int]
"""Heads and FFN units of a layer."""


def measure_table(config: PreTrainedConfig, batch_size: int, length: int, device: torch.device) -> dict[str, Any]:
    """Measure a base's sublayers; the result is the content of a latency table.

    Weights are random, as they do not change the time. Times are medians in fp32 and PyTorch eager, without padding.

    Args:
        config: configuration of the base.
        batch_size: rows at once.
        length: tokens a row, without padding.
        device: where the models run.

    Raises:
        UserError: the base's family cannot be pruned structurally.
    """
    shape = prunable_shape(config)
    depth = len(shape.layers)
    heads, units = shape.layers[0]
    # a family whose layers keep all of their heads has nothing in between
    head_counts = [heads] if whole_heads(config) else range(1, heads + 1)
    unit_counts = ffn_widths(units)
    layers = [(0, 0), (heads, units), *((count, 0) for count in head_counts), *((0, count) for count in unit_counts)]
    times = _times_ms({layer: _model_of(config, shape, layer) for layer in layers}, batch_size, length, device)

    rest_ms = times[0, 0]
    attention = _curve({count: (times[count, 0] - rest_ms) / depth for count in head_counts})
    ffn = _curve({count: (times[0, count] - rest_ms) / depth for count in unit_counts})
    table = LatencyTable(depth, attention, ffn, rest_ms)

    # A few per cent, so that all sublayers add up to the dense model's own time.
    scale = times[heads, units] / table.dense_ms
    return {
        **asdict(table.scaled(scale)),
        "scale": scale,
        "model_type": config.model_type,
        "batch_size": batch_size,
        "length": length,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": package_versions(TIMED_PACKAGES),
    }


def ffn_widths(units: int) -> list[int]:
    """The FFN widths to time: the whole width, and multiples of 8."""
    widths = {units}
    for part in PARTS:
        # units * part / 32, rounded to a multiple of 8.
        widths.add(min(units, max(8, 8 * round(units * part / 256))))
    return sorted(widths)


def rising(times: Sequence[float]) -> list[float]:
    """Times without the noise that lets them fall; times that rise, and are not below 0, stay as they are."""
    values = np.maximum(times, 0.0)

    # The mean of the largest time so far and of the smallest time to come never falls, because neither of them does.
    highest = np.maximum.accumulate(values)
    lowest = np.minimum.accumulate(values[::-1])[::-1]
    return ((highest + lowest) / 2).tolist()


def _curve(times: Mapping[int, float]) -> Curve:
    """The curve through measured times; a sublayer that is gone takes no time."""
    return Curve((0, *times), (0.0, *rising(list(times.values()))))


def _model_of(config: PreTrainedConfig, shape: Shape, layer: Layer) -> PreTrainedModel:
    """A model with random weights in which every layer has the size of `layer`."""
    equal_layers = shape._replace(layers=(layer,) * len(shape.layers))
    return AutoModelForSequenceClassification.from_config(compact_config(config, equal_layers))


def _times_ms(
    models: Mapping[Layer, PreTrainedModel], batch_size: int, length: int, device: torch.device
) -> dict[Layer, float]:
    """Median milliseconds of each model."""
    # All models share one table of word embeddings: it is the largest part, and all models are in memory at once.
    first = next(iter(models.values()))
    for model in models.values():
        model.set_input_embeddings(first.get_input_embeddings())

    inputs = {name: value.to(device) for name, value in full_batch(first, batch_size, length).items()}
    runners = {
        str(layer): partial(eager_runner(model, device, timed_precision(device)), inputs) for layer, model in models.items()
    }

    # One round tells how many rounds fit into the time.
    seconds_a_round = sum(times["median"] for times in latencies_ms(runners, 1).values()) / 1000.0
    rounds = min(MOST, max(FEWEST, round(SECONDS / seconds_a_round)))
    times = latencies_ms(runners, rounds)
    return {layer: times[str(layer)]["median"] for layer in models}
