"""Builds the parts of an index, each on whatever worker takes it, so that no machine holds all vectors."""

import tempfile
from collections.abc import Iterator, Sequence

import apache_beam as beam

from celebface.indexing import build, storage
from celebface.indexing.build import IndexPlan
from celebface.transforms import progress


class BuildIndexParts(beam.PTransform):
    """Numbers of parts to the names of the files written.

    Attributes:
      shards: URIs of the gallery's face shards.
      folder: URI of the folder where the version is assembled.
      plan: How the index is built.
    """

    def __init__(self, shards: Sequence[str], folder: str, plan: IndexPlan):
        super().__init__()
        self.shards = list(shards)
        self.folder = folder
        self.plan = plan

    def expand(self, numbers: beam.PCollection) -> beam.PCollection:
        return numbers | beam.Reshuffle() | beam.FlatMap(build_part, self.shards, self.folder, self.plan)


def build_part(number: int, shards: Sequence[str], folder: str, plan: IndexPlan) -> Iterator[str]:
    """Builds a part on this machine and copies its files to where the version is assembled."""
    with tempfile.TemporaryDirectory(prefix="celebface-index-") as scratch:
        for name in build.build_part(shards, scratch, plan, number):
            storage.copy_file(storage.join(scratch, name), storage.join(folder, name))
            yield name
    progress.add({"photos": 1})
    progress.flush()
