"""The covering array loses no pair of the full product, and hardly moves when that changes."""

from covering import covering, covering_array, full_product, idle, pairs
from variants import FAILS, LINKS, VARIANTS

from gradood.testing import applicable, checks, networks


def test_every_pair_of_the_product_occurs():
    assert pairs(covering_array()) == pairs(full_product())
    assert set(covering_array()) <= set(full_product())
    assert len(covering_array()) < len(full_product()) / 5


def test_every_variant_meets_every_check_and_every_network_of_its_own():
    rows = covering_array()
    for name, variant in VARIANTS.items():
        assert {check for v, _, check in rows if v == name} == set(applicable(variant.make()))
        assert {network for v, network, _ in rows if v == name} == set(variant.networks)
    for network in networks():
        met = {check for _, n, check in rows if n == network}
        assert met >= {check.name for check in checks().values() if not check.once}


def test_it_is_the_same_for_any_order_of_the_product():
    assert set(covering(reversed(full_product()))) == set(covering_array())


FEW = {name for name, link in LINKS.items() if link != "softmax"}
"""Networks on which few variants run, so that what one of them covers there the others share."""


def test_nearly_all_rows_stay_when_a_variant_is_added():
    for variant in ("energy", "gaia-z:layers", "knn"):
        before = set(covering(row for row in full_product() if row[0] != variant))
        after = {row for row in covering_array() if row[0] != variant}
        moved = before ^ after
        assert len({row for row in moved if row[1] not in FEW}) <= 5, variant
        assert len(moved) <= 25, variant


def test_rows_that_run_cover_every_pair_that_rows_that_run_can():
    running = {row for row in covering_array() if not idle(row)}
    assert pairs(running) == pairs(row for row in full_product() if not idle(row))


def test_what_is_known_to_fail_is_in_the_product():
    assert FAILS.keys() <= set(full_product())
