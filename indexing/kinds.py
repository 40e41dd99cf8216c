"""The kinds of index there are."""

import dataclasses

from celebface.indexing import annoy_index, exact_index, hnsw_index
from celebface.indexing.index import Kind, MissingLibrary

AUTO = "auto"
DEFAULT = annoy_index.NAME
_MODULES: tuple[Kind, ...] = (exact_index, annoy_index, hnsw_index)
KINDS: dict[str, Kind] = {kind.NAME: kind for kind in _MODULES}  # the simplest first
CHOICES = (AUTO, *KINDS)


@dataclasses.dataclass(frozen=True)
class IndexRequest:
    """What an index is asked to be.

    Attributes:
      kind: One of `CHOICES`.
      min_recall: Least recall@1 and recall@10.
      max_latency_ms: Largest p99 of a query alone; None for any.
      parts: How many; 0 to go by the number of faces.
    """

    kind: str = DEFAULT
    min_recall: float = 0.99
    max_latency_ms: float | None = None
    parts: int = 0

    def __post_init__(self) -> None:
        if self.kind not in CHOICES:
            raise ValueError(f"the kind of index must be one of {', '.join(CHOICES)}, not {self.kind}")
        if not 0 <= self.min_recall <= 1:
            raise ValueError(f"the least recall must lie between 0 and 1, not {self.min_recall}")


def missing(kind: str) -> str:
    """What must be installed before a kind can be used, in a sentence; empty if nothing."""
    try:
        KINDS[kind].check()
    except MissingLibrary as error:
        return str(error)
    return ""


def worth_an_index(kind: Kind, faces: int, effort: int) -> bool:
    """Whether an index that looks with `effort` is faster, batch by batch, than to look at all faces.

    The size of a batch must not decide: answers would depend on it.
    """
    return bool(kind.FILES) and faces > kind.FACES_PER_EFFORT * effort
