"""Charts of a calibration."""

import io
import xml.etree.ElementTree

import fakes
import numpy as np
import pytest
from PIL import Image

from celebface.indexing.calibration import Calibration, Trials
from celebface.indexing.rates import Tail
from celebface.pipelines import charts


def calibrated(strangers: int, known: int, tail: bool = True) -> Calibration:
    random = np.random.default_rng(1)
    near, far = (np.sort(random.normal(mean, 0.1, count)).tolist() for mean, count in ((0.4, known), (1.0, strangers)))
    figures = Tail.through(fakes.POINTS, "LFW") if tail else None
    return Calibration("a stranger", "e0", 9, 9.0, Trials(strangers, far), Trials(known, near), 0, figures)


@pytest.mark.parametrize(
    ("strangers", "known", "tail"),
    [(1000, 300, True), (5, 5, True), (0, 0, True), (0, 3, True), (3, 0, False)],
    ids=["many", "few", "none", "one person", "nothing known"],
)
def test_charts_show_each_threshold_and_repeat_to_the_byte(strangers, known, tail):
    found = calibrated(strangers, known, tail)
    png, svg = charts.draw(found)
    assert (png, svg) == charts.draw(found)
    picture = Image.open(io.BytesIO(png))
    assert (picture.format, picture.size) == ("PNG", (1800, 750))
    assert xml.etree.ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    for point in found.operating_points:
        assert f"tau {point.tau:.3f} at {100 * point.false_match_rate:g} %".encode() in svg
    assert bool(found.operating_points) == tail
    assert b"<dc:date>" not in svg


def test_other_figures_give_another_chart():
    assert charts.draw(calibrated(1000, 300))[0] != charts.draw(calibrated(1000, 299))[0]
