"""Binding: a model observed on the first inputs, and what each detector will read of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradood.detectors.base import Detector, Plan
from gradood.errors import DataError, GradoodError
from gradood.evidence import Read
from gradood.taps import Network, observe, unwrap

__all__ = ["Binding", "bind", "observed", "probe_of", "shown"]

_PROBE = 32


@dataclass(frozen=True, eq=False)
class Binding:
    """The observed network, what each detector reads of it, and the union of that."""

    network: Network
    plans: dict[str, Plan]

    @property
    def reads(self) -> tuple[Read, ...]:
        return tuple(dict.fromkeys(r for plan in self.plans.values() for r in plan.reads))

    @property
    def fit_reads(self) -> tuple[Read, ...]:
        return tuple(dict.fromkeys(r for plan in self.plans.values() for r in plan.fit_reads))

    @property
    def caveats(self) -> tuple[str, ...]:
        """Why some scores may mean little on this network."""
        return tuple(dict.fromkeys(c for plan in self.plans.values() for c in plan.caveats))


def bind(
    model: nn.Module, x: Tensor, detectors: Mapping[str, Detector], *, head: str | None = None
) -> Binding:
    """Observe a model and let each detector plan.

    Args:
        model: any classifier.
        x: (batch ≥ 1, …) finite inputs on the model's device.
        detectors: by name.
        head: name of the head, or None to search for it.

    Raises:
        TapError: the model cannot be read.
        DataError: the input does not fit the model.
    """
    network = observed(model, x, head=head)
    probe = probe_of(x)
    return Binding(network, {name: d.plan(network, probe) for name, d in detectors.items()})


def observed(model: nn.Module, x: Tensor, *, head: str | None = None) -> Network:
    """The network as observed on `x`; an input that does not fit is told from a broken model.

    Raises:
        TapError: the model cannot be read.
        DataError: there is no input, it is not finite, or it has another shape or type than the
            model's first layer takes.
    """
    module = unwrap(model)
    if not x.numel() or (x.is_floating_point() and not bool(x[:2].isfinite().all())):
        what = "hold NaN or infinity" if x.numel() else "are empty"
        raise DataError(f"the inputs {shown(x)} {what}; expected some like those to be scored.")
    try:
        return observe(module, x, head=head)
    except GradoodError:
        raise
    except (RuntimeError, TypeError) as error:
        misfit = _misfit(module, x)
        if misfit is None:
            raise
        raise DataError(f"{misfit}: {error}") from error


def probe_of(x: Tensor) -> Tensor:
    """At least 32 inputs to try things on: those given, then shifted and dimmed copies of them.

    Args:
        x: (batch ≥ 1, …).
    """
    x = x[: 2 * _PROBE]
    copies = [x]
    while sum(map(len, copies)) < _PROBE:
        step = len(copies)
        copy = torch.roll(x, step, -1)
        copies.append(copy * (1.0 - 0.02 * step) if copy.is_floating_point() else copy)
    return torch.cat(copies)


def shown(x: Tensor) -> str:
    """Shape and type of inputs, for messages."""
    return f"(batch, {', '.join(map(str, x.shape[1:]))}) {x.dtype}".replace("torch.", "")


def _misfit(module: nn.Module, x: Tensor) -> str | None:
    """How the input plainly does not fit the model's first layer, if so."""
    parameter = next(module.parameters(), None)
    first = next((m for m in module.modules() if isinstance(m, _FIRST)), None)
    expected: list[str] = []
    floating = True
    if isinstance(first, nn.Embedding):
        floating = False
        if x.is_floating_point():
            expected.append("whole numbers")
    elif isinstance(first, nn.modules.conv._ConvNd):
        rank = len(first.kernel_size) + 2
        if x.ndim != rank or x.shape[1] != first.in_channels:
            expected.append(f"{rank} dimensions with {first.in_channels} channels")
    elif isinstance(first, nn.Linear) and x.shape[1:].numel() != first.in_features:
        expected.append(f"{first.in_features} features")
    if floating and parameter is not None and x.dtype != parameter.dtype:
        expected.append(f"{parameter.dtype}".replace("torch.", ""))
    return (
        f"the input is {shown(x)}; the model expects {' and '.join(expected)}" if expected else None
    )


_FIRST = (nn.modules.conv._ConvNd, nn.Linear, nn.Embedding)
