"""Which numeric precision a machine should encode in."""

import os
import platform


def cpu_has_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (AVX-512 BF16 or AMX). Known on Linux only."""
    if platform.system() != "Linux" or not os.path.exists("/proc/cpuinfo"):
        return False
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
        flags = next((line.split() for line in info if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags
