"""The reckoning of the scale benchmark: fits, how work is dealt out, hosts, parts of files, limits and prices."""

import math

import numpy as np
import pytest

from benchmarks import scale_costs, scale_model, scale_tables
from benchmarks.scale_limits import Limit
from benchmarks.scale_model import Prices, Usage


def test_line_and_power_are_found_again():
    line = scale_model.fit_line([10, 20, 40], [7, 9, 13])
    assert (line.fixed, line.each, line.at(100)) == pytest.approx((5, 0.2, 25))
    power = scale_model.fit_power([10, 100, 1000], [3 * size**1.5 for size in (10, 100, 1000)])
    assert (power.factor, power.exponent) == pytest.approx((3, 1.5))
    assert power.error == pytest.approx(0, abs=1e-9)


def test_line_takes_nothing_for_nothing_at_the_least():
    line = scale_model.fit_line([10, 20], [1, 3])
    assert (line.fixed, line.each) == (0.0, pytest.approx(70 / 500))


def test_power_tells_how_far_it_is_off():
    assert scale_model.fit_power([1, 10, 100], [1, 12, 100]).error > 0.05


def test_equal_photos_and_workers_end_together():
    costs, even = np.ones(1000), np.ones(10)
    assert scale_model.dealt_out(costs, even) == pytest.approx(1)
    assert scale_model.taken(costs, even, 10) == pytest.approx(1)


def test_slow_worker_holds_up_all_only_if_photos_are_dealt_out():
    costs, speeds = np.ones(10_000), scale_model.some_slow(10, 0.1, 0.5)
    assert scale_model.dealt_out(costs, speeds) == pytest.approx(2 * 9.5 / 10)
    assert scale_model.taken(costs, speeds, 10) < 1.02


def test_large_items_let_workers_wait_for_the_last():
    costs = np.ones(1000)
    assert scale_model.taken(costs, np.ones(3), 500) == pytest.approx(1.5)  # two items for three workers


def test_dear_photo_at_the_end_is_waited_for():
    costs = np.append(np.ones(99), 101.0)
    assert scale_model.taken(costs, np.ones(2), 1) == pytest.approx((49 + 101) / 100)


def test_one_host_is_asked_one_after_the_other():
    hosts = scale_model.ask_hosts(8 * 86_400 * 3, 1, 1.0, 8.0)
    assert (hosts.days, hosts.after_a_night, hosts.after_a_week) == pytest.approx((3, 1 / 9, 1))


def test_hosts_of_one_size_are_through_at_once():
    hosts = scale_model.ask_hosts(1e6, 1000, 0.0, 8.0)
    assert hosts.largest == pytest.approx(1000)
    assert hosts.after_a_night == 1


def test_shard_opens_each_part_twice_if_it_fits_in_one_slice():
    found = scale_model.read_parts(25, 4, 25, 2000)  # one part with a batch for each of four shards
    assert (found.opens * 25, found.rows) == pytest.approx((8, 2))


def test_one_shard_of_many_parts_reads_whole_parts_for_single_rows():
    few, many = (scale_model.read_parts(1e6, shards, 256, 2000).rows for shards in (1, 500))
    assert many < 3 < 150 < few


def counted_reads(photos: int, shards: int, per_part: int, per_slice: int) -> tuple[float, float]:
    """The same as `read_parts`, by going through all photos in random order."""
    rng = np.random.default_rng(1)
    parts = rng.permutation(photos) // per_part
    owners = rng.integers(shards, size=photos)
    opens = rows = 0
    for owner in range(shards):
        mine = parts[owners == owner]
        sizes = np.bincount(mine, minlength=photos // per_part)
        slices = [mine, *(mine[start : start + per_slice] for start in range(0, len(mine), per_slice))]
        opens += sum(len(set(some)) for some in slices)
        rows += sum(sizes[list(set(some))].sum() for some in slices)
    return opens / photos, rows / photos


@pytest.mark.parametrize("shards", [1, 5, 40])
def test_reads_of_parts_are_those_of_photos_in_random_order(shards):
    found = scale_model.read_parts(20_480, shards, 256, 500)
    assert (found.opens, found.rows) == pytest.approx(counted_reads(20_480, shards, 256, 500), rel=0.2)


def test_limit_is_reached_where_it_crosses_its_bound():
    assert Limit("", "h", lambda size: 2 * size, 8, "").reached() == pytest.approx(4)
    assert math.isinf(Limit("", "h", lambda size: 0.0, 8, "").reached())


def test_price_is_the_sum_of_what_is_used():
    usage = Usage(hours=10, memory_gb=2, shuffle_gb=3, stored_gb=4, staged_gb=30, reads=2e6, writes=1e6)
    prices = Prices(1, 10, 100, 1000, 10_000, 100_000)
    assert usage.price(prices) == pytest.approx(10 * (1 + 20) + 300 + 5000 + 20_000 + 100_000)
    assert usage.workers_for_a_night == 2


@pytest.mark.parametrize(
    ("count", "shown"), [(1e6, "10^6"), (1e9, "10^9"), (2.34e6, "2.3 million"), (45_678, "46,000"), (math.inf, "any")]
)
def test_counts_are_written_in_two_digits(count, shown):
    assert scale_tables.count(count) == shown


def test_bytes_are_counted_by_the_steps_of_the_graph():
    shuffled = {
        "ref_AppliedPTransform_Resume-CoGroupByKey-CoGroupByKeyImpl-GroupByKey_22": 5,
        "ref_AppliedPTransform_Spread-ReshufflePerKey-GroupByKey_31": 6,
        "ref_AppliedPTransform_Shard-Photos_73": 7,
        "ref_AppliedPTransform_Shard-GroupByKey_82": 8,
    }
    assert scale_costs._by_step(shuffled) == {"Resume": 5, "Spread": 6, "Shard Photos": 7, "Shard": 8}


def test_tables_of_a_page_are_replaced_and_the_rest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(scale_tables, "tables", lambda results, prices: {"one": [["a", "b"], ["1", "2"]]})
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- one -->\nold\n<!-- end -->\nafter\n<!-- other -->\nkept\n<!-- end -->\n")
    scale_tables.fill(page, {}, Prices())
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    assert (
        page.read_text() == f"before\n<!-- one -->\n{table}\n<!-- end -->\nafter\n<!-- other -->\nkept\n<!-- end -->\n"
    )
