"""How a DoFn hands out elements when a bundle ends."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue


def at_the_end(elements: Iterable[Any]) -> Iterator[Any]:
    """Elements as `finish_bundle` must yield them."""
    window = GlobalWindow()
    for element in elements:
        tagged = isinstance(element, beam.pvalue.TaggedOutput)
        value = WindowedValue(element.value if tagged else element, window.max_timestamp(), [window])
        yield beam.pvalue.TaggedOutput(element.tag, value) if tagged else value
