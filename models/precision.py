"""Which numeric precision the networks run in."""

import pathlib

PRECISIONS = ("float32", "bfloat16")


def check_precision(precision: str) -> None:
    """Refuses a precision that is not known.

    Raises:
      ValueError: If it is not.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")


def is_quick_in_bfloat16(cpu_info: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> bool:
    """Whether the networks are quicker in bfloat16 than in float32 on this machine's processor. Known on Linux only.

    They are with AMX. With AVX-512's instruction alone Intel's processors do half as many a cycle as of those for
    float32, so that nothing is won and conversions are lost: 1.6 times float32's time for the encoder, on a Xeon whose
    AMX is not handed to virtual machines. AMD's do as many.

    Args:
      cpu_info: The kernel's description of the processor.
    """
    if not cpu_info.exists():
        return False
    lines = (line.partition(":") for line in cpu_info.read_text(encoding="ascii", errors="replace").splitlines())
    known = {name.strip(): value.split() for name, _, value in lines}
    flags = known.get("flags", [])
    return "amx_bf16" in flags or ("avx512_bf16" in flags and known.get("vendor_id") == ["AuthenticAMD"])
