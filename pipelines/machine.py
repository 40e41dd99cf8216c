"""What of this machine may be used: its own, or what its container is allowed."""

import contextlib
import math
import os
import pathlib
from collections.abc import Sequence

# Of control groups, as a container sees its own; of memory version 2 and 1.
_CPU_QUOTA = pathlib.Path("/sys/fs/cgroup/cpu.max")
_MEMORY_LIMITS = tuple(pathlib.Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes"))


def memory(limits: Sequence[pathlib.Path] = _MEMORY_LIMITS) -> int:
    """Bytes of memory this process may use: the machine's, or its container's.

    Args:
      limits: Files in which the kernel tells a container's limit, in bytes.
    """
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in limits:
        with contextlib.suppress(OSError, ValueError):  # there is none, or it says "max"
            return min(whole, int(limit.read_text()))
    return whole


def cores(quota: pathlib.Path = _CPU_QUOTA) -> int:
    """Cores this process may use: the machine's, or its container's.

    Args:
      quota: File in which the kernel tells a container's limit: microseconds of processor time, and in how many.
    """
    # There is no affinity on macOS.
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # there is none, or it says "max"
        allowed, period = map(int, quota.read_text().split())
        return max(1, min(found, math.ceil(allowed / period)))
    return found
