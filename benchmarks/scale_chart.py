"""The chart of docs/scale.md."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.scale_limits import Limit, gallery_limits, match_limits
from benchmarks.scale_model import NIGHT_HOURS
from benchmarks.scale_tables import count
from celebface.pipelines import figures


def draw(results: Mapping[str, Any]) -> bytes:
    """What one worker or the driver must do alone, in hours, by photos and by faces; a PNG."""
    import matplotlib
    from matplotlib.figure import Figure

    sides = (
        ("A match job", "photos", match_limits(results), 1e5),
        ("A gallery, ten faces a person", "faces", gallery_limits(results), 1e5),
    )
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(12, 5), layout="constrained")
        for axes, (title, unit, limits, first) in zip(figure.subplots(1, 2), sides, strict=True):
            sizes = np.geomspace(first, 1e9, 100)
            colours = [figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE, figures.BLACK, "#56B4E9", "#E69F00"]
            timed = sorted((limit for limit in limits if limit.unit == "h"), key=Limit.reached)
            for number, limit in enumerate(timed):
                hours = [limit.of(size) for size in sizes]
                name = f"{limit.name} ({count(limit.reached())})".replace("`", "")
                axes.plot(
                    sizes,
                    hours,
                    color=colours[number % len(colours)],
                    label=name,
                    linestyle="-" if number < 4 else "--",
                )
            axes.axhline(NIGHT_HOURS, color=figures.BLACK, linewidth=1, linestyle=":")
            axes.annotate("a night, 8 h", (first, NIGHT_HOURS), xytext=(4, 3), textcoords="offset points", fontsize=8)
            axes.set(
                xscale="log",
                yscale="log",
                xlim=(first, 1e9),
                ylim=(1e-3, 1e5),
                xlabel=unit,
                ylabel="hours of one processor",
            )
            axes.set_title(f"{title}: what does not spread over workers")
            axes.grid(which="major", color=figures.GRID, linewidth=0.5)
            axes.legend(
                loc="upper left", fontsize=7, frameon=True, title=f"(enough for so many {unit})", title_fontsize=7
            )
        return figures.png(figure)
