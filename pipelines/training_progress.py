"""What a person sees of a training run while it goes on."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from celebface.pipelines import terminal, training_run
from celebface.pipelines.text import complain
from celebface.pipelines.training_run import History


class TrainingProgress:
    """What a person sees meanwhile: a bar on stderr, a line for each evaluation and each new warning on stdout."""

    def __init__(self, margin: float, max_steps: int, far: float, out: Console):
        self._margin = margin
        self._far = far
        self._out = out
        self._evaluated = 0
        self._warned = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[health]}"),
            console=terminal.error_console(),
            transient=True,
        )
        self._task = self._bar.add_task("training", total=max_steps, health="")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, history: History) -> None:
        """Shows a step."""
        loss = f"loss {history.steps['loss'][-1]:.3f}" if history.done else ""
        self._bar.update(self._task, completed=history.done, health=loss)
        warning = training_run.warning(history, self._margin)
        if warning and warning[:40] != self._warned[:40]:
            complain(f"celebface train: {warning}")
        self._warned = warning
        if len(history.evaluations) > self._evaluated:
            self._out.print(self._line(history), markup=False)
        self._evaluated = len(history.evaluations)

    def _line(self, history: History) -> str:
        measured = history.evaluations[-1]
        val, _ = training_run.score(measured, self._far)
        seen = ""
        if history.done:
            loss, active, positive, negative, spread = (
                history.recent(name) for name in ("loss", "active", "positive", "negative", "spread")
            )
            seen = (
                f"  loss {loss:.4f}  active {100 * active:5.1f} %  D {positive:.2f} / {negative:.2f}  "
                f"spread {spread:.3f}"
            )
        kept = "  *" if measured["step"] == history.best else ""
        rank_one = "" if measured["rank_one"] is None else f"  rank-1 {measured['rank_one']:.4f}"
        return (
            f"step {measured['step']:>6}{seen}  VAL at FAR {self._far:g} {val:.4f}{rank_one}  "
            f"accuracy {measured['accuracy']:.4f}{kept}"
        )
