"""Rows far from their class mean are found in any order, though most rows are dropped."""

import itertools

import pytest
import torch

from gradood.errors import DataError
from gradood.functional.farthest_rows import FarthestRows

DRAWN = torch.Generator().manual_seed(3)
ROWS = torch.randn(3000, 5, generator=DRAWN, dtype=torch.float64)
LABELS = torch.randint(0, 3, (3000,), generator=DRAWN)
TABLE = {"key": torch.randperm(3000, generator=DRAWN), "labels": LABELS, "rows": ROWS}


def distance(rows, centers):
    return torch.linalg.vector_norm(rows - centers, dim=1)


def part(index, size):
    return FarthestRows.of(size, "euclidean", 4, {name: x[index] for name, x in TABLE.items()})


def joined(parts):
    total, *others = parts
    for one in others:
        total = total.merge(one)
        assert total.held <= 1.25 * total.size
        assert total.held == sum(len(chunk["key"]) for chunk in total.chunks)
    return total.trimmed()


def farthest(label, count):
    own = (LABELS == label).nonzero()[:, 0]
    far = distance(ROWS[own], ROWS[own].mean(0).expand(len(own), -1)).argsort(descending=True)
    return set(TABLE["key"][own[far[:count]]].tolist())


@pytest.mark.parametrize("order", [*itertools.permutations(range(5))][::17])
def test_those_of_each_class_are_kept(order):
    cuts = torch.arange(3000).split([700, 11, 1000, 289, 1000])
    total = joined([part(cuts[i], 400) for i in order])
    found, seen = total.tensors(), total.seen
    assert seen == 3000 and total.held <= 400
    for label in range(3):
        kept = set(found["key"][found["labels"] == label].tolist())
        assert len(kept) == 100 and farthest(label, 50) <= kept
        mean = ROWS[LABELS == label].mean(0)
        torch.testing.assert_close(found["mean"][label], mean)
    assert found["count"].tolist() == torch.bincount(LABELS, minlength=4).tolist()


def test_they_come_class_after_class():
    order = LABELS.argsort(stable=True)
    total = joined([part(index, 400) for index in order.split(10)])
    found = total.tensors()
    for label in range(3):
        assert farthest(label, 30) <= set(found["key"][found["labels"] == label].tolist())


def test_all_are_kept_up_to_the_bound():
    total = joined([part(torch.arange(50), 100), part(torch.arange(50, 100), 100)])
    assert total.held == total.seen == 100
    found = total.tensors()
    assert torch.equal(found["key"], TABLE["key"][:100].sort().values)
    assert torch.equal(found["rows"], ROWS[TABLE["key"][:100].argsort()])


def test_what_was_saved_goes_on_as_it_would_have():
    parts = [part(index, 400) for index in torch.arange(3000).split(300)]
    whole, first = joined(parts), joined(parts[:5])
    again = FarthestRows.from_tensors(first.tensors())
    assert again.held == first.held and again.seen == first.seen
    found = joined([again, *parts[5:]]).tensors()
    assert found.keys() == whole.tensors().keys()
    for name, tensor in joined([first, *parts[5:]]).tensors().items():
        assert torch.equal(found[name], tensor)
    kept = first.tensors()
    for change in (
        {"key": kept["key"].flip(0)},
        {"labels": kept["labels"] + 3},
        {"count": kept["count"] * 0},
        {"size": torch.tensor(0)},
        {"kind": torch.tensor(9)},
        {"rows": kept["rows"][:, :2]},
        {"more": torch.zeros(1)},
    ):
        with pytest.raises(DataError, match="farthest rows"):
            FarthestRows.from_tensors({**kept, **change})
