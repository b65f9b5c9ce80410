"""Maps of what is left of each layer: how seeds are gathered, and what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from test_table import write

from espalier.report.structure_figures import draw_row
from espalier.report.style import SERIES, looks
from espalier.results.structures import Part, TargetRow, read_maps


def structure(heads: list[int], units: list[int]) -> dict[str, Any]:
    layers = [
        {"heads": {"kept": one, "total": 4}, "ffn": {"kept": other, "total": 16}}
        for one, other in zip(heads, units, strict=True)
    ]
    return {"target": 0.6, "sparsity": 0.59, "layers": layers, "hidden": {"kept": 7, "total": 8}}


def test_maps_gather_seeds_and_leave_out_single_weights(tmp_path: Path):
    write(tmp_path / "base/tiny/seed1/cofi/60/structure.json", structure([2, 0], [16, 8]))
    write(tmp_path / "base/tiny/seed2/cofi/60/structure.json", structure([4, 0], [0, 8]))
    write(tmp_path / "base/tiny/seed1/cofi/95/structure.json", structure([1, 0], [0, 8]))
    write(tmp_path / "base/tiny/seed1/sdp/50/structure.json", {"target": 0.5, "sparsity": 0.5, "matrices": {}})
    (shown,) = read_maps(sorted(tmp_path.rglob("structure.json"), reverse=True))
    assert (shown.title, [row.percent for row in shown.rows]) == ("base · tiny · cofi", ["60", "95"])
    assert shown.rows[0].layers == [(Part((2, 4), 4), Part((16, 0), 16)), (Part((0, 0), 4), Part((8, 8), 16))]
    assert [part.gone for layer in shown.rows[0].layers for part in layer] == [False, False, True, False]


def row(seeds: int = 1, layers: int = 2) -> TargetRow:
    kept, gone = (Part((3,) * seeds, 4), Part((8,) * seeds, 16)), (Part((0,) * seeds, 4), Part((2,) * seeds, 16))
    return TargetRow("60", (0.59,) * seeds, [kept, *[gone] * (layers - 1)], Part((7,) * seeds, 8))


def test_bars_are_fractions_and_what_is_gone_has_a_cross_instead():
    axes = Figure().subplots()
    draw_row(axes, row(), looks(["cofi"])["cofi"])
    filled = [bar.get_height() for bar in axes.patches if bar.get_facecolor()[:3] == to_rgb(SERIES[0][0])]
    assert filled == [0.75, 0.5, 0.125]
    assert [line.get_marker() for line in axes.lines] == ["x"]
    assert [text.get_text() for text in axes.texts] == ["3", "8", "2"]
    assert axes.get_title(loc="right") == "removed 59.0 %, hidden 7 of 8, n = 1"


def test_several_seeds_are_dots_and_deep_models_have_no_counts():
    axes = Figure().subplots()
    draw_row(axes, row(seeds=3, layers=12), looks(["cofi"])["cofi"])
    assert len([line for line in axes.lines if len(line.get_xdata()) == 3]) == 13
    assert not axes.texts
