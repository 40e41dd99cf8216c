"""The chart of an enrolment curve: what each further photo of a person is worth."""

from typing import TYPE_CHECKING

import numpy as np

from celebface.indexing.enrolment import EnrolmentCurve
from celebface.pipelines import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "svg")
_COLOURS, _MARKERS = (figures.BLUE, figures.ORANGE, figures.BLACK), "os^"
_ASIDE = 0.012  # of the most photos: how far lines stand beside each other, so that bars can be told apart
_GAP = 0.035  # of the height, between two labels
_HEADROOM = 0.04  # of the height, above 100 %
_MOST_LABELLED = 8  # counts


def draw(curve: EnrolmentCurve, kind: str) -> bytes:
    """Draws rank-1 and VAL@FAR by the number of enrolled photos, bars for the spread over the draws.

    Args:
      curve: What was measured.
      kind: One of FORMATS.

    Returns:
      A PNG of 1050 x 750 pixels, or an SVG; the same curve gives the same bytes.
    """
    import matplotlib  # here, as it takes a second to load
    from matplotlib.figure import Figure

    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(7, 5), layout="constrained")
        _draw_lines(figure.subplots(), curve)
        return figures.png(figure) if kind == "png" else figures.svg(figure)


def _draw_lines(axes: "Axes", curve: EnrolmentCurve) -> None:
    counts = [point.enrolled for point in curve.points]
    people = curve.subjects + curve.others
    lines = {f"the right person first, of {people} (rank-1)": [point.rank_one for point in curve.points]}
    for column in zip(*(point.verified for point in curve.points), strict=True):
        name = f"right claims believed where {100 * column[0].false_match_rate:g} % of wrong ones are (VAL)"
        lines[name] = [each.true_match_rate for each in column]
    for place, (name, line) in enumerate(lines.items()):
        beside = [count + (place - (len(lines) - 1) / 2) * _ASIDE * counts[-1] for count in counts]
        means = np.array([100 * spread.mean for spread in line])
        deviations = np.array([100 * spread.sd for spread in line])
        bars = [np.minimum(deviations, means), np.minimum(deviations, 100 - means)]  # no share lies beyond 0 and 100
        axes.errorbar(
            beside, means, yerr=bars, color=_COLOURS[place], marker=_MARKERS[place], markersize=5, capsize=3, label=name
        )
    lowest = min(100 * (spread.mean - spread.sd) for line in lines.values() for spread in line)
    bottom = max(0.0, lowest - 1)
    height = (100 - bottom) / (1 - _HEADROOM)
    axes.set(xlim=(counts[0] - 0.1 * counts[-1], 1.1 * counts[-1]), ylim=(bottom, bottom + height))
    if len(counts) <= _MOST_LABELLED:
        axes.set_xticks(counts, [str(count) for count in counts])
        for number, count in enumerate(counts):
            _label(axes, count, [100 * line[number].mean for line in lines.values()], height)
    axes.set(xlabel="enrolled photos of a person", ylabel="share of the probes (%)")
    axes.set_title(
        f"Enrolled by a few photos, nothing trained: {curve.subjects} people, {curve.draws} draws of their photos"
    )
    axes.grid(color=figures.GRID, linewidth=0.5)
    axes.legend(loc="lower right")


def _label(axes: "Axes", count: int, means: list[float], height: float) -> None:
    """Writes the means beside their marks, from the top, each below the one before."""
    free = np.inf
    for place in np.argsort(means)[::-1]:
        free = min(means[place], free - _GAP * height)
        axes.annotate(
            f"{means[place]:.1f}", (count, free), xytext=(14, 0), textcoords="offset points", va="center", fontsize=8,
            color=_COLOURS[place], bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=3,
        )  # fmt: skip
