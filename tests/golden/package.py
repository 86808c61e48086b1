"""The package, through its public face, on the networks of the golden tests."""

from dataclasses import dataclass
from typing import Any

import torch
from naive.arrays import Array
from networks import CASES, Case
from numpy.testing import assert_allclose
from torch import Tensor, nn

import gradood

NAMES = sorted(CASES)
RELATIVE = 1e-9
"""What every closed form must reach on a float64 model."""


@dataclass(frozen=True)
class Setting:
    """One network with its fit data and the inputs to score, all in float64."""

    case: Case
    network: nn.Module
    x: Tensor
    fit_x: Tensor
    fit_y: Tensor

    @property
    def weight(self) -> Tensor:
        return self.network.head.weight.detach()

    @property
    def bias(self) -> Tensor:
        return self.network.head.bias.detach()

    @property
    def fit_data(self) -> list[tuple[Tensor, Tensor]]:
        """In batches of unequal size."""
        return list(zip(self.fit_x.split(17), self.fit_y.split(17), strict=True))

    def scores(self, detector: Any, *, fit: bool = False) -> Array:
        """Of `x`, by the monitor."""
        monitor = gradood.Monitor(self.network, detector)
        if fit:
            monitor.fit(self.fit_data)
        return monitor.score(self.x).numpy()

    def features(self, x: Tensor) -> Tensor:
        """The input of the head."""
        kept: list[Tensor] = []
        handle = self.network.head.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
        with torch.no_grad():
            self.network(x)
        handle.remove()
        return kept[0]

    def logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.network(x)


def setting(name: str, *, n: int = 7, fit: int = 40) -> Setting:
    """A case; every class occurs in the fit, and about a third of it is classified correctly."""
    case = CASES[name]
    network, fit_x = case.build(), case.inputs(fit, seed=5)
    with torch.no_grad():
        predicted = network(fit_x).argmax(1)
    every = torch.arange(fit)
    fit_y = torch.where(every % 3 == 0, predicted, every % 5)
    return Setting(case, network, case.inputs(n), fit_x, fit_y)


def same(got: Any, expected: Any, relative: float = RELATIVE) -> None:
    """Equal to a relative precision, with no absolute allowance."""
    assert_allclose(got, expected, rtol=relative, atol=0)
