"""Which numeric precision the networks run in."""

import os
import platform

PRECISIONS = ("float32", "bfloat16")


def check_precision(precision: str) -> None:
    """Refuses a precision that is not known.

    Raises:
      ValueError: If it is not.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def cpu_has_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (AVX-512 BF16 or AMX). Known on Linux only."""
    if platform.system() != "Linux" or not os.path.exists("/proc/cpuinfo"):
        return False
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        flags = next((line.split() for line in info if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags
