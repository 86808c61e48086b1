"""One detector on one contract network: what every check starts from."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from gradood._engine.binding import Binding
from gradood.detectors.base import Detector, Learner, Plan
from gradood.errors import GradoodError, UnknownNameError
from gradood.evidence import Reads
from gradood.monitor import Monitor
from gradood.registry import detector_class
from gradood.testing.networks import ContractNetwork

__all__ = ["Case", "Labeled", "Subject", "total"]

Labeled = list[tuple[Tensor, Tensor]]
"""A fit loader: batches of inputs and labels."""

_FIT = 64
_HELD_OUT = 16


class Case:
    """A detector, a network, and what fitting and scoring once on it gave.

    Checks may use `monitor` and `model` for scoring, and must leave both as they are; a check that
    does more makes its own with `fitted`.

    Args:
        detector: as a user would make it.
        network: where to check it.
    """

    def __init__(self, detector: Detector, network: ContractNetwork) -> None:
        self.detector = detector
        self.network = network

    @cached_property
    def x(self) -> Tensor:
        """Held-out inputs."""
        return self.network.inputs(_HELD_OUT, seed=1)

    @property
    def registered(self) -> bool:
        """Whether the registry names this detector, so that a saved one can be loaded."""
        try:
            return detector_class(self.detector.name) is type(self.detector)
        except UnknownNameError:
            return False

    @property
    def learns(self) -> bool:
        """Whether the detector must be fitted."""
        return self.detector.must_fit

    @property
    def labels(self) -> bool:
        """Whether its fit needs labels."""
        needed = self.learns and isinstance(self.detector, Learner) and self.detector.labels
        return needed and self.network.link != "none"

    @cached_property
    def model(self) -> nn.Module:
        """The network's classifier, shared by the checks."""
        return self.network.model()

    @cached_property
    def monitor(self) -> Monitor:
        """Fitted, on `model`."""
        return self.fitted(self.model)

    @cached_property
    def scores(self) -> Tensor:
        """Of `x`, by `monitor`."""
        return self.monitor.score(self.x)

    @cached_property
    def binding(self) -> Binding:
        """What `monitor` reads of `model`."""
        return self.monitor.bind(self.x)

    @property
    def plan(self) -> Plan:
        """The detector's own part of `binding`."""
        return self.binding.plans[self.detector.name]

    @property
    def reads(self) -> Reads:
        """What the fitted detector reads for a score."""
        state = self.monitor.states.get(self.detector.name, {})
        return self.detector.bound_reads(self.plan.reads, state)

    @cached_property
    def refusal(self) -> GradoodError | None:
        """Why the detector will not work on this network, if it says so properly.

        An error is a refusal if it is the library's own and names the detector or a layer; any
        other is raised.
        """
        try:
            _ = self.monitor
        except GradoodError as error:
            names = [repr(name) for name, _ in self.model.named_modules() if name]
            if any(word in str(error) for word in (self.detector.name, *names)):
                return error
            raise
        return None

    def data(self, seed: int = 2, batch: int = 32) -> Labeled:
        """Fit data in batches."""
        x, y = self.network.inputs(_FIT, seed), self.network.labels(_FIT)
        return list(zip(x.split(batch), y.split(batch), strict=True))

    def unfitted(self, model: nn.Module | None = None) -> Monitor:
        """A new monitor with this detector alone, on `model` or on a fresh copy."""
        model = self.network.model() if model is None else model
        return Monitor(model, self.detector, link=self.network.link, progress=False)

    def fitted(self, model: nn.Module | None = None, data: Labeled | None = None) -> Monitor:
        """A new monitor that has seen `data`; a detector that learns nothing is only bound."""
        monitor = self.unfitted(model)
        data = self.data() if data is None else data
        monitor.bind(data[0][0])
        return monitor.fit(data) if self.learns else monitor

    def in_double(self) -> "Case":
        """The same on a float64 copy of the network."""
        return _Double(self.detector, self.network)

    def agree(self, got: Tensor, expected: Tensor, what: str, *, relative: float = 1e-5) -> None:
        """Raise unless two sets of this case's scores are the same to a relative precision.

        A score near zero is compared relative to how far scores are apart (their interquartile
        range): a logit that happens to be near zero is no more precise than its neighbors.

        Args:
            got: (rows,).
            expected: (rows,).
            what: which scores these are, for the message.
            relative: largest difference relative to the expected value.
        """
        shape, right = tuple(got.shape), tuple(expected.shape)
        assert shape == right, f"{what}: {shape}, not {right}"
        assert not bool(got.isnan().any()), f"{what}: NaN"
        finite = expected.isfinite()
        assert torch.equal(got[~finite], expected[~finite]), f"{what}: infinite in other places"
        got, expected = got[finite], expected[finite]
        if len(got) == 0:
            return
        error = (got - expected).abs() / expected.abs().clamp_min(self._spread)
        worst = int(error.argmax())
        assert float(error[worst]) <= relative, (
            f"{what}: {float(got[worst])!r} at row {worst}, expected {float(expected[worst])!r}; "
            f"relative difference {float(error[worst]):.1e}, allowed {relative:.0e}"
        )

    @cached_property
    def _spread(self) -> float:
        finite = self.scores[self.scores.isfinite()]
        low, high = finite.quantile(torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist()
        return max(high - low, 1e-300)


Subject = Case
"""The name that `Case` had in 0.1.0."""


class _Double(Case):
    @cached_property
    def x(self) -> Tensor:
        return super().x.double()

    @cached_property
    def model(self) -> nn.Module:
        return self.network.model().double()

    def data(self, seed: int = 2, batch: int = 32) -> Labeled:
        return [(x.double(), y) for x, y in super().data(seed, batch)]

    def unfitted(self, model: nn.Module | None = None) -> Monitor:
        return super().unfitted(self.network.model().double() if model is None else model)


def total(parts: Sequence[Tensor]) -> Tensor:
    """The parts in one, inputs or scores."""
    return torch.cat(list(parts))
