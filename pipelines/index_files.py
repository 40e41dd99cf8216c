"""Adds an index to a folder of shards: one part here, several by a Beam pipeline."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import apache_beam as beam

from celebface.indexing import build, storage
from celebface.indexing.build import IndexPlan
from celebface.indexing.kinds import IndexRequest
from celebface.indexing.parts import FOLDER, file_names, part_names
from celebface.pipelines import execution, summary
from celebface.transforms.index_parts import BuildIndexParts


def add_index(folder: str, local: str, request: IndexRequest, beam_argv: Sequence[str] = ()) -> dict[str, Any]:
    """Builds and measures the index of a folder of shards.

    Args:
      folder: URI of the folder, where the index files go.
      local: A folder on this machine where they are also to be found afterwards; the same one if that is here.
      request: What is asked of the index.
      beam_argv: Beam's flags, for an index in several parts.

    Returns:
      The manifest's entry `index`.

    Raises:
      ValueError: If there is no face.
      BrokenIndex: If the index fails its self-test, or its library is missing.
      RecallTooLow: If no index meets what is asked for.
    """
    storage.delete_tree(storage.join(folder, FOLDER))  # a killed run may have left an index of another kind
    shards = build.face_shards(folder)
    with summary.error_console().status("index"):
        plan = build.plan_index(shards, local, request)
        if plan.parts == 1:
            entry = build.build_planned(shards, local, plan, request)
            _copy(local, folder, part_names(plan.kind, 0, 1))
            return entry
    _copy(local, folder, [name for number in range(plan.built) for name in part_names(plan.kind, number, plan.parts)])
    plan = _build_parts(shards, folder, plan, beam_argv)
    _copy(folder, local, file_names(plan.kind, plan.parts))
    with summary.error_console().status("recall"):
        return build.describe_index(local, plan, request)


def _build_parts(shards: Sequence[str], folder: str, plan: IndexPlan, beam_argv: Sequence[str]) -> IndexPlan:
    def parts(pipeline: beam.Pipeline) -> None:
        pipeline | beam.Create(range(plan.built, plan.parts)) | BuildIndexParts(shards, folder, plan)

    start = time.perf_counter()
    execution.run(parts, beam_argv, execution.photos_worth_counting(), "index parts", networks=False)
    return dataclasses.replace(plan, seconds=plan.seconds + time.perf_counter() - start)


def _copy(source: str, target: str, names: Sequence[str]) -> None:
    if source != target:
        for name in names:
            storage.copy_file(storage.join(source, name), storage.join(target, name))
