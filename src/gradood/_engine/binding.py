"""Binding: a model observed on its first inputs, what each detector reads, and which cannot run."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from gradood._engine.misfits import misfit
from gradood._engine.preprocessing import preprocessed
from gradood._engine.roster import require_head, require_link, require_reads
from gradood._engine.rows import Inputs, described, finite_rows, is_empty, trial_rows
from gradood.detectors.base import Detector, Learner, Plan
from gradood.errors import (
    ConfigError,
    DataError,
    GradoodError,
    MeaninglessScoreWarning,
    TapError,
    warn_caller,
)
from gradood.evidence import Activation, Gradient, Read, gather, needs_state
from gradood.taps import FeatureLayer, Link, Network, Output, observe, unwrap

__all__ = [
    "Binding",
    "REFUSALS",
    "bind",
    "check_classes",
    "fit_refusal",
    "no_detector_left",
    "observed",
    "plan_detectors",
    "planned",
    "probe_of",
]

REFUSALS = (TapError, DataError)
"""Errors with which a detector says that it cannot run on a model or on its data."""
_PROBE = 32


@dataclass(frozen=True, eq=False, slots=True)
class Binding:
    """The observed network, what each detector reads of it, and which detectors cannot run.

    Attributes:
        network: the observed model.
        plans: what is read for each detector that can run, by name.
        left_out: why a detector cannot run, by name.
        fits: whether the plans say what a fit reads; not so for a saved detector.
    """

    network: Network
    plans: Mapping[str, Plan]
    left_out: Mapping[str, str] = field(default_factory=dict)
    fits: bool = True

    def __repr__(self) -> str:
        model = type(self.network.module).__name__
        omitted = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"Binding({model}; {', '.join(self.plans)}{omitted})"

    @property
    def reads(self) -> tuple[Read, ...]:
        """What scores read, each request once; but for steps along a score yet to be fitted."""
        reads = (read for plan in self.plans.values() for read in plan.reads)
        return tuple(dict.fromkeys(read for read in reads if not needs_state(read)))

    @property
    def fit_reads(self) -> tuple[Read, ...]:
        """What a fit reads, each request once."""
        return tuple(dict.fromkeys(r for plan in self.plans.values() for r in plan.fit_reads))

    @property
    def caveats(self) -> tuple[str, ...]:
        """Why some scores may mean little on this network."""
        return tuple(dict.fromkeys(c for plan in self.plans.values() for c in plan.caveats))

    def warn(self) -> None:
        """One `MeaninglessScoreWarning` per caveat, at the line that called into this package."""
        for caveat in self.caveats:
            warn_caller(caveat, MeaninglessScoreWarning)


def bind(
    model: nn.Module,
    inputs: Inputs,
    detectors: Mapping[str, Detector],
    *,
    head: str | FeatureLayer | None = None,
    output: Output | None = None,
    preprocess: Mapping[str, Any] | None = None,
    required: Collection[str] | None = None,
    link: Link = "softmax",
) -> Binding:
    """Observe a model and let each detector plan.

    Args:
        model: any classifier.
        inputs: of at least one row, finite, on the model's device.
        detectors: by name.
        head: name of the head, the layer that gives the features, or None to search.
        output: which item of what the model returns holds the logits, or None for the usual ones.
        preprocess: see `preprocessed`.
        required: see `plan_detectors`.
        link: what makes probabilities of the outputs.

    Raises:
        TapError: the model cannot be read, or not by a required detector.
        DataError: the inputs do not fit the model.
        ConfigError: no detector can run.
    """
    network = observed(model, inputs, head=head, output=output, link=link)
    network = preprocessed(network, preprocess)
    return plan_detectors(network, detectors, inputs, required=required)


def plan_detectors(
    network: Network,
    detectors: Mapping[str, Detector],
    example: Inputs,
    *,
    fit: bool = True,
    labels: bool = True,
    required: Collection[str] | None = (),
) -> Binding:
    """Let each detector plan, and leave out those that cannot run.

    Args:
        network: the observed model.
        detectors: by name.
        example: (batch ≥ 1, …) inputs like those to come.
        fit: whether there is data to fit on.
        labels: whether that has labels.
        required: names of detectors that must not be left out; None for all of them.

    Raises:
        TapError, DataError: a required detector cannot run.
        ConfigError: no detector can.

    Cost:
        Some forward and backward passes of the example, by detectors that try layers out.
    """
    probe = probe_of(example.to(network.example.device))
    plans: dict[str, Plan] = {}
    left_out: dict[str, str] = {}
    for name, detector in detectors.items():
        outcome = fit_refusal(detector, fit=fit, labels=labels) or planned(detector, network, probe)
        if isinstance(outcome, Plan):
            plans[name] = outcome
        elif required is None or not isinstance(outcome, REFUSALS):
            raise outcome
        elif name in required:
            raise type(outcome)(f"{name} cannot be run: {outcome}") from outcome
        else:
            left_out[name] = str(outcome)
    if not plans:
        raise no_detector_left(left_out)
    return Binding(network, plans, left_out)


def planned(
    detector: Detector, network: Network, probe: Any, *, trial: bool = False
) -> Plan | GradoodError:
    """What a detector would read of a network, or the error with which it refuses.

    Args:
        detector: to plan for.
        network: the observed model.
        probe: see `probe_of`.
        trial: whether to read one row as planned, too.
    """
    try:
        require_link(detector, network.link)
        require_head(detector, network)
        plan = detector.plan(network, probe)
        require_reads(detector, plan, network.link)
        if trial:
            reads = (read for read in (*plan.reads, *plan.fit_reads) if not needs_state(read))
            gather(network, probe[:1].clone(), reads)
    except GradoodError as error:
        return error
    cautions = (*network.cautions, *_of_unmasked(detector, network, plan))
    return replace(plan, caveats=(*cautions, *plan.caveats)) if cautions else plan


def _of_unmasked(detector: Detector, network: Network, plan: Plan) -> tuple[str, ...]:
    """A caveat where padding enters what a detector reads of a layer."""
    reads = [read for read in plan.reads if isinstance(read, Activation | Gradient)]
    layers = [read.site.layer for read in reads if read.site.layer in network.unmasked]
    if not layers:
        return ()
    return (
        f"{detector.name} reads {layers[0]!r}, whose positions are not those of the mask, so that "
        "padding is among what it reads: its scores depend on the length of the batch. Score "
        "batches of one length, or read other layers.",
    )


def fit_refusal(detector: Detector, *, fit: bool, labels: bool) -> DataError | None:
    """Why a detector cannot learn from the data there is; None if it can, or learns nothing.

    Args:
        detector: any.
        fit: whether there is data to fit on.
        labels: whether that has labels.
    """
    if not (isinstance(detector, Learner) and detector.must_fit):
        return None
    if not fit:
        return DataError("it learns from in-distribution training data, and none was given.")
    if detector.labels and not labels:
        return DataError("it learns from class labels, and the fit data has none.")
    return None


def no_detector_left(left_out: Mapping[str, str]) -> ConfigError:
    """The error where every detector had to be left out.

    Args:
        left_out: the reasons, by name.
    """
    reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
    return ConfigError(f"no detector can be run on this model and data. {reasons}")


def check_classes(name: str, labels: Tensor | None, classes: int) -> None:
    """Refuse labels that are not the model's classes, before hours of work.

    Args:
        name: of the data, for messages.
        labels: (n,) int64, or (n, classes) where several may hold; or None.
        classes: number of logits.

    Raises:
        DataError: a label is none of the model's classes, or they are of another number of them.
    """
    if labels is None or not len(labels):
        return
    if labels.ndim == 2 and labels.shape[1] != classes:
        raise DataError(
            f"the labels of the {name} data are of {labels.shape[1]} classes, and the model has "
            f"{classes}; expected (batch, {classes}) of 0 and 1."
        )
    low, high = int(labels.min()), int(labels.max())
    if labels.ndim == 1 and (low < 0 or high >= classes):
        raise DataError(
            f"the {name} data has labels from {low} to {high}; expected the model's classes, 0 to "
            f"{classes - 1}. Number them as in its training, and take the right label column."
        )


def observed(
    model: nn.Module,
    inputs: Inputs,
    *,
    head: str | FeatureLayer | None = None,
    output: Output | None = None,
    link: Link = "softmax",
    pairs: bool = True,
) -> Network:
    """The network as observed on `inputs`; an input that does not fit has a `DataError` of its own.

    Raises:
        TapError: the model cannot be read.
        DataError: there is no input, it is not finite, it has another shape or type than the
            model's first layer takes, or the model raises on it.
    """
    module = unwrap(model)
    if is_empty(inputs) or not bool(finite_rows(inputs[:2]).all()):
        what = "are empty" if is_empty(inputs) else "hold NaN or infinity"
        raise DataError(
            f"the inputs {described(inputs)} {what}; expected some like those to be scored."
        )
    try:
        return observe(module, inputs, head=head, output=output, link=link, pairs=pairs)
    except DataError as error:
        expected = misfit(module, inputs)
        if expected is None:
            raise
        raise DataError(f"{expected}: {error}") from error.__cause__


def probe_of(inputs: Inputs) -> Inputs:
    """At least 32 inputs to try things on: those given, then shifted and dimmed copies of them.

    Args:
        inputs: (batch ≥ 1, …).
    """
    return trial_rows(inputs[: 2 * _PROBE], _PROBE)
