"""Rows and selections come out the same however the data was sharded."""

import itertools

import pytest
import torch

from gradood.functional.samples import Rows, Selection


def columns(n=40):
    key = torch.randperm(10_000)[:n] - 5_000
    return {"key": key, "value": key.double().sin(), "row": key[:, None].expand(-1, 3).clone()}


def shards(table, cuts):
    bounds = [0, *cuts, len(table["key"])]
    return [
        {name: column[a:b] for name, column in table.items()} for a, b in itertools.pairwise(bounds)
    ]


ORDERS = list(itertools.permutations(range(4)))[::5]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1, 7, 40, 100])
def test_a_selection_does_not_depend_on_sharding(size, order):
    table = columns()
    whole = Selection.of(size, **table)
    parts = [Selection.of(size, **part) for part in shards(table, [3, 11, 29])]
    total = parts[order[0]]
    for i in order[1:]:
        total = total.merge(parts[i])
    for name, column in whole.tensors().items():
        assert torch.equal(total.tensors()[name], column)
    expected = table["key"].sort().values[:size]
    assert torch.equal(whole.columns["key"], expected)
    assert torch.equal(whole.columns["value"], expected.double().sin())


@pytest.mark.parametrize("order", ORDERS)
def test_rows_do_not_depend_on_sharding(order):
    table = columns()
    parts = [Rows.of(**part) for part in shards(table, [3, 11, 29])]
    total = parts[order[0]]
    for i in order[1:]:
        total = total.merge(parts[i])
    found, place = total.tensors(), table["key"].argsort()
    for name, column in table.items():
        assert torch.equal(found[name], column[place])


def test_an_empty_shard_changes_nothing():
    table = columns(5)
    none = {name: column[:0] for name, column in table.items()}
    merged = Selection.of(3, **none).merge(Selection.of(3, **table))
    assert torch.equal(merged.columns["key"], table["key"].sort().values[:3])
    assert len(Rows.of(**none).merge(Rows.of(**table)).tensors()["key"]) == 5
