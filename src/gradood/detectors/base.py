"""The contract of a detector."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeVar, final

from torch import Tensor

from gradood.errors import ConfigError
from gradood.evidence import Evidence, Read
from gradood.taps import Network

__all__ = ["Detector", "Learner", "Mergeable", "Partial", "Plan", "State", "require"]


class Mergeable(Protocol):
    """What a fit accumulates: an explicit value, merged in any order with the same result."""

    def merge(self, other: Self, /) -> Self:
        """The value over both sets of samples."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name, in an order that no sharding changes."""
        ...


Partial = Mapping[str, Any]
"""Name → `Mergeable`: what a detector has seen of the fit data so far."""
State = Mapping[str, Tensor]
"""Name → tensor: all that a detector has learned; nothing else is saved."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a detector reads of one network.

    Attributes:
        reads: for a score, in the order `Evidence.readings` gives them.
        fit_reads: for `accumulate`.
        caveats: why the score may mean little on this network; each becomes one warning.
        notes: choices made, for `gradood.inspect`.
    """

    reads: tuple[Read, ...]
    fit_reads: tuple[Read, ...] = ()
    caveats: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Detector(ABC):
    """An out-of-distribution score; higher means more out-of-distribution.

    The constructor only stores and checks its keyword-only options. A detector says what it reads
    of a network and computes one pure score from it; it never sees a model's forward or its data.

    Class attributes (shown by `gradood.methods()` and on the method's page in the docs):
        name: kebab-case name in the registry.
        title: one line on what it measures.
        paper: citation key in `references.bib`.
        needs: what it reads, in words.
        cost: passes and memory, in words.
        fails_when: where the score means little.
        learns: whether it must be fitted; such detectors derive from `Learner`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    cost: ClassVar[str]
    fails_when: ClassVar[str]
    learns: ClassVar[bool] = False

    @abstractmethod
    def plan(self, network: Network, probe: Tensor) -> Plan:
        """What to read of this network; made once, before the first batch.

        Args:
            network: the observed model, from which default layers are taken.
            probe: (batch ≥ 32, …) inputs to try things on.

        Raises:
            TapError: the model has nothing this detector can read; says why.
        """

    @abstractmethod
    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,) in float64; a pure function of its arguments.

        Args:
            evidence: what the plan asked for, and nothing else.
            state: from `Learner.finish`; empty for detectors that learn nothing.
        """

    @final
    def options(self) -> dict[str, Any]:
        """The constructor's arguments as they are."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @final
    def __repr__(self) -> str:
        defaults = {k: p.default for k, p in inspect.signature(type(self)).parameters.items()}
        given = [f"{k}={v!r}" for k, v in self.options().items() if not _same(v, defaults[k])]
        return f"{type(self).__name__}({', '.join(given)})"


class Learner(Detector):
    """A detector that learns from in-distribution data: a map, a merge and a finish.

    Class attributes:
        labels: whether `accumulate` needs true class labels.
    """

    learns: ClassVar[bool] = True
    labels: ClassVar[bool] = True

    @abstractmethod
    def accumulate(self, evidence: Evidence) -> Partial:
        """What one batch contributes; merging batches in any order gives the same.

        Args:
            evidence: what the plan asked for in a fit, with labels if there are any.
        """

    @abstractmethod
    def finish(self, partial: Partial, network: Network, plan: Plan) -> State:
        """The learned state.

        Args:
            partial: merged over all batches.
            network: to run parts of the model on things built from `partial`.
            plan: what was read.

        Raises:
            DataError: the fit data cannot support this detector; says what is missing.
        """

    @final
    def merge(self, a: Partial, b: Partial) -> Partial:
        """What two sets of batches contribute together."""
        return {name: value.merge(b[name]) for name, value in a.items()}


def _same(value: object, default: object) -> bool:
    return type(value) is type(default) and value == default


def require(condition: bool, option: str, value: object, expected: str) -> None:
    """Check one constructor option.

    Args:
        condition: whether the value is allowed.
        option: its name.
        value: what was given.
        expected: what would be allowed.

    Raises:
        ConfigError: with all three in the message.
    """
    if not condition:
        raise ConfigError(f"{option}={value!r}; expected {expected}.")
