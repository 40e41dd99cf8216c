"""Pictures and logs of a training run: curves to look at, and events for TensorBoard."""

import pathlib
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from celebface.indexing import storage
from celebface.pipelines import figures
from celebface.pipelines.training_run import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOSS, _POSITIVE, _NEGATIVE = figures.BLACK, figures.BLUE, figures.ORANGE
_FIRST, _SECOND = figures.GREEN, figures.PURPLE
_STYLE = {**figures.STYLE, "axes.grid": True, "grid.color": figures.GRID}
_SMOOTHED = 40  # parts of the run that a curve is averaged over


def draw(history: History, margin: float) -> bytes:
    """Draws the loss, the distances, the health of the batches, and how validation went.

    Returns:
      A PNG of 1800 x 1200 pixels.
    """
    import matplotlib  # here, as it takes a second to load
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(12, 8), layout="constrained")
        (loss, distances), (health, validation) = figure.subplots(2, 2)
        _curve(loss, history, "loss", _LOSS, "mean over the triplets chosen")
        loss.axhline(margin, color=_NEGATIVE, linestyle=":", label=f"margin {margin:g}: all vectors equal")
        loss.set(title="Triplet loss", ylim=(0, None))
        _curve(distances, history, "positive", _POSITIVE, "one person")
        _curve(distances, history, "negative", _NEGATIVE, "two people")
        distances.set(title="Mean D of a batch's pairs", ylim=(0, None))
        _curve(health, history, "active", _FIRST, "triplets that violate the margin")
        _curve(health, history, "spread", _SECOND, "spread of the vectors (0: collapsed)")
        health.set(title="Health of the batches (shares)", ylim=(0, 1.02))
        _draw_validation(validation, history)
        for axes in (loss, distances, health, validation):
            axes.set_xlabel("steps")
            axes.legend(loc="best", frameon=False)
        return figures.png(figure)


def _curve(axes: "Axes", history: History, column: str, colour: str, label: str) -> None:
    values = np.array(history.steps.get(column, []))
    steps = np.arange(1, len(values) + 1)
    window = max(1, len(values) // _SMOOTHED)
    axes.plot(steps, values, color=colour, alpha=0.2, linewidth=0.7)
    if len(values) >= window > 1:
        smooth = np.convolve(values, np.full(window, 1 / window), "valid")
        axes.plot(steps[window - 1 :], smooth, color=colour, label=label)
    else:
        axes.plot(steps, values, color=colour, label=label)


def _draw_validation(axes: "Axes", history: History) -> None:
    steps = [entry["step"] for entry in history.evaluations]
    for place, style in enumerate(("-", "--", ":")):
        rates = [entry["rates"][place] for entry in history.evaluations if place < len(entry["rates"])]
        if rates:
            label = f"VAL at FAR {rates[0]['false_match_rate']:g}"
            values = np.array([rate["true_match_rate"] for rate in rates])
            axes.plot(steps, values, color=_POSITIVE, linestyle=style, marker="o", markersize=3, label=label)
    for column, colour, label in (("accuracy", _FIRST, "accuracy, all pairs"), ("rank_one", _SECOND, "rank-1")):
        values = np.array([entry[column] for entry in history.evaluations], float)  # None becomes NaN, a gap
        axes.plot(steps, values, color=colour, marker="o", markersize=3, label=label)
    axes.axvline(history.best, color=_LOSS, linestyle=":", label=f"kept: step {history.best}")
    axes.set(title="People who are not trained on (shares)", ylim=(None, 1.005))


def write_events(history: History, folder: str) -> None:
    """Writes a file for TensorBoard: each step's numbers, and each evaluation's.

    Args:
      history: All of a run.
      folder: URI of the folder it goes to, in place of what is there.
    """
    from celebface.models.quiet_tensorflow import tf  # here, as the command has it by now

    columns = {f"train/{name}": values for name, values in history.steps.items()}
    points = [
        (step, dict(zip(columns, row, strict=True))) for step, row in enumerate(zip(*columns.values(), strict=True), 1)
    ]
    points += [(entry["step"], _scalars(entry)) for entry in history.evaluations]
    with tempfile.TemporaryDirectory(prefix="celebface-") as scratch:
        path = pathlib.Path(scratch) / "events.out.tfevents.celebface"
        with tf.io.TFRecordWriter(str(path)) as writer:  # tf.summary would need the whole of TensorBoard
            writer.write(tf.compat.v1.Event(file_version="brain.Event:2").SerializeToString())
            for step, scalars in points:
                values = [tf.compat.v1.Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
                event = tf.compat.v1.Event(step=step, summary=tf.compat.v1.Summary(value=values))
                writer.write(event.SerializeToString())
        storage.copy_file(str(path), storage.join(folder, path.name))


def _scalars(entry: Mapping[str, Any]) -> dict[str, float]:
    values = {f"VAL at FAR {rate['false_match_rate']:g}": rate["true_match_rate"] for rate in entry["rates"]}
    values |= {name: entry[name] for name in ("accuracy", "auc", "eer", "rank_one")}
    return {f"validation/{name}": value for name, value in values.items() if value is not None}
