"""The chart of the enrolment curve."""

import io
import xml.etree.ElementTree

import pytest
from PIL import Image

from celebface.indexing.enrolment import EnrolmentCurve, Point, Spread, Verified
from celebface.pipelines import enrolment_chart


def curve(*counts: int, rates: int = 2, first: float = 0.912) -> EnrolmentCurve:
    points = [
        Point(
            count,
            Spread(1 - (1 - first) / count, 0.03),
            [Verified(10.0 ** -(2 + number), 1.1, Spread(0.95, 0.1)) for number in range(rates)],
        )
        for count in counts
    ]
    return EnrolmentCurve(21, 401, 780, 10, 1, 0, points)


@pytest.mark.parametrize(
    "found",
    [curve(1, 2, 3, 5), curve(1), curve(2, 50, rates=0), curve(*range(1, 40)), curve(1, 2, first=0.0)],
    ids=["usual", "one count", "no rates", "many counts", "nobody found"],
)
def test_the_chart_shows_the_curve_and_repeats_to_the_byte(found):
    png, svg = (enrolment_chart.draw(found, kind) for kind in enrolment_chart.FORMATS)
    assert (png, svg) == tuple(enrolment_chart.draw(found, kind) for kind in enrolment_chart.FORMATS)
    picture = Image.open(io.BytesIO(png))
    assert (picture.format, picture.size) == ("PNG", (1050, 750))
    assert xml.etree.ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert b"<dc:date>" not in svg
    text = svg.decode()
    assert "21 people, 10 draws" in text and "the right person first, of 422 (rank-1)" in text
    for verified in found.points[0].verified:
        assert f"where {100 * verified.false_match_rate:g} % of wrong ones are" in text
    if len(found.points) <= 8:
        for point in found.points:
            assert f">{100 * point.rank_one.mean:.1f}</text>" in text


def test_other_figures_give_another_chart():
    assert enrolment_chart.draw(curve(1, 2), "png") != enrolment_chart.draw(curve(1, 2, first=0.8), "png")
