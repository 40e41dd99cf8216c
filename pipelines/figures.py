"""What all charts share: colours, type, and bytes that repeat."""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart.
ORANGE, BLUE, BLACK = "#D55E00", "#0072B2", "#222222"
GREEN, PURPLE = "#009E73", "#CC79A7"
GRID = "#DDDDDD"
STYLE: dict[Any, Any] = {"svg.hashsalt": "celebface", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10}


def png(figure: "Figure") -> bytes:
    """A figure as a PNG of 150 pixels an inch; call it within STYLE. The same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=150, metadata={"Software": None})
    return stream.getvalue()


def svg(figure: "Figure") -> bytes:
    """A figure as an SVG; call it within STYLE. The same figure gives the same bytes."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()
