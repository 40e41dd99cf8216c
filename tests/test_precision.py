"""Which precision the networks run in where nobody says."""

import pytest

from celebface.models.precision import is_quick_in_bfloat16

INTEL, AMD = "GenuineIntel", "AuthenticAMD"


@pytest.mark.parametrize(
    ("vendor", "flags", "quick"),
    [
        (INTEL, "avx512f avx512_bf16 amx_bf16 amx_tile", True),
        (INTEL, "avx512f avx512_bf16 avx512_fp16", False),
        (AMD, "avx512f avx512_bf16", True),
        (AMD, "avx2", False),
    ],
)
def test_bfloat16_is_taken_where_it_is_quicker(tmp_path, vendor, flags, quick):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n\n" * 2)
    assert is_quick_in_bfloat16(info) is quick


def test_a_machine_that_does_not_tell_is_not(tmp_path):
    assert not is_quick_in_bfloat16(tmp_path / "none")
