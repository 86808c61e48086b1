"""What a monitor is made of, and what it promises: its description and read-only properties."""

from typing import TYPE_CHECKING, Any

from torch import nn

from gradood.calibration._curve import How
from gradood.detectors.base import Detector, State
from gradood.monitor._summary import MonitorSummary, summary_of

if TYPE_CHECKING:
    from gradood.monitor._session import Session

__all__ = ["Described"]


class Described:
    """The part of a monitor that tells what it is."""

    _session: "Session"

    def __repr__(self) -> str:
        return f"Monitor({self._session})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def summary(self) -> MonitorSummary:
        """Model, promise, and every detector's state, threshold and cost, as a table to print."""
        return summary_of(self._session.options, self._session.state)

    @property
    def model(self) -> nn.Module:
        """The classifier."""
        return self._session.unbound.model

    @property
    def detectors(self) -> dict[str, Detector]:
        """The detectors by name, without those left out."""
        return dict((self._session.state.bound or self._session.unbound).detectors)

    @property
    def left_out(self) -> dict[str, str]:
        """Why a detector does not run, by name; see `skip_unusable`. Known from the first batch."""
        return self._session.state.left_out

    @property
    def states(self) -> dict[str, State]:
        """What each fitted detector has learned: named tensors; copies, of the monitor's own."""
        return self._session.state.learned()

    @property
    def fit_accuracy(self) -> float | None:
        """Share of the fit labels that the model predicts; None without labels, or if loaded."""
        fitted = self._session.state.fitted
        return None if fitted is None or fitted.agreement is None else fitted.agreement.accuracy

    @property
    def combine(self) -> How | None:
        """How the detectors become one decision; None if they do not."""
        return self._session.unbound.combine

    @property
    def preprocess(self) -> dict[str, Any] | None:
        """How images became the inputs, in plain values; a copy."""
        return self._session.options.preprocess_copy()

    @property
    def overrides(self) -> tuple[str, ...]:
        """Refusals that were overridden, each with its reason; stamped on every result."""
        return self._session.state.stamps
