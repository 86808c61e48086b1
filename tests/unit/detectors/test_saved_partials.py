"""Partials as named tensors, and back: strict, and without a pickle."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

import gradood
from gradood.detectors._shared.banks import KeptVectors
from gradood.detectors._shared.outliers import EarlyMixing
from gradood.detectors._shared.saved_partials import loaded_partial, saved_partial
from gradood.detectors.base import Learner
from gradood.errors import ConfigError, DataError
from gradood.functional.farthest_rows import FarthestRows
from gradood.functional.gram import Ranges
from gradood.functional.moments import ClassMoments, Extremes
from gradood.functional.neighbors import polar
from gradood.functional.quantiles import Histogram
from gradood.functional.samples import Rows, Selection
from gradood.registry import create

LEARNERS = [method.name for method in gradood.methods() if method.learns]
KEY = torch.tensor([3, 5, 9])


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_here_says_what_it_accumulates(name):
    learner: Any = create(name)
    with pytest.raises(DataError):
        loaded_partial(learner, {"stranger": torch.zeros(1)})


def _moments():
    return ClassMoments.of(torch.randn(9, 3), torch.arange(9) % 2, 2, scatter=True).tensors()


@pytest.mark.parametrize(
    "change",
    [
        {"count": torch.zeros(3, dtype=torch.int64)},
        {"count": torch.zeros(2)},
        {"mean": torch.zeros(2, 3)},
        {"scatter": torch.zeros(3, 2, dtype=torch.float64)},
        {"more": torch.zeros(1)},
    ],
)
def test_moments_of_another_type_or_shape_are_refused(change):
    with pytest.raises(DataError, match="moments cannot be made of these tensors"):
        ClassMoments.from_tensors({**_moments(), **change})


def test_a_selection_keeps_its_size_and_refuses_another_order():
    selection = Selection.of(3, key=KEY.flip(0), x=torch.randn(3, 2))
    again = Selection.from_tensors(selection.tensors())
    assert again.size == 3 and again.columns["x"].equal(selection.columns["x"])
    with pytest.raises(DataError, match="ascending"):
        Selection.from_tensors({"key": KEY.flip(0), "size": torch.tensor(3)})
    with pytest.raises(DataError, match="selection of 2 cannot have 3"):
        Selection.from_tensors({"key": KEY, "size": torch.tensor(2)})
    with pytest.raises(DataError, match="size"):
        Selection.from_tensors({"key": KEY, "size": torch.tensor(-1)})
    with pytest.raises(DataError, match="size"):
        Selection.from_tensors({"key": KEY})


def test_rows_of_another_length_or_without_keys_are_refused():
    with pytest.raises(DataError, match="'x' has another length"):
        Rows.from_tensors({"key": KEY, "x": torch.zeros(2)})
    for key in ({}, {"key": KEY.float()}, {"key": KEY[:, None]}):
        with pytest.raises(DataError, match="keys"):
            Rows.from_tensors({**key, "x": torch.zeros(3)})


def test_a_histogram_has_its_bins():
    with pytest.raises(DataError, match="bins"):
        Histogram.from_tensors({"counts": torch.zeros(7, dtype=torch.int64)})


def test_groups_of_no_class_are_refused():
    ranges = Ranges.of([torch.randn(6, 4), torch.randn(6, 2)], torch.arange(6) % 3, 3)
    kept = ranges.tensors()
    assert Ranges.from_tensors(kept).widths == (4, 2)
    assert Ranges.from_tensors(kept).enough is None
    for change in (
        {"rows": kept["rows"] + 200},
        {"rows": kept["rows"].flip(0)},
        {"widths": torch.tensor([4, 3])},
        {"widths": torch.tensor([7, -1])},
    ):
        with pytest.raises(DataError, match="rows or widths"):
            Ranges.from_tensors({**kept, **change})


def test_early_activations_mix_with_classes_that_there_are():
    labels = torch.arange(8) % 3
    args = torch.randn(8, 5), torch.randn(8, 3), labels, torch.arange(8)
    kept = EarlyMixing.of(*args, n=4).tensors()
    assert EarlyMixing.from_tensors(kept).tensors().keys() == kept.keys()
    with pytest.raises(DataError, match="early activations"):
        EarlyMixing.from_tensors({**kept, "second": kept["second"] + 3})


@dataclass(frozen=True, eq=False, slots=True)
class _Either:
    kept: Rows | Selection | None
    range: Extremes


class _Own(Learner[_Either]):
    """A partial whose field is of one of two types, or of none [nobody2026]."""

    name, needs, cost, fails_when = "own", ("features",), "none", "Always."

    def plan(self, network, probe): ...
    def accumulate(self, evidence): ...
    def finish(self, partial, network, plan): ...
    def measure(self, evidence, state): ...


@pytest.mark.parametrize("form", [polar, torch.Tensor.double])
@pytest.mark.parametrize(("samples", "bits"), [(None, 32), (None, 4), (5, 8), (5, "auto")])
def test_a_bank_goes_on_as_it_was(samples, bits, form):
    def bank(start):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(start))
        return KeptVectors.of(torch.arange(8) * 7 + start, form(x), samples, bits)

    first, second = bank(0), bank(3)
    again = KeptVectors.from_tensors(first.tensors())
    one, other = first.merge(second).tensors(), again.merge(second).tensors()
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    for change in ({"seen": torch.tensor(3)}, {"bits": torch.tensor(5)}, {"more": KEY}):
        with pytest.raises(DataError, match="a bank of"):
            KeptVectors.from_tensors({**first.tensors(), **change})


def test_the_farthest_rows_go_on_as_they_were():
    def rows(start):
        x = torch.randn(30, 4, generator=torch.Generator().manual_seed(start), dtype=torch.float64)
        columns = {"key": torch.arange(30) * 7 + start, "labels": torch.arange(30) % 3, "rows": x}
        return FarthestRows.of(12, "eucos", 3, columns)

    first, second = rows(0), rows(3)
    again = FarthestRows.from_tensors(first.tensors())
    one, other = first.merge(second).tensors(), again.merge(second).tensors()
    assert one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)
    for change in ({"distance": torch.tensor(3)}, {"labels": KEY}, {"more": KEY}):
        with pytest.raises(DataError):
            FarthestRows.from_tensors({**first.tensors(), **change})


@pytest.mark.parametrize("kept", [None, Rows.of(key=KEY), Selection.of(2, key=KEY)])
def test_a_field_is_of_the_type_that_it_was_of(kept):
    part = _Either(kept, Extremes(torch.zeros(2), torch.ones(2)))
    again = loaded_partial(_Own(), saved_partial(_Own(), part))
    assert type(again) is _Either and type(again.kept) is type(kept)


class _Unsaid(_Own):
    """A subclass is of the type of the class above it [nobody2026]."""


def test_what_cannot_be_made_again_is_refused_when_it_is_saved():
    class Bare(Learner):
        """Says nothing [nobody2026]."""

        name, needs, cost, fails_when = "bare", ("features",), "none", "Always."
        plan = accumulate = finish = measure = _Own.plan

    with pytest.raises(ConfigError, match=r"cannot be saved: .* from_tensors; .*Learner\[…\]"):
        saved_partial(Bare(), Extremes(torch.zeros(1), torch.ones(1)))
    part = _Either(None, Extremes(torch.zeros(2), torch.ones(2)))
    assert saved_partial(_Unsaid(), part).keys() == {"range.low", "range.high"}
    with pytest.raises(DataError, match="own accumulates nothing called 'other'"):
        loaded_partial(_Own(), {"other": KEY})
