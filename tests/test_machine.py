"""What of a machine may be used."""

import os

import pytest

from celebface.pipelines import machine


def test_memory_is_the_containers(tmp_path):
    (tmp_path / "unlimited").write_text("max\n")
    (tmp_path / "limited").write_text(f"{2**30}\n")
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine.memory([tmp_path / "none", tmp_path / "limited"]) == 2**30
    assert machine.memory([tmp_path / "unlimited"]) == whole


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_cores_are_the_containers(tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert machine.cores(tmp_path / "cpu.max") == (cores or len(os.sched_getaffinity(0)))
