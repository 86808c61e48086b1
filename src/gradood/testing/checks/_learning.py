"""Checks of a fit: a map, a merge and a finish, whose result is a value."""

import random
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from gradood.detectors._shared.saved_partials import loaded_partial, saved_partial
from gradood.detectors.base import Learner, partial_tensors
from gradood.errors import CalibrationError, ConfigError, DataError, GradoodError, NotFittedError
from gradood.functional._tensor_shapes import misfits
from gradood.monitor import Monitor, Partials
from gradood.testing.case import Case, Labeled
from gradood.testing.checks.check import Collection

__all__ = ["LEARNING"]

LEARNING = Collection()


@LEARNING.check(learners=True)
def unfitted_is_refused(case: Case) -> None:
    """A score before the fit is a NotFittedError that says to fit."""
    try:
        case.unfitted().score(case.x)
    except NotFittedError as error:
        assert case.detector.name in str(error), f"does not name the detector: {error}"
        assert "fit" in str(error), f"does not say what to do: {error}"
        return
    raise AssertionError("scored without a fit")


@LEARNING.check()
def detector_is_not_changed(case: Case) -> None:
    """Fitting and scoring add, remove and replace nothing in the detector itself."""
    detector = type(case.detector)(**case.detector.options())
    before = dict(vars(detector))
    monitor = Monitor(case.network.model(), detector, link=case.network.link, progress=False)
    monitor.fit(case.data())
    monitor.score(case.x)
    assert vars(detector).keys() == before.keys(), f"attributes now: {sorted(vars(detector))}"
    replaced = [name for name, value in before.items() if vars(detector)[name] is not value]
    assert not replaced, f"replaced: {', '.join(replaced)}"


@LEARNING.check(learners=True, refused=True)
def state_is_named_tensors(case: Case) -> None:
    """What is learned is a flat mapping of names to tensors that own their memory."""
    if case.refusal is not None:
        # A fit refuses such a state too, but that is no refusal of the network.
        assert "its state" not in str(case.refusal), str(case.refusal)
        return
    state = case.monitor.states[case.detector.name]
    memory: set[int] = set()
    for name, tensor in state.items():
        assert isinstance(name, str) and name.isidentifier(), f"{name!r} is no plain name"
        assert isinstance(tensor, Tensor), f"{name} is a {type(tensor).__name__}, not a tensor"
        assert not tensor.requires_grad, f"{name} carries a graph"
        assert tensor.is_contiguous(), f"{name} is not contiguous"
        assert not bool(tensor.isnan().any()), f"{name} holds NaN"
        storage = tensor.untyped_storage()
        assert storage.nbytes() == tensor.numel() * tensor.element_size(), f"{name} is a view"
        assert storage.data_ptr() not in memory, f"{name} shares its memory"
        memory.add(storage.data_ptr())
    detector, network = case.detector, case.monitor.bind(case.x).network
    if isinstance(detector, Learner) and detector.state_shapes:
        odd = list(misfits(detector.state_shapes, state, network.sizes))
        assert not odd, f"not as state_shapes says: {'; '.join(odd)}"


@LEARNING.check(learners=True)
def fit_twice_as_once(case: Case) -> None:
    """A second fit on the same data changes no bit; on other data it forgets the first."""
    monitor = case.fitted()
    once = _state(monitor)
    _same_state(_state(monitor.fit(case.data())), once, 0.0, "fitted twice")
    other = case.data(seed=7)
    # Bound on the same inputs, so that only what was learned can differ.
    fresh = case.fitted()
    _same_state(_state(monitor.fit(other)), _state(fresh.fit(other)), 0.0, "fitted again")


@LEARNING.check(learners=True)
def shards_merge_in_any_order(case: Case) -> None:
    """Eight shards merged in random order and grouping give the state of one pass, to 1e-9.

    Samples of each of them are refused in a calibration.
    """
    data = case.data(batch=8)
    monitor = case.unfitted()
    once = _state(monitor.fit(data))
    generator = random.Random(0)
    shards = [monitor.accumulate([batch]) for batch in data]
    for _ in range(2):  # Merging and finishing leave the shards as they were.
        parts = generator.sample(shards, len(shards))
        while len(parts) > 1:
            a, b = (parts.pop(generator.randrange(len(parts))) for _ in range(2))
            parts.append(monitor.merge(a, b))
        monitor.finish(parts[0])
        _same_state(_state(monitor), once, 1e-9, "eight shards")
    for x, _ in (data[0], data[-1]):
        _refused_as_fitted(monitor, x)


@LEARNING.check(learners=True)
def shards_from_other_monitors(case: Case) -> None:
    """Shards seen by monitors of their own, each bound on its shard, merge like one pass."""
    data = case.data(batch=16)
    monitor = case.unfitted()
    once = _state(monitor.fit(data))
    parts = [case.unfitted().accumulate([batch]) for batch in data]
    merged = parts[-1]
    for part in parts[-2::-1]:
        merged = monitor.merge(merged, part)
    monitor.finish(merged)
    _same_state(_state(monitor), once, 1e-9, "shards from four monitors")


@LEARNING.check(learners=True)
def merge_changes_nothing(case: Case) -> None:
    """Merging and finishing leave the parts as they were, so both can be done again."""
    monitor = case.unfitted()
    first, second = ([batch] for batch in case.data(batch=48))
    a, b = monitor.accumulate(first), monitor.accumulate(second)
    before = _tensors(a), _tensors(b)
    merged = monitor.merge(a, b)
    monitor.finish(merged)
    once = _state(monitor)
    monitor.finish(monitor.merge(a, b))
    _same_state(_state(monitor), once, 0.0, "merged and finished again")
    for kept, part in zip(before, (a, b), strict=True):
        _same_state(_tensors(part), kept, 0.0, "a part after it was merged")


@LEARNING.check(learners=True)
def saved_partial_is_the_partial(case: Case) -> None:
    """A partial made again of its tensors merges and learns the same bits, or is refused."""
    monitor, learner = case.unfitted(), case.detector
    assert isinstance(learner, Learner)
    parts = [monitor.accumulate([batch]) for batch in case.data(batch=24)]
    try:
        saved_partial(learner, parts[0][learner.name])
    except ConfigError as error:
        assert "cannot be saved" in str(error), f"does not say so: {error}"
        return

    def again(partials: Partials) -> Partials:
        tensors = saved_partial(learner, partials[learner.name])
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        made = loaded_partial(learner, copies)
        found = partial_tensors(made)
        assert list(found) == list(tensors), f"tensors: {list(found)}, not {list(tensors)}"
        _same_state(found, tensors, 0.0, "the tensors of a partial made again")
        return Partials({learner.name: made}, partials.seen, partials.refused, partials.models)

    def learned(*each: Partials) -> dict[str, Tensor]:
        monitor.finish(reduce(monitor.merge, each))
        return _state(monitor)

    first, *rest = parts
    once = learned(*parts)
    _same_state(learned(again(first), *rest), once, 0.0, "the first part saved")
    _same_state(learned(*map(again, parts)), once, 0.0, "every part saved")
    _same_state(learned(again(reduce(monitor.merge, parts))), once, 0.0, "all of it saved")


@LEARNING.check(learners=True)
def fit_batches_do_not_matter(case: Case) -> None:
    """Other batch sizes and another order of the data give the same state in float64."""
    double = case.in_double()
    once = _state(double.fitted())
    x, y = (torch.cat(part) for part in zip(*double.data(), strict=True))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    orders = {"batches of 7": (x, y), "shuffled": (x[order], y[order])}
    for what, (a, b) in orders.items():
        monitor = double.unfitted()
        monitor.bind(x[:32])
        batches = list(zip(a.split(7), b.split(7), strict=True))
        _same_state(_state(monitor.fit(batches)), once, 1e-9, what)


@LEARNING.check(learners=True)
def empty_fit(case: Case) -> None:
    """A fit without a sample is a DataError; empty batches among others are passed over."""
    x, y = case.data()[0]
    for nothing in ([], [(x[:0], y[:0])]):
        _typed(lambda data: case.unfitted().fit(data), nothing, "an empty fit", DataError)
    data = [(x[:0], y[:0]), *case.data(), (x[:0], y[:0])]
    _same_state(_state(case.unfitted().fit(data)), _state(case.monitor), 1e-9, "with empty batches")


@LEARNING.check(learners=True)
def labels_where_needed(case: Case) -> None:
    """Labels missing where needed are a DataError; where not needed, nobody looks at them."""
    unlabeled: Any = [x for x, _ in case.data()]
    if case.labels:
        _typed(case.unfitted().fit, unlabeled, "a fit without labels", DataError, "labels")
        return
    scores = case.unfitted().fit(unlabeled).score(case.x)
    case.agree(scores, case.scores, "a fit without labels")


@LEARNING.check(learners=True)
def labels_out_of_range(case: Case) -> None:
    """Labels that are no class, no whole numbers or too few are a DataError."""
    if not case.labels or case.network.link == "sigmoid":
        return
    classes = case.network.classes
    for wrong in (-1, classes, 1000):
        data = case.data()
        data[1][1][3] = wrong
        _typed(case.unfitted().fit, data, f"the label {wrong}", DataError, str(wrong))
    shapes: list[Callable[[Tensor], Tensor]] = [lambda y: y[1:], lambda y: torch.stack([y, y], 1)]
    for shape in (*shapes, lambda y: y + 0.5):
        data = [(x, shape(y)) for x, y in case.data()]
        _typed(case.unfitted().fit, data, "labels of another shape or type", DataError)


@LEARNING.check(learners=True)
def class_missing_from_the_fit(case: Case) -> None:
    """Classes that never occur in the fit give finite scores, or a typed error."""
    for missing in (0, case.network.classes - 1):
        kept = [(x[~_of(y, missing)], y[~_of(y, missing)]) for x, y in case.data()]
        _finite_or_typed(case, kept, f"a fit without class {missing}")
    one = [(x[_of(y, 1)], y[_of(y, 1)]) for x, y in case.data()]
    _finite_or_typed(case, one, "a fit with one class alone")


@LEARNING.check(learners=True)
def few_samples(case: Case) -> None:
    """One sample per class, one sample in all, and identical samples: finite, or a typed error."""
    x, y = case.data()[0]
    classes = case.network.classes
    _finite_or_typed(case, [(x[:classes], y[:classes])], "one sample per class")
    _finite_or_typed(case, [(x[:1], y[:1])], "a single sample")
    alike = x[:1].expand(60, *x.shape[1:]), y[:1].expand(60, *y.shape[1:])
    _finite_or_typed(case, [alike], "60 times one")
    doubled = [(x, y), (x, y), *case.data()]
    _finite_or_typed(case, doubled, "samples that occur several times")


def _of(labels: Tensor, number: int) -> Tensor:
    """(batch,) bool: whether a sample is of that class, or of that and others."""
    return labels == number if labels.ndim == 1 else labels[:, number] == 1


def _refused_as_fitted(monitor: Monitor, x: Tensor) -> None:
    try:
        monitor.calibrate(x, fpr=0.5)
    except CalibrationError as error:
        assert "fit" in str(error), f"samples of a shard are refused for another reason: {error}"
    else:
        raise AssertionError("samples of a shard were fitted on, and could be calibrated on")


def _finite_or_typed(case: Case, data: Labeled, what: str) -> None:
    try:
        scores = case.fitted(data=data).score(case.x)
    except GradoodError as error:
        assert len(str(error)) > 20, f"{what}: an error without words: {error!r}"
        return
    assert bool(scores.isfinite().all()), f"{what}: scores {scores[~scores.isfinite()].tolist()}"


def _typed(
    call: Callable[[Any], object], data: Any, what: str, kind: type[GradoodError], word: str = ""
) -> None:
    try:
        call(data)
    except kind as error:
        assert word in str(error), f"{what}: the message lacks {word!r}: {error}"
        return
    raise AssertionError(f"{what} was accepted")


def _state(monitor: Monitor) -> dict[str, Tensor]:
    (state,) = monitor.states.values()
    return dict(state)


def _tensors(partials: Any) -> dict[str, Tensor]:
    return {
        name: tensor.clone()
        for partial in partials.values()
        for name, tensor in partial_tensors(partial).items()
    }


def _same_state(
    got: dict[str, Tensor], expected: dict[str, Tensor], relative: float, what: str
) -> None:
    """Raise unless two states are the same, to a precision relative to each tensor's largest."""
    assert got.keys() == expected.keys(), f"{what}: {sorted(got)}, not {sorted(expected)}"
    for name, tensor in got.items():
        other = expected[name]
        assert tensor.shape == other.shape, f"{what}: {name} is {tuple(tensor.shape)}"
        assert tensor.dtype == other.dtype, f"{what}: {name} is {tensor.dtype}"
        a, b = tensor.double(), other.double()
        assert torch.equal(a.isfinite(), b.isfinite()), f"{what}: {name} is infinite elsewhere"
        a, b = a.nan_to_num(posinf=0, neginf=0), b.nan_to_num(posinf=0, neginf=0)
        error = float((a - b).abs().max()) if a.numel() else 0.0
        scale = float(b.abs().max()) if b.numel() else 0.0
        assert error <= relative * scale, (
            f"{what}: {name} differs by {error:.1e}, its largest value is {scale:.1e}; "
            f"allowed {relative:.0e} of that"
        )
