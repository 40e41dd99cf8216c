"""Charts of a calibration: how near strangers and known people come, and what each threshold lets pass and misses."""

from typing import TYPE_CHECKING

import numpy as np

from celebface.indexing.calibration import Calibration, OperatingPoint, Trials
from celebface.pipelines import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STRANGERS, _KNOWN, _POINTS = figures.ORANGE, figures.BLUE, figures.BLACK
_BIN = 0.05  # of D
_SMALLEST_RATE = 1e-4  # shown
_SMALLEST_MISS = 1e-2  # shown; what is less, also none, stands there


def draw(calibration: Calibration) -> tuple[bytes, bytes]:
    """Draws both distributions, and the detection error trade-off beside them.

    Returns:
      A PNG of 1800 x 750 pixels, and an SVG; the same calibration gives the same bytes.
    """
    import matplotlib  # here, as it takes a second to load
    from matplotlib.figure import Figure

    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(12, 5), layout="constrained")
        left, right = figure.subplots(1, 2)
        points = calibration.operating_points
        _draw_distributions(left, calibration, points)
        _draw_trade_off(right, calibration, points)
        return figures.png(figure), figures.svg(figure)


def _draw_distributions(axes: "Axes", calibration: Calibration, points: list[OperatingPoint]) -> None:
    known, strangers = calibration.known, calibration.strangers
    shown = [*_all(known), *_all(strangers), *(point.tau for point in points), 1.0]
    right = min(4.0, max(shown) + 0.1)
    bins = np.arange(0, right + _BIN, _BIN).tolist()
    tallest = 0.0
    for trials, colour, hatch, name in (
        (known, _KNOWN, "", "known, to their own nearest face"),
        (strangers, _STRANGERS, "///", "strangers, to the nearest person"),
    ):
        distances = _all(trials)
        if distances:
            weights = np.full(len(distances), 100 / len(distances))
            heights, *_ = axes.hist(
                distances, bins=bins, weights=weights, histtype="stepfilled", alpha=0.45, color=colour,
                edgecolor=colour, hatch=hatch, label=f"{name} ({len(distances)})",
            )  # fmt: skip
            tallest = max(tallest, float(np.max(heights)))
    top = 1.7 * (tallest or 1.0)
    for number, point in enumerate(points):
        height = 0.86 - 0.06 * number  # below the legend
        style = "-" if point.method == "measured" else ":"
        axes.axvline(point.tau, 0, height, color=_POINTS, linewidth=1, linestyle=style)
        axes.annotate(
            f"tau {point.tau:.3f} at {100 * point.false_match_rate:g} %", (point.tau, top * height),
            xytext=(3, -3), textcoords="offset points", va="top", color=_POINTS, fontsize=8,
        )  # fmt: skip
    axes.set(xlim=(0, right), ylim=(0, top), xlabel="D, squared distance of unit vectors")
    axes.set_ylabel(f"share of the faces (%, in steps of {_BIN:g})")
    axes.set_title(f"How near they come: {calibration.subject}")
    if tallest:
        axes.legend(loc="upper right", frameon=False)


def _draw_trade_off(axes: "Axes", calibration: Calibration, points: list[OperatingPoint]) -> None:
    strangers, known = calibration.strangers, calibration.known
    axes.set_title("What a threshold lets pass, and what it misses")
    if not known.count or not strangers.count:
        axes.text(0.5, 0.5, "too few people to draw it", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    taus = np.unique([*strangers.scores, *known.scores])
    passed = np.searchsorted(strangers.scores, taus, "right") / strangers.count
    missed = np.maximum(_SMALLEST_MISS, 1 - np.searchsorted(known.scores, taus, "right") / known.count)
    counted = passed > 0
    axes.step(100 * passed[counted], 100 * missed[counted], where="post", color=_KNOWN, label="counted")
    for method, marker in (("measured", "o"), ("extrapolated", "s")):
        here = [point for point in points if point.method == method]
        if not here:
            continue
        rates = np.array([point.false_match_rate for point in here])
        misses = np.array([max(_SMALLEST_MISS, 1 - (point.true_match_rate or 0)) for point in here])
        ends = np.array([1 - np.array(point.true_match_interval or (0, 1)) for point in here])
        bars = np.abs(np.maximum(ends[:, ::-1], _SMALLEST_MISS) - misses[:, None])
        axes.errorbar(
            100 * rates, 100 * misses, yerr=100 * bars.T, fmt=marker, color=_POINTS, capsize=3, markersize=5,
            markerfacecolor=_POINTS if method == "measured" else "white", label=f"stated, {method}",
        )  # fmt: skip
        for point, rate, miss in zip(here, rates, misses, strict=True):
            axes.annotate(
                f"tau {point.tau:.3f}", (100 * rate, 100 * miss), xytext=(6, 6), textcoords="offset points", fontsize=8
            )
    axes.set(xscale="log", yscale="log", xlim=(100 * _SMALLEST_RATE, 100), ylim=(100 * _SMALLEST_MISS, 100))
    axes.set(xlabel="strangers given match (%)", ylabel="known people not given match (%; 1 is 1 or less)")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.grid(which="both", color=figures.GRID, linewidth=0.5)
    axes.legend(loc="upper right")


def _all(trials: Trials) -> list[float]:
    return [*trials.scores, *trials.ambiguous]
