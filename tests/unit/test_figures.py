"""What all pictures share: colours can be told apart, labels stand apart, and every one parses and repeats."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from test_curves import curves, line
from test_maps import row
from test_quality import group, quality

from espalier.report.quality_figures import quality_figures, quality_file, quality_key, size_file
from espalier.report.structure_figures import map_figure, structure_file
from espalier.report.style import DARK, LIGHT, MARKERS, SERIES, looks, place_labels
from espalier.report.training_figures import panel_figures, training_file
from espalier.results.curves import Curves, Panel
from espalier.results.structures import StructureMap


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_series_stand_out_from_the_page(dark):
    page = (DARK if dark else LIGHT)["page"]
    readable = [(DARK if dark else LIGHT)["ink"], (DARK if dark else LIGHT)["muted"], *(pair[dark] for pair in SERIES)]
    assert min(contrast(colour, page) for colour in readable) >= 4.5


def test_roles_have_colours_of_their_own():
    light = [*LIGHT.values(), *(pair[0] for pair in SERIES)]
    assert len(set(light)) == len(light)


def test_plans_differ_by_marker_where_colours_come_again():
    plans = [f"plan-{place}" for place in range(2 * len(SERIES))]
    look = looks(["teacher", *plans])
    assert len({look[plan] for plan in plans}) == len(plans)
    assert len(set(MARKERS)) == len(MARKERS)


def test_labels_do_not_cover_each_other():
    axes = Figure().subplots()
    crowd = [("60 %", "#000000", 0.5, 0.5)] * 6
    place_labels(axes, crowd, [[(0.5, 0.5)]])
    placed = {(text.get_position(), text.get_ha()) for text in axes.texts}
    assert len(placed) == len(axes.texts) == 4


def test_pictures_parse_and_repeat_and_keep_text_as_text():
    look = looks(["sdp"])
    shown, drawn = quality(group("sdp", 0.5, 0.8)), curves(line(1, [1.0, 2.0]))
    maps = [StructureMap("base", "tiny", "sdp", [row(), row(2)._replace(percent="95")])]
    for make in (
        lambda: quality_figures(shown, look)[-1],
        lambda: next(quality_key([shown], look))[0],
        lambda: map_figure(maps[0], look),
        lambda: structure_file(maps, look),
        lambda: structure_file([], look),
        lambda: size_file([shown] * 2, look),
        lambda: size_file([], look),
        lambda: panel_figures(drawn, look)[0],
        lambda: quality_file([shown] * 4, look),
        lambda: training_file([drawn, drawn], look),
        lambda: quality_file([], look),
        lambda: training_file([], look),
    ):
        text = make()
        assert text == make()
        ElementTree.fromstring(text)
    assert "base on tiny" in quality_file([shown], look)


def test_names_are_not_read_as_formulas_or_markup():
    drawn = Curves("base", "tiny", "sdp", [("50", 1.0)], [Panel('$x^2$<b>"&', "loss", [line(1, [1.0, 2.0])])])
    picture = panel_figures(drawn, looks(["sdp"]))[0]
    texts = [element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert '$x^2$<b>"&' in texts
