"""Classes of in-distribution data: accuracy of the model, and classes that a sample lacks."""

import warnings

from torch import Tensor

from gradood._engine.coverage import class_counts, rare_classes, warn_of_rare
from gradood.bench._warning_log import WarningLog
from gradood.errors import DataError, LabelMismatchWarning

__all__ = ["accuracy", "checked_accuracy", "warn_of_classes"]


def accuracy(predicted: Tensor, labels: Tensor | None, what: str = "shifted ID") -> float | None:
    """Share of the classes that are predicted correctly; None without labels."""
    if labels is None:
        return None
    if len(labels) != len(predicted):
        raise DataError(
            f"the {what} data has {len(predicted)} samples and {len(labels)} labels; expected as "
            "many."
        )
    return float((predicted == labels).double().mean())


def checked_accuracy(predicted: Tensor, labels: Tensor | None, classes: int) -> float | None:
    """Accuracy on the in-distribution data; warns where it is near chance."""
    share = accuracy(predicted, labels, "ID")
    if share is not None and share < 1.5 / classes:
        warnings.warn(
            f"the model classifies {share:.1%} of the ID data correctly, where chance is "
            f"{1 / classes:.1%}: the weights, the preprocessing or the order of the classes are "
            "not those it was trained with, and the table means little.",
            LabelMismatchWarning,
            stacklevel=3,
        )
    return share


def warn_of_classes(fitted: Tensor | None, tested: Tensor, classes: int, noted: WarningLog) -> None:
    """Warn where one of fit and in-distribution data lacks classes that the other has.

    Args:
        fitted: (n,) classes of the fit data; None if it has no labels, and there is no warning.
        tested: (m,) classes of the in-distribution data.
        classes: how many the model has.
        noted: where the warnings are noted.
    """
    if fitted is None:
        return
    fitted, tested = (class_counts(one, classes) for one in (fitted, tested))
    with noted("fit"):
        warn_of_rare(
            rare_classes(tested, fitted),
            classes,
            data="the fit data",
            other="the ID data",
            effect="Methods that learn know next to nothing of them.",
        )
    with noted("id"):
        warn_of_rare(
            rare_classes(fitted, tested),
            classes,
            data="the ID data",
            other="the fit data",
            effect="The figures are of the others alone.",
        )
