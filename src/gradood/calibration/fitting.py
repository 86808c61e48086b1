"""From held-out scores to a calibration."""

import warnings

import torch
from torch import Tensor

from gradood.calibration._mondrian import Group
from gradood.calibration._vectors import class_numbers, score_vector
from gradood.calibration.conformal import Calibration, checked
from gradood.calibration.guarantee import Promise
from gradood.errors import UninformativeScoreWarning

__all__ = ["calibrate", "calibrated", "warn_of_ties"]


def calibrate(
    scores: Tensor,
    promise: Promise,
    *,
    predicted: Tensor | None = None,
    per_class: bool = False,
    tolerance: float = 0.0,
) -> Calibration:
    """A calibration on scores of held-out in-distribution data.

    The promise of `Promise` holds for inputs drawn as these were, whatever the distribution of
    scores: nothing else is assumed. It does not hold for the data the detector was fitted on, nor
    for samples that were repeated, which scores alone do not show (`gradood.Monitor` looks).

    Scores of one input differ by rounding between batches and machines. Where they differ by no
    more than `tolerance` from those it would have had here, the promise holds even so: an input is
    compared with its score less the tolerance, and what that leaves flagged would have been anyway.

    Per class (a Mondrian taxonomy), an input is compared only with samples of its predicted class.
    Classes that have fewer samples than the promise needs, and classes never seen, form one group,
    together with the smallest of the others if they are too few even so: the promise is on the
    group then, not on each class in it (`Calibration.class_conditional`). The module
    `gradood.calibration._mondrian` says why this is exact.

    Args:
        scores: (n,) of any real dtype; higher = more OOD. +inf or NaN for a sample without a finite
            score: it counts as the highest there is, as such inputs are always flagged.
        promise: what is to hold.
        predicted: (n,) predicted classes; needed if `per_class`, else not used.
        per_class: compare within predicted classes.
        tolerance: how far apart two scores may be and yet count as equal, in units of the score.

    Raises:
        CalibrationError: too few samples, or so many without a finite score that flagging them
            breaks the promise.
        ConfigError: `predicted` is missing.
        DataError: a shape or dtype is wrong.

    Warns:
        UninformativeScoreWarning: ties leave next to nothing that could be flagged.

    Cost:
        One sort, O(n log n).

    Example:
        >>> import torch
        >>> calibration = calibrate(torch.arange(99.0), Promise(fpr=0.05))
        >>> calibration.threshold
        94.0
        >>> calibration.p_values(torch.tensor([94.0, 94.5, torch.inf])).tolist()
        [0.06, 0.05, 0.01]
        >>> calibration.is_ood(torch.tensor([94.0, 94.5, torch.inf])).tolist()
        [False, True, True]
    """
    if per_class and predicted is None:
        class_numbers(None, len(scores))  # raises
    made = calibrated(scores, promise, predicted if per_class else None, float(tolerance))
    warn_of_ties(made)
    return made


def calibrated(
    scores: Tensor, promise: Promise, classes: Tensor | None, tolerance: float = 0.0
) -> Calibration:
    """`calibrate` without a warning.

    Args:
        scores: as there.
        promise: as there.
        classes: (n,) predicted classes to compare within, or None.
        tolerance: as there.
    """
    vector, precision = score_vector(scores, "calibration scores")
    vector = vector.double()
    values, order = vector.masked_fill(vector.isnan(), torch.inf).sort(stable=True)
    if classes is not None:
        classes = class_numbers(classes, len(values))[order]
    return checked(promise, values, classes, precision, tolerance)


def warn_of_ties(made: Calibration) -> None:
    """Warn where ties leave next to nothing that could be flagged.

    Args:
        made: a calibration that the caller's caller asked for.
    """
    groups = made._deciding.members
    tied = [group for group in groups if _uninformative(group, made.tolerance)]
    if not tied:
        return
    group = tied[0]
    where = (
        f"in {len(tied)} of {len(groups)} groups, such as one in which " if made.per_class else ""
    )
    same = _tied(group, made.tolerance)
    within = ""
    if _tied(group, 0.0) < same:
        within = f" within {made.tolerance:.2g}, by which a score moves with the batch of its input"
    warnings.warn(
        f"uninformative scores: {where}{same} of {len(group.scores)} calibration scores equal the "
        f"threshold, {group.threshold:g}{within}. p-values stay valid, but only what scores above "
        "is flagged. Use another detector on this model, or combine several.",
        UninformativeScoreWarning,
        stacklevel=3,
    )


def _tied(group: Group, tolerance: float) -> int:
    """How many scores equal the threshold, within the tolerance."""
    return int(((group.scores - group.threshold).abs() <= tolerance).sum())


def _uninformative(group: Group, tolerance: float) -> bool:
    """Whether ties at the threshold take more than half of the alarms that the promise allows."""
    same = _tied(group, tolerance)
    above = int((group.scores > group.threshold + tolerance).sum())
    many = same > max(group.rank, 5) or same == len(group.scores)
    return many and 2 * above < group.rank
