"""Which detectors can run on a model with the data there is, and why the others cannot."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from gradood.detectors.base import Detector, Learner, Plan
from gradood.engine.binding import probe_of
from gradood.errors import ConfigError, DataError, TapError
from gradood.taps import Network

__all__ = ["Survey", "check_classes", "survey"]


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Attributes:
        plans: of the detectors that can run, by name.
        left_out: why a detector cannot run, by name.
    """

    plans: Mapping[str, Plan]
    left_out: Mapping[str, str]


def survey(
    network: Network,
    detectors: Mapping[str, Detector],
    example: Tensor,
    *,
    fit: bool,
    labels: bool,
    required: Collection[str] = (),
) -> Survey:
    """Try every detector on the model.

    Args:
        network: the observed model.
        detectors: by name.
        example: (batch ≥ 1, …) of the in-distribution data.
        fit: whether there is data to fit on.
        labels: whether that has labels.
        required: names of detectors that must not be left out.

    Raises:
        TapError, DataError: a required detector cannot run.
        ConfigError: no detector can.
    """
    probe = probe_of(example.to(network.example.device))
    plans: dict[str, Plan] = {}
    left_out: dict[str, str] = {}
    for name, detector in detectors.items():
        try:
            _check_fit(detector, fit=fit, labels=labels)
            plans[name] = detector.plan(network, probe)
        except (TapError, DataError) as error:
            if name in required:
                raise type(error)(f"{name} cannot be run: {error}") from error
            left_out[name] = str(error)
    if not plans:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ConfigError(f"no detector can be run on this model and data. {reasons}")
    return Survey(plans, left_out)


def check_classes(name: str, labels: Tensor | None, classes: int) -> None:
    """Labels that are not the model's are found before hours of work.

    Args:
        name: of the data, for messages.
        labels: (n,) int64, or None.
        classes: number of logits.

    Raises:
        DataError: a label is none of the model's classes.
    """
    if labels is None or not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"the {name} data has labels from {low} to {high}; expected the model's classes, 0 to "
            f"{classes - 1}. Is it the data this model was trained on, with the right label column?"
        )


def _check_fit(detector: Detector, *, fit: bool, labels: bool) -> None:
    if not isinstance(detector, Learner):
        return
    if not fit:
        raise DataError("it learns from in-distribution training data, and none was given.")
    if detector.labels and not labels:
        raise DataError("it learns from class labels, and the fit data has none.")
