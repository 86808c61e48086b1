"""Checks of arithmetic: extreme logits, half precision, far and degenerate inputs."""

import torch
from torch import Tensor, nn

from gradood.errors import GradoodError
from gradood.taps import logits_of
from gradood.testing.case import Case
from gradood.testing.checks.check import Collection

__all__ = ["NUMBERS"]

NUMBERS = Collection()


@NUMBERS.check()
def extreme_logits(case: Case) -> None:
    """Logits of ±1e4 and ±6e4, the range of half precision, have finite scores."""
    for largest in (1e4, 6e4):
        model = _with_logits_up_to(case, largest)
        scores = case.fitted(model).score(case.x)
        _finite(scores, f"logits up to {largest:g}")


@NUMBERS.check()
def bfloat16_model(case: Case) -> None:
    """A bfloat16 model gets finite float64 scores."""
    _half(case, torch.bfloat16, case.network.model())


@NUMBERS.check()
def float16_model(case: Case) -> None:
    """A float16 model gets finite float64 scores, with logits up to 6e4 too."""
    _half(case, torch.float16, case.network.model())
    _half(case, torch.float16, _with_logits_up_to(case, 6e4))


@NUMBERS.check()
def double_model(case: Case) -> None:
    """The same network in float64 scores the same to the precision of float32."""
    double = case.in_double()
    case.agree(double.scores, case.scores, "in float64", relative=2e-3)


@NUMBERS.check()
def default_dtype(case: Case) -> None:
    """What torch makes new tensors of, by default, does not matter."""
    before = torch.get_default_dtype()
    model = case.network.model()
    try:
        torch.set_default_dtype(torch.float64)
        scores = case.fitted(model).score(case.x)
    finally:
        torch.set_default_dtype(before)
    case.agree(scores, case.scores, "with float64 as the default dtype")


@NUMBERS.check()
def far_inputs(case: Case) -> None:
    """Inputs far from the data, constant or overflowing, never score NaN or -inf."""
    shape = (3, *case.network.shape)
    for value in (0.0, 1.0, 1e4, -1e4, 1e30, -3e38, 1e-40):
        _ordered(case.monitor.score(torch.full(shape, value)), f"inputs of {value:g}")
    for factor in (1e-6, 1e3, 1e6, 1e20):
        _ordered(case.monitor.score(factor * case.x), f"inputs {factor:g} times as large")


@NUMBERS.check()
def overflow_is_out_of_distribution(case: Case) -> None:
    """Where the model itself overflows, the score is +inf or finite, and other rows keep theirs."""
    x = case.x.clone()
    x[3] *= 1e38
    scores = case.monitor.score(x)
    _ordered(scores, "a row that overflows")
    others = torch.arange(len(x)) != 3
    case.agree(scores[others], case.scores[others], "rows beside one that overflows")


@NUMBERS.check()
def one_class(case: Case) -> None:
    """A network with a single class gets scores that are no NaN, or a typed error."""
    alone = Case(case.detector, case.network.with_classes(1))
    try:
        scores = alone.scores
    except GradoodError:
        return
    _ordered(scores, "a network with one class")


def _half(case: Case, dtype: torch.dtype, model: nn.Module) -> None:
    data = [(x.to(dtype), y) for x, y in case.data()]
    scores = case.fitted(model.to(dtype), data).score(case.x.to(dtype))
    assert scores.dtype == torch.float64, f"{scores.dtype}, not float64"
    _finite(scores, f"a {dtype} model")


@torch.no_grad()
def _with_logits_up_to(case: Case, largest: float) -> nn.Module:
    model = case.network.model()
    head = model.get_submodule(case.binding.network.head.layer)
    seen = torch.cat([case.x, *(x for x, _ in case.data())])
    given: list[Tensor] = []
    handle = head.register_forward_hook(lambda _, __, output: given.append(output))  # type: ignore[arg-type]
    logits = logits_of(model(seen))
    handle.remove()
    scale = 0.99 * largest / float(logits.abs().max())
    # The head's numbers, and what it gives before its bias is added, must fit half precision too.
    weight, *bias = (float(parameter.abs().max()) for parameter in head.parameters())
    scale = min(scale, 6e4 / max(weight, float(given[0].abs().max()) + sum(bias)))
    for parameter in head.parameters():
        parameter.mul_(scale)
    return model


def _finite(scores: Tensor, what: str) -> None:
    bad = (~scores.isfinite()).nonzero()[:, 0].tolist()
    assert not bad, f"{what}: {scores[bad].tolist()} at rows {bad}"


def _ordered(scores: Tensor, what: str) -> None:
    bad = (scores.isnan() | (scores == -torch.inf)).nonzero()[:, 0].tolist()
    assert not bad, f"{what}: {scores[bad].tolist()} at rows {bad}"
