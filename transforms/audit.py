"""Finds photos under the wrong name and keeps them out: the audit's way through the pipeline, and its table.

What is wrong with a face is decided in `indexing.audit`, with all people before it: each shard is summed up, the
summaries come together in one place, and what is found goes back to the shards.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from celebface.indexing import audit
from celebface.indexing.audit import Doubt, Pair, Summary
from celebface.indexing.schemas import AUDIT, Action, Finding, Flag, Reason, Status
from celebface.transforms.staged import shard_of

STAGE = "audit"
AUDITS = ("auto", "off", "report", "quarantine")


@dataclasses.dataclass(frozen=True)
class Quarantine:
    """What the audit says about the items of a shard.

    Attributes:
      reasons: Why an item is kept out, by row of the table of outcomes.
      findings: Table of `schemas.AUDIT`, of those that are only reported, too.
    """

    reasons: Mapping[int, Reason] = dataclasses.field(default_factory=dict)
    findings: pa.Table = dataclasses.field(default_factory=AUDIT.empty_table)


@dataclasses.dataclass
class JudgePeople(beam.PTransform):
    """Summaries of all people to what is found: (shard, Doubt) and (shard, Pair). One worker sees all of them.

    Attributes:
      shards: Number of shards.
    """

    shards: int

    def expand(self, summaries: beam.PCollection) -> beam.PCollection:
        return (
            summaries
            | "Together" >> beam.Map(lambda summary: (0, summary)).with_output_types(tuple[int, Any])
            | beam.GroupByKey()
            | "Judge" >> beam.FlatMap(_judge, self.shards).with_output_types(tuple[int, Any])
        )


def _judge(keyed: tuple[int, Iterable[Summary]], shards: int) -> Iterator[tuple[int, Doubt | Pair]]:
    judgement = audit.judge(audit.merge(keyed[1]))
    findings: list[Doubt | Pair] = [*judgement.doubts, *judgement.pairs]
    for found in findings:
        yield shard_of(found.identity_id, shards), found


def summarise(outcomes: pa.Table, repeated: Iterable[int]) -> Summary:
    """Sums up the people of a shard.

    Args:
      outcomes: Table of `staging_schema` for faces; a person's items are all in it.
      repeated: Rows that say nothing new.
    """
    rows = outcomes["rows"].combine_chunks()
    counts = ~np.isin(pc.list_parent_indices(rows).to_numpy(), list(repeated))
    faces = rows.flatten().filter(pa.array(counts))
    vectors = faces.field("embedding").flatten().to_numpy(zero_copy_only=False)
    size = faces.type.field("embedding").type.list_size
    ids, people, names = (faces.field(name).to_pylist() for name in ("face_id", "identity_id", "identity"))
    return audit.summarise(ids, people, names, vectors.reshape(-1, size))


def apply(
    outcomes: pa.Table, repeated: Iterable[int], found: Sequence[Doubt | Pair], policy: str
) -> tuple[pa.Table, Quarantine]:
    """Puts photos in quarantine, or only tells that they are in doubt.

    Args:
      outcomes: Table of `staging_schema` for faces, in its final order.
      repeated: Rows that are left out anyway.
      found: On the people of this shard.
      policy: "quarantine"; "report"; or "auto", quarantine for photos from the web and report for files.

    Returns:
      The outcomes as they end, and what is kept out.
    """
    doubts = {each.face_id: each for each in found if isinstance(each, Doubt)}
    pairs = sorted((each for each in found if isinstance(each, Pair)), key=lambda pair: (pair.distance, pair.other_id))
    changes: dict[int, dict[str, Any]] = {}
    reasons: dict[int, Reason] = {}
    findings = []
    for item, face in _doubted(outcomes, doubts, set(repeated)):
        doubt = doubts[face["face_id"]]
        uri = outcomes["uri"][item].as_py()
        detail = in_words(doubt, face["identity"], face["faces_in_image"])
        kept_out = policy == "quarantine" or (policy == "auto" and uri.startswith("http"))
        findings.append(
            {
                **dataclasses.asdict(doubt),
                "identity": face["identity"],
                "uri": uri,
                "action": Action.QUARANTINED if kept_out else Action.REPORTED,
                "own_distance": doubt.own,
                "near_distance": doubt.near,
                "faces_in_image": face["faces_in_image"],
                "detail": detail,
            }
        )
        said = changes.get(item, {}).get("detail") or outcomes["detail"][item].as_py()
        flag = outcomes["flag"][item].as_py() or str(Flag(doubt.finding))  # that it has two names is told in any case
        changes[item] = {"flag": flag, "detail": "; ".join(filter(None, [said, detail]))}
        if kept_out:
            reasons[item] = Reason(doubt.finding)
            changes[item].update(status=str(Status.REJECTED), stage=STAGE, reason=str(doubt.finding), faces=0, flag="")
    findings.sort(key=lambda row: (row["identity_id"], row["face_id"]))
    findings += [_pair_row(pair) for pair in pairs]
    return changed(outcomes, changes), Quarantine(reasons, pa.Table.from_pylist(findings, schema=AUDIT))


def _doubted(
    outcomes: pa.Table, doubts: Mapping[str, Doubt], repeated: set[int]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The faces in doubt, each with the row of its item."""
    if not doubts:
        return
    rows = outcomes["rows"].combine_chunks()
    items, faces = pc.list_parent_indices(rows).to_pylist(), rows.flatten()
    columns = {name: faces.field(name) for name in ("face_id", "identity", "faces_in_image")}
    for number in np.flatnonzero(pc.is_in(columns["face_id"], pa.array(list(doubts))).to_numpy(zero_copy_only=False)):
        if items[number] not in repeated:
            yield items[number], {name: column[int(number)].as_py() for name, column in columns.items()}


def _pair_row(pair: Pair) -> dict[str, Any]:
    return {
        **dataclasses.asdict(pair),
        "face_id": "",
        "uri": "",
        "finding": Finding.CLOSE_PAIR,
        "action": Action.REPORTED,
        "near_distance": pair.distance,
        "detail": f"D {pair.distance:.2f} to {pair.other}: perhaps one person under two names",
    }


def in_words(doubt: Doubt, name: str, faces_in_image: int) -> str:
    """The evidence against a face, for people."""
    if doubt.own is None:
        own = f"{name} has no other photo"
    elif doubt.support:
        own = f"D {doubt.own:.2f} to the others of {name} ({doubt.support} agree)"
    else:
        own = f"the photos of {name} disagree (the nearest is at D {doubt.own:.2f})"
    near = "" if doubt.near is None else f"D {doubt.near:.2f} to {doubt.other}"
    several = f"{faces_in_image} faces on the photo, perhaps the wrong one was taken" if faces_in_image > 1 else ""
    return "; ".join(filter(None, [near, own] if doubt.finding == Finding.WRONG_PERSON else [own, near])) + (
        f"; {several}" if several else ""
    )


def changed(outcomes: pa.Table, changes: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """A table with other values in some of its rows."""
    for name in dict.fromkeys(name for change in changes.values() for name in change):
        values = outcomes[name].to_pylist()
        for row, change in changes.items():
            values[row] = change.get(name, values[row])
        field = outcomes.schema.field(name)
        outcomes = outcomes.set_column(outcomes.schema.get_field_index(name), field, pa.array(values, field.type))
    return outcomes
