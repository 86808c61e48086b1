"""Covering array of the contract suite: which variant meets which check on which network.

A test of the suite is a row ``(variant, network, check)``. The full product has some 32,000 rows.
The covering array is a part of it in which every pair that the product has occurs at least once:
every (variant, check), every (variant, network) and every (network, check).

Rows are assigned by hash: of the networks of a variant, a check takes the one whose hash with both
is largest (rendezvous hashing); pairs that this leaves out are added, each in the row of the
largest hash. So the array is the same on every machine, and a variant, network or check that is
added or removed leaves nearly all other rows as they are. A row that says little, because the
detector refuses the network or is known to fail there, stands for a pair only if no other row can.
"""

import hashlib
from collections.abc import Iterable
from functools import cache

from variants import FAILS, REFUSED, VARIANTS, case

from gradood.testing import applicable, checks, run_check

__all__ = ["Row", "covering", "covering_array", "full_product", "idle", "pairs", "run_row"]

Row = tuple[str, str, str]
"""Variant, network, check."""


@cache
def full_product() -> tuple[Row, ...]:
    """Every row; a check of the detector alone comes on the variant's first network only."""
    rows: list[Row] = []
    for variant in VARIANTS.values():
        names = applicable(variant.make())
        for network in variant.networks:
            first = network == variant.networks[0]
            rows += [(variant.name, network, n) for n in names if first or not checks()[n].once]
    return tuple(rows)


@cache
def covering_array() -> tuple[Row, ...]:
    """Rows in which every pair of the product occurs, in the product's order."""
    return covering(full_product())


def covering(product: Iterable[Row]) -> tuple[Row, ...]:
    """The covering array of a product.

    Args:
        product: rows, each once.

    Returns:
        Some of them, in the same order.
    """
    rows = tuple(product)
    ranked = sorted(rows, key=lambda row: (not idle(row), _hash(row)), reverse=True)
    chosen: set[Row] = set()
    covered: set[tuple[str, ...]] = set()
    for place in range(3):
        for row in ranked:
            pair = _pairs(row)[place]
            if pair not in covered:
                chosen.add(row)
                covered.update([pair] if idle(row) else _pairs(row))
    return tuple(row for row in rows if row in chosen)


def idle(row: Row) -> bool:
    """Whether the check does not run on that network, or is known to fail."""
    variant, network, name = row
    check = checks()[name]
    refused = (variant, network) in REFUSED and not (check.once or check.refused)
    return refused or row in FAILS


def run_row(row: Row) -> None:
    """Run one row, and hold it to what is expected of it.

    Raises:
        AssertionError: it failed, or passed though it is known to fail; a network was refused that
            should not be, or the reverse.
    """
    variant, network, check = row
    expected = FAILS.get(row)
    try:
        outcome = run_check(check, case(variant, network))
    except AssertionError as error:
        if expected is None or expected not in str(error):
            raise
        return
    assert expected is None, f"{row} passed; take it out of FAILS"
    refused = (variant, network) in REFUSED and not checks()[check].once
    assert (outcome.status == "refused") == refused, outcome.detail


def pairs(rows: Iterable[Row]) -> set[tuple[str, ...]]:
    """Every pair that occurs in some rows, named by its kind."""
    return {pair for row in rows for pair in _pairs(row)}


def _pairs(row: Row) -> tuple[tuple[str, ...], ...]:
    variant, network, check = row
    return (
        ("variant, check", variant, check),
        ("variant, network", variant, network),
        ("network, check", network, check),
    )


def _hash(row: Row) -> bytes:
    return hashlib.sha256("\n".join(row).encode()).digest()
