"""Known data in two parts, told apart by content."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from gradood.errors import DataError
from gradood.rejection._default import Sizes, sizes_of
from gradood.rejection._partition import Known, repeatable


def rows(known: Known, fit: bool) -> torch.Tensor:
    return torch.cat(list(known.part(fit=fit)))


def test_parts_are_disjoint_complete_and_independent_of_the_order():
    x = torch.arange(100.0)[:, None].repeat(1, 3)
    known = Known.of([x[:30], x[30:]]).split(0.5, 19)
    fit, rest = rows(known, True), rows(known, False)
    assert len(fit) == 50 == known.fitted
    assert sorted(torch.cat([fit, rest])[:, 0].tolist()) == list(range(100))
    again = Known.of([x.flip(0)]).split(0.5, 19)
    assert set(rows(again, True)[:, 0].tolist()) == set(fit[:, 0].tolist())


def test_copies_stay_together():
    x = torch.arange(10.0)[:, None].repeat(6, 2)
    known = Known.of([x]).split(0.5, 5)
    fit, rest = set(rows(known, True)[:, 0].tolist()), set(rows(known, False)[:, 0].tolist())
    assert not fit & rest and known.fitted == 6 * len(fit) and 4 <= len(fit) <= 5


def test_what_the_calibration_needs_is_left():
    x = torch.arange(25.0)[:, None]
    assert Known.of([x]).split(0.5, 19).fitted == 6
    assert Known.of([x]).split(0.5, 40).fitted == 0


def test_what_the_calibration_needs_is_left_of_contents_and_not_of_their_copies():
    x = torch.arange(30.0)[:, None].repeat(10, 2)
    known = Known.of([x]).split(0.5, 19)
    assert known.distinct == 30 and known.fitted == 110
    # One content is most of the data: it cannot be fitted on, and the others are.
    x = torch.cat([torch.arange(30.0), torch.full((70,), 99.0)])[:, None].repeat(1, 2)
    known = Known.of([x]).split(0.5, 19)
    assert known.fitted == 12 and 99 not in rows(known, True)


def test_the_share_of_every_class_is_that_of_all_on_average():
    x, y = torch.arange(4000.0)[:, None], torch.arange(4000) % 4
    parts = Known.of([(x, y)]).split(0.5, 19).part(fit=True)
    counts = torch.cat([labels for _, labels in parts]).bincount()
    assert len(counts) == 4
    assert 440 < int(counts.min()) <= 500


def test_no_more_is_counted_than_tells_that_there_is_enough():
    x, y = torch.zeros(50, 2), torch.arange(50) % 4
    given = iter([(x, y)] * 10)
    assert sizes_of(given, 4, "fit", combined=True) == Sizes(rows=100, fewest=24, combined=True)
    assert len(list(given)) == 8
    assert sizes_of([(x, y)] * 10, 5, "fit", combined=True) == Sizes(
        rows=500, fewest=0, combined=True
    )
    assert sizes_of([(x, None)] * 10, 30, None, combined=False) == Sizes(
        rows=150, fewest=None, combined=False
    )


def test_one_pass_is_kept_and_a_whole_data_set_is_taken_in_parts():
    x = torch.randn(600, 2)
    assert [len(part) for part in repeatable(x)] == [256, 256, 88]
    assert [len(part) for part in repeatable(x.numpy())] == [256, 256, 88]
    kept = repeatable(iter([x[:5], x[5:]]))
    assert isinstance(kept, list) and len(kept) == 2
    known = Known.of(iter([(x, torch.zeros(600, dtype=torch.int64))])).split(0.5, 19)
    assert sum(len(y) for _, y in known.part(fit=True)) == 300
    assert isinstance(repeatable(np.zeros(3)), np.ndarray)


def test_what_goes_on_where_the_last_pass_ended_is_kept():
    class Stream(IterableDataset):
        def __init__(self):
            self.rows = iter(torch.randn(30, 2))

        def __iter__(self):
            return self.rows

    loader = DataLoader(Stream(), batch_size=10)
    assert [len(list(repeatable(data))) for data in (loader, Stream())] == [3, 30]
    again = DataLoader([torch.randn(2)] * 30, batch_size=10)
    assert repeatable(again) is again


def test_other_data_in_a_later_pass_is_refused():
    x = torch.randn(50, 2)
    known = Known.of([x])
    known.data[0].add_(1)
    with pytest.raises(DataError, match="other inputs each time"):
        list(known.part(fit=False))
