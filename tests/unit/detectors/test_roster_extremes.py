"""Every registered method at the edges: finite scores, or a typed error that names the method.

Small networks on which a method can learn; what changes is the size of the logits, the features,
the fit data, the precision, the width and the number of classes.
"""

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
import torch
from rosters import ON_ANY
from torch import Tensor, nn

import gradood
from gradood.errors import DataError, GradoodError, MeaninglessScoreWarning
from gradood.registry import create, detector_class

OPTIONS = {
    "blood": {"layers": ["linear1", "linear2"]},
    "knn": {"k": 1},
}
"""Where the default says nothing on a network of few layers or features, or asks for more rows."""


class Small(nn.Module):
    """A normalized and a plain linear-ReLU layer on 6 inputs, and a head."""

    def __init__(self, classes: int = 4, width: int = 10) -> None:
        super().__init__()
        self.linear1 = nn.Linear(6, 16)
        self.norm1 = nn.BatchNorm1d(16)
        self.linear2 = nn.Linear(16, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.linear1(x)))
        return self.head(torch.relu(self.linear2(x)))


def small(classes: int = 4, width: int = 10) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(classes + width)
        model = Small(classes, width).eval()
    with torch.no_grad():
        # So that a single feature is active, too, and logits are apart.
        model.linear2.bias.abs_().add_(0.2)
        model.head.weight.mul_(3.0)
    return model


def inputs(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator)


@dataclass(frozen=True)
class Case:
    """A model, what to fit it on, and what to score."""

    model: nn.Module
    x: Tensor
    y: Tensor
    scored: Tensor


def usual(model: nn.Module, classes: int = 4, n: int = 64) -> Case:
    return Case(model, inputs(n), torch.arange(n) % classes, inputs(9, seed=1))


def extreme_logits(sign: float) -> Case:
    case = usual(small())
    with torch.no_grad():
        largest = case.model(torch.cat([case.x, case.scored])).abs().max()
        for parameter in case.model.head.parameters():
            parameter.mul_(sign * 6e4 / largest)
    return case


def silent(model: nn.Module) -> nn.Module:
    """No feature is ever active."""
    with torch.no_grad():
        model.linear2.weight.zero_()
        model.linear2.bias.fill_(-1.0)
    return model


def zero_features_scored() -> Case:
    """Inputs far to one side leave every feature silent; the fit data does not."""
    case = usual(small())
    with torch.no_grad():
        case.model.linear2.weight.copy_(-case.model.linear2.weight.abs())
        case.model.linear2.bias.fill_(4.0)
        case.model.linear1.weight.abs_()
    far = torch.cat([torch.full((3, 6), 50.0), case.scored])
    with torch.no_grad():
        hidden = torch.relu(case.model.norm1(case.model.linear1(far)))
        assert not bool(torch.relu(case.model.linear2(hidden))[:3].any())
    return Case(case.model, case.x, case.y, far)


def constant() -> Case:
    case = usual(small())
    return Case(case.model, case.x[:1].repeat(64, 1), case.y, case.scored)


def one_each(classes: int = 4) -> Case:
    return usual(small(classes), classes, n=classes)


def half(dtype: torch.dtype) -> Case:
    case = usual(small())
    return Case(case.model.to(dtype), case.x.to(dtype), case.y, case.scored.to(dtype))


def one_known_class() -> Case:
    case = usual(small())
    return Case(case.model, case.x, torch.full_like(case.y, 2), case.scored)


PLAIN: dict[str, Callable[[], Case]] = {
    "logits of 6e4": lambda: extreme_logits(1.0),
    "logits of -6e4": lambda: extreme_logits(-1.0),
    "zero features": zero_features_scored,
    "bfloat16": lambda: half(torch.bfloat16),
    "float16": lambda: half(torch.float16),
    "two classes": lambda: usual(small(2), 2),
    "one feature": lambda: usual(small(width=1)),
}
"""What every method scores."""

SCANT: dict[str, Callable[[], Case]] = {
    "zero features in the fit": lambda: usual(silent(small())),
    "constant data": constant,
    "one sample of each class": one_each,
    "one class alone": one_known_class,
    "one row": lambda: usual(small(), n=1),
    "1000 classes and few rows": lambda: usual(small(1000), 1000, n=40),
    "more features than rows": lambda: usual(small(width=80), n=12),
}
"""Fit data that a method may refuse."""

METHODS = tuple(ON_ANY)
# Normalized to length 1, or reduced to fewer dimensions, one feature is a constant.
DIRECTIONS = ("actsub", "mahalanobis++", "neco", "projection-share", "ras", "rmds++")
# Two classes' mean gradients lie on one line, of which unit length leaves a sign.
REFUSING = {"one feature": DIRECTIONS, "two classes": ("low-dim-grad",)}
SAME_FOR_ALL = (
    ("fdbd", "zero features in the fit"),
    ("fdbd", "constant data"),
    ("she", "zero features in the fit"),
    ("nnguide", "zero features in the fit"),
    ("rmds", "one class alone"),
    ("rmds++", "one class alone"),
)
"""Fits of which every input would get the same score, or one without bound."""


def scored(methods: Iterable[str], given: Case) -> dict[str, Tensor]:
    detectors = [create(name, **OPTIONS.get(name, {})) for name in methods]
    monitor = gradood.Monitor(given.model, detectors, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MeaninglessScoreWarning)
        return monitor.fit([(given.x, given.y)]).score(given.scored)


def not_finite(scores: dict[str, Tensor]) -> dict[str, list[float]]:
    # The monitor shows NaN as +inf.
    return {name: s.tolist() for name, s in scores.items() if not bool(s.isfinite().all())}


@pytest.mark.parametrize("case", PLAIN)
def test_every_method_scores_finitely(case):
    methods = [name for name in METHODS if name not in REFUSING.get(case, ())]
    scores = scored(methods, PLAIN[case]())
    assert not not_finite(scores)
    assert all(s.dtype == torch.float64 and s.shape == (len(s),) for s in scores.values())


@pytest.mark.parametrize("method", DIRECTIONS)
def test_one_feature_without_a_direction_is_refused_by_name(method):
    with pytest.raises(GradoodError, match=re.escape(method)):
        scored([method], PLAIN["one feature"]())


@pytest.mark.parametrize("case", SCANT)
@pytest.mark.parametrize("method", METHODS)
def test_scant_fit_data_gives_finite_scores_or_an_error_that_names_the_method(method, case):
    try:
        scores = scored([method], SCANT[case]())
    except GradoodError as error:
        assert re.search(rf"\b{re.escape(method)}(?![\w+-])", str(error)), str(error)
        assert detector_class(method).learns, f"{method} learns nothing, and refuses: {error}"
        return
    assert not not_finite(scores)


@pytest.mark.parametrize(("method", "case"), SAME_FOR_ALL)
def test_a_fit_that_tells_no_inputs_apart_is_refused(method, case):
    with pytest.raises(DataError, match=rf"^{re.escape(method)} "):
        scored([method], SCANT[case]())
