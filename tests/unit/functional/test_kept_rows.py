"""Rows kept up to a number come out the same however the data was sharded."""

import itertools

import pytest
import torch
from test_samples import ORDERS, columns, shards

from gradood.functional.kept_rows import KeptRows
from gradood.functional.samples import Rows, Selection


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1, 7, 40, 100, None])
def test_they_are_those_of_a_selection(size, order):
    table = columns()
    parts = [KeptRows.of(size, **part) for part in shards(table, [3, 11, 29])]
    total = parts[order[0]]
    for i in order[1:]:
        total = total.merge(parts[i])
    whole = Rows.of(**table) if size is None else Selection.of(size, **table)
    found = total.tensors()
    for name, column in whole.tensors().items():
        assert torch.equal(found[name], column)
    assert total.seen == 40


def test_no_more_is_held_than_a_quarter_beyond():
    table = columns(4000)
    cuts = list(range(10, 4000, 10))
    total = KeptRows.of(100, **{name: column[:0] for name, column in table.items()})
    for part in shards(table, cuts):
        total = total.merge(KeptRows.of(100, **part))
        assert total.held <= 125
        assert sum(len(chunk["key"]) for chunk in total.chunks) == total.held
    assert torch.equal(total.tensors()["key"], table["key"].sort().values[:100])
    assert total.seen == 4000


def test_equal_keys_count_each():
    key = torch.zeros(10, dtype=torch.int64)
    parts = [KeptRows.of(4, key=key[:5], row=torch.ones(5, 2)) for _ in range(2)]
    kept = parts[0].merge(parts[1]).tensors()
    assert kept["key"].shape == (4,)
    assert kept["row"].shape == (4, 2)


def test_an_empty_shard_changes_nothing():
    table = columns(5)
    none = KeptRows.of(3, **{name: column[:0] for name, column in table.items()})
    some = KeptRows.of(3, **table)
    for a, b in itertools.permutations((none, some)):
        assert torch.equal(a.merge(b).tensors()["key"], table["key"].sort().values[:3])
    assert none.merge(none).tensors()["row"].shape == (0, 3)


def test_columns_can_be_changed():
    rows = KeptRows.of(3, **columns(5)).merge(KeptRows.of(3, **columns(5)))
    doubled = rows.mapped(lambda c: {"key": c["key"], "value": 2 * c["value"]})
    assert torch.equal(doubled.tensors()["value"], 2 * rows.tensors()["value"])
    assert doubled.seen == 10
