"""The guard: a classifier that says -1 where it does not know, with a promised false-alarm rate."""

import inspect
import os
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypedDict, Unpack, final

import torch
from torch import Tensor, nn

from gradood._engine.batches import Data
from gradood._engine.forms import ModelInput
from gradood._engine.roster import Detectors
from gradood.attribution import Explanation
from gradood.attribution.known import Ids
from gradood.calibration import Promise
from gradood.calibration._curve import How
from gradood.calibration._why import Reference
from gradood.calibration.results import Result, Results
from gradood.detectors.base import Detector
from gradood.errors import ConfigError, suggest
from gradood.monitor import Monitor
from gradood.monitor._summary import MonitorSummary
from gradood.rejection._making import make
from gradood.taps import Link, Output

__all__ = ["Guard", "GuardKeywords", "guard"]


class GuardKeywords(TypedDict, total=False):
    """Options of `gradood.guard`, most of which are those of `gradood.Monitor`.

    Attributes:
        explain: keep the mean features of the known data, from which `Guard.explain` counts.
        ids: keep all of them, and call each known sample so where it is near one explained.
    """

    head: str | None
    features: str | None
    output: Output | None
    link: Link | None
    model_input: ModelInput | None
    preprocess: Mapping[str, Any] | None
    progress: bool | None
    explain: bool
    ids: Ids | None


@final
class Guard:
    """A classifier with a reject option, made by `gradood.guard` or loaded by `gradood.load`.

    It may be used by many threads at once, as `gradood.Monitor`.

    Args:
        monitor: calibrated, of a guard.

    >>> import torch, gradood
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> known = torch.randn(40, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    >>> guard = gradood.guard(model, known, detectors="energy")
    >>> guard(known[:2]).shape, guard.fpr
    (torch.Size([2]), 0.05)
    """

    def __init__(self, monitor: Monitor[Any]) -> None:
        record = monitor._session.state.guard
        if record is None or monitor._session.state.rule is None:
            raise ConfigError("the monitor is not that of a guard; make one: gradood.guard.")
        self._monitor = monitor

    def __repr__(self) -> str:
        return f"Guard({self._monitor._session})"

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    def __call__(self, images: Data) -> Tensor:
        """The label of each input, or -1 where it is out-of-distribution.

        Args:
            images: a tensor or mapping is one batch; any other iterable is a loader. Labels are
                ignored.

        Returns:
            (N,) int64 on the CPU. Inputs that are not finite give -1.

        Raises:
            DataError: the input has another shape or type than the known data.

        Cost:
            One forward pass, and what the detectors compute; see docs/results/guard.md.
        """
        result = self.predict(images, keep=())
        return torch.where(result.is_ood, -1, result.label)

    def predict(
        self, images: Data, *, keep: Collection[Literal["logits", "features"]] = ("logits",)
    ) -> Result | Results:
        """The decision about each input with its p-value, label and logits.

        Args:
            images: as for a call.
            keep: as for `gradood.Monitor.predict`.

        Returns:
            A `Result` for one detector; for several `Results`, whose `score`, `p_value` and
            `is_ood` are of their combination. Tensors are on the CPU.

        Raises:
            DataError: as a call.
        """
        return self._monitor.predict(images, keep=keep)

    def explain(
        self, images: Data, *, reference: Reference = "class", neighbors: int = 3
    ) -> tuple[Explanation, ...]:
        """Why each input is decided on as it is: p-values, units, its class and what is near it.

        Args:
            images: as for a call.
            reference: (width,) feature vector from which contributions count; ``"class"`` for the
                mean of the known features taken for the same class as the input, ``"mean"`` for
                that of all, which a guard made with ``explain=True`` or ``ids=`` keeps.
            neighbors: how many of the nearest known samples are named; none without ``ids=``.

        Raises:
            NotFittedError: there is no reference; says how to have one.

        Cost:
            Two passes over the images, and what contributions take; see docs/explain.md.
        """
        return self._monitor.explain(images, reference=reference, neighbors=neighbors)

    def remember(self, known: Data, *, ids: Ids | None = None) -> "Guard":
        """Keep known features to explain by, as ``explain=True`` does; returns this guard.

        After `gradood.load`, as no file keeps them; see `gradood.Monitor.remember`.

        Args:
            known: in-distribution inputs, such as those of the calibration.
            ids: what to call each, in their order, to name the nearest ones.

        Raises:
            DataError: no input, one that is not finite, or another number of ids.
        """
        self._monitor.remember(known, ids=ids)
        return self

    def summary(self) -> MonitorSummary:
        """Model, promise, and every detector's state, threshold and cost, as a table to print."""
        return self._monitor.summary()

    @property
    def model(self) -> nn.Module:
        """The classifier."""
        return self._monitor.model

    @property
    def monitor(self) -> Monitor[Any]:
        """A monitor with the detectors and the thresholds, of its own."""
        return self._monitor.__copy__()

    @property
    def detectors(self) -> dict[str, Detector]:
        """The detectors by name."""
        return self._monitor.detectors

    @property
    def reason(self) -> str:
        """Why these detectors, in words."""
        return self._record.reason

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the known data looks as if the network was trained on it; empty if it does not."""
        return self._record.doubts

    @property
    def combine(self) -> How | None:
        """How several detectors become one decision; None for one detector."""
        return self._monitor.combine

    @property
    def promise(self) -> Promise:
        """The bound on false alarms: its rate, mode and confidence."""
        rule = self._monitor._session.state.rule
        assert rule is not None
        return rule.promise

    @property
    def fpr(self) -> float:
        """The share of known inputs that may be flagged."""
        return self.promise.fpr

    @property
    def preprocess(self) -> dict[str, Any] | None:
        """How images became the inputs, in plain values; a copy."""
        return self._monitor.preprocess

    @property
    def overrides(self) -> tuple[str, ...]:
        """Refusals that were overridden, each with its reason; stamped on every result."""
        return self._monitor.overrides

    def save(self, path: str | os.PathLike[str], *, override: str | None = None) -> None:
        """Save the guard in one file, which `gradood.load` reads; see `gradood.Monitor.save`.

        Args:
            path: a safetensors file; replaced atomically if it exists. The model is not in it.
            override: why it is right that the model changed since, if it did.

        Raises:
            ModelMismatchError: the model changed since; says what differs.
            OSError: the file cannot be written; what was there is unchanged.
        """
        self._monitor.save(path, override=override)

    @property
    def _record(self) -> Any:
        return self._monitor._session.state.guard


def guard(
    model: nn.Module,
    known: Data,
    *,
    detectors: Detectors | None = None,
    fit: Data | None = None,
    fpr: float = 0.05,
    mode: Literal["marginal", "pac"] = "marginal",
    confidence: float = 0.95,
    combine: How | None = None,
    accuracy: float | None = None,
    **options: Unpack[GuardKeywords],
) -> Guard:
    """A classifier that gives its label, or -1 for inputs unlike what it knows.

    `known` must be **held out from the training of the network**: images like those to come, which
    it was not trained on. Calibrated on its training images, a promised 5 % of false alarms became
    9.5 %. Half fits the detectors, if these learn, and half calibrates, told apart by content:
    the order does not matter, and copies stay together. With `fit`, all of it calibrates.

    Args:
        model: any classifier, as it is; see `gradood.Monitor`.
        known: a tensor, or a loader of batches ``x``, ``(x, y)`` or mappings; without labels,
            detectors that need classes take those that the model predicts.
        detectors: as for `gradood.Monitor`; None chooses, and `Guard.reason` says why.
        fit: in-distribution data to learn from, such as the training data of the network.
        fpr: share of known inputs that may be flagged.
        mode: of the promise, as for `gradood.Monitor.calibrate`.
        confidence: of ``"pac"``.
        combine: how several detectors make one decision; None for ``"fisher"``.
        accuracy: on data that the model was not trained on, as its record states, to compare with.
        options: those of `gradood.Monitor`, and ``explain=True`` or ``ids=…`` for `Guard.explain`;
            see `GuardKeywords`. With ``link="none"`` the label of what is known is 0.

    Raises:
        CalibrationError: too few samples for the promise (says how many), or some are in `fit` too.
        DataError: no data, not finite, other at each pass, or labels of no class of the model.
        ConfigError: an option is out of range.
        TapError: the model, or a detector that was named, cannot be read.

    Warns:
        TrainingDataWarning: the known data looks as if the network was trained on it. Data without
            labels, and networks that did not memorize, show nothing.

    Cost:
        Three passes over the known data, one of them without the model, and a pass over `fit`; a
        forward of some thousand rows of each; one more pass over the known data to explain by it.
    """
    promise = Promise(fpr, mode, confidence)
    monitor = make(
        model,
        known,
        detectors=detectors,
        fit=fit,
        promise=promise,
        combine=combine,
        accuracy=accuracy,
        options=_checked(options),
    )
    return Guard(monitor)


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, all of which `guard` has; one that it calls would refuse others in its name."""
    names = GuardKeywords.__annotations__
    unknown = next((name for name in options if name not in names), None)
    if unknown is not None:
        known = {*names, *inspect.signature(guard).parameters} - {"options"}
        near = suggest(unknown, known)
        raise TypeError(f"guard() got an unexpected keyword argument {unknown!r}; {near}")
    return dict(options)
