"""Class labels in a fit: checked once, and what to do about classes that never occur."""

import logging

import torch
from torch import Tensor

from gradood.errors import DataError
from gradood.evidence import Evidence
from gradood.functional.moments import ClassMoments

__all__ = ["check_labels", "fill_absent", "present"]

_LOG = logging.getLogger(__name__)


def check_labels(evidence: Evidence, method: str) -> Tensor:
    """The labels (batch,) of a batch whose detector needs them; (batch, classes) under a sigmoid.

    Raises:
        DataError: there are none, or one lies outside the model's classes.
    """
    labels = evidence.labels
    if labels is None:
        raise DataError(
            f"{method} learns from class labels, and the fit data has none; "
            "give batches (x, y), or dicts with 'labels' or 'label'."
        )
    if labels.ndim == 2:
        if labels.shape[1] != evidence.classes:
            raise DataError(
                f"the labels of the fit data are of {labels.shape[1]} classes, and the model has "
                f"{evidence.classes}; expected (batch, {evidence.classes}) of 0 and 1."
            )
        return labels
    wrong = labels[(labels < 0) | (labels >= evidence.classes)]
    if len(wrong):
        raise DataError(
            f"labels such as {int(wrong[0])} in the fit data; expected the model's classes, 0 to "
            f"{evidence.classes - 1}."
        )
    return labels


def present(moments: ClassMoments, method: str) -> Tensor:
    """(classes,) which classes occur; those that do not are logged.

    Raises:
        DataError: no sample at all, or features that are not finite.
    """
    seen = moments.count > 0
    if not bool(seen.any()):
        raise DataError(f"{method} was given no fit sample; give in-distribution training data.")
    broken = (~moments.mean.isfinite().all(1)).nonzero()[:, 0].tolist()
    if broken:
        raise DataError(
            f"{method} was fitted on features with NaN or infinity (class {broken[0]}), which the "
            "model made of finite inputs; drop those inputs, or run the model in a wider type."
        )
    absent = (~seen).nonzero()[:, 0].tolist()
    if absent:
        shown = ", ".join(map(str, absent[:10])) + (" …" if len(absent) > 10 else "")
        _LOG.warning("%s: no fit sample of %d classes (%s).", method, len(absent), shown)
    return seen


def fill_absent(moments: ClassMoments, method: str) -> Tensor:
    """Class means (classes, width); a class without samples takes the mean over all samples."""
    seen = present(moments, method)
    return torch.where(seen[:, None], moments.mean, moments.overall_mean)
