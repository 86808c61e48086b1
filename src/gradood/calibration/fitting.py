"""From held-out scores to a calibration."""

import warnings

from torch import Tensor

from gradood.calibration._mondrian import Group
from gradood.calibration.conformal import Calibration, checked, class_numbers, score_vector
from gradood.calibration.guarantee import Promise
from gradood.errors import UninformativeScoreWarning

__all__ = ["calibrate"]


def calibrate(
    scores: Tensor,
    promise: Promise,
    *,
    predicted: Tensor | None = None,
    per_class: bool = False,
) -> Calibration:
    """A calibration on scores of held-out in-distribution data.

    The promise of `Promise` holds for inputs drawn as these were, whatever the distribution of
    scores: nothing else is assumed. It does not hold for the data the detector was fitted on.

    Per class (a Mondrian taxonomy), an input is compared only with samples of its predicted class.
    Classes that have fewer samples than the promise needs, and classes never seen, form one group,
    together with the smallest of the others if they are too few even so. This is still exact:

    - *p-values, and marginal decisions.* The groups are formed from class counts in which the input
      is counted too. So they do not change when the input changes places with any calibration
      sample, and given the groups it is as likely to be the j-th of its group as any other. (Groups
      formed from the calibration counts alone would not do: that a class came out rare says
      that the calibration part of its group holds less of it than the inputs to come.)
    - *PAC decisions.* Given the predicted classes, scores are independent, and nothing has looked
      at them. For a class on its own that is the usual case. For a merged group the promise is on
      its false-alarm rate with the classes in the shares they have in the calibration data:
      exceedances are then a sum of independent unequal events, whose lower tail is at most
      binomial (Hoeffding 1956). It holds for each group by itself, not for all at once.

    Args:
        scores: (n,) finite, of any real dtype; higher = more OOD.
        promise: what is to hold.
        predicted: (n,) predicted classes; needed if `per_class`, else not used.
        per_class: compare within predicted classes.

    Raises:
        CalibrationError: too few samples, or scores that are not finite.
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
    vector, precision = score_vector(scores, "calibration scores")
    values, order = vector.double().sort(stable=True)
    classes = class_numbers(predicted, len(values))[order] if per_class else None
    made = checked(promise, values, classes, precision)
    _warn_of_ties(made)
    return made


def _warn_of_ties(made: Calibration) -> None:
    groups = made._deciding.members
    tied = [group for group in groups if _uninformative(group)]
    if not tied:
        return
    group = tied[0]
    where = (
        f"in {len(tied)} of {len(groups)} groups, such as one in which " if made.per_class else ""
    )
    same = int((group.scores == group.threshold).sum())
    warnings.warn(
        f"uninformative scores: {where}{same} of {len(group.scores)} calibration scores equal the "
        f"threshold, {group.threshold:g}. p-values stay valid, but only what scores above is "
        "flagged. Use another detector on this model, or combine several.",
        UninformativeScoreWarning,
        stacklevel=3,
    )


def _uninformative(group: Group) -> bool:
    """Whether ties at the threshold take more than half of the alarms that the promise allows."""
    same = int((group.scores == group.threshold).sum())
    above = int((group.scores > group.threshold).sum())
    many = same > max(group.rank, 5) or same == len(group.scores)
    return many and 2 * above < group.rank
