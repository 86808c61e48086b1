"""The data of a comparison: known and unknown images, and what each method is fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gradood._engine.batches import Data, Shard, shards_of
from gradood._engine.detector_set import DetectorSet
from gradood._engine.fitting import fit
from gradood._engine.forms import InputForm
from gradood.data import RowDataset
from gradood.detectors.base import Detector, Learner, Plan
from gradood.taps import Link

__all__ = ["Sets", "fitted", "joined_labels", "told_fit"]


@dataclass(frozen=True, eq=False, slots=True)
class Sets:
    """The data of a comparison: batches of one's own, or shards whose readings can be kept.

    Attributes:
        id: in-distribution test data, not used in the fit.
        ood: out-of-distribution sets by name.
        fit: in-distribution training data, or None; then detectors that learn are left out.
        id_labels: (n,) true classes of `id`, or None.
        fit_labels: (m,) true classes of `fit`, or None; then those that need them are left out.
        held_out: in-distribution data that the network was not trained on, for the methods whose
            papers fit on such data (`Learner.held_out`), or None; then they are fitted on `fit`.
        held_out_labels: (k,) true classes of `held_out`, or None.
        preprocess: how images became the inputs, as for `gradood.Monitor`, or None.
        shifted: in-distribution sets under covariate shift by name, which count as known.
        shifted_labels: set → (m,) true classes of such a set, where it has them.
    """

    id: Data | Sequence[Shard]
    ood: Mapping[str, Data | Sequence[Shard]]
    fit: Data | Sequence[Shard] | None = None
    id_labels: Tensor | None = None
    fit_labels: Tensor | None = None
    held_out: Data | Sequence[Shard] | None = None
    held_out_labels: Tensor | None = None
    preprocess: Mapping[str, Any] | None = None
    shifted: Mapping[str, Data | Sequence[Shard]] = field(default_factory=dict)
    shifted_labels: Mapping[str, Tensor | None] = field(default_factory=dict)

    def of_form(self, form: InputForm) -> "Sets":
        """The same data, whose batches become the inputs of a model.

        Args:
            form: how they do; shards are as they are.
        """

        def read(data: Data | Sequence[Shard], *, labels: bool = False) -> list[Shard]:
            return shards_of(data, labels=labels, form=form)

        fit = None if self.fit is None else read(self.fit, labels=True)
        held = None if self.held_out is None else read(self.held_out, labels=True)
        ood = {name: read(data) for name, data in self.ood.items()}
        shifted = {name: read(data) for name, data in self.shifted.items()}
        known = read(self.id)
        return replace(self, id=known, ood=ood, fit=fit, held_out=held, shifted=shifted)

    def classes(self, link: Link | None, shifted: str | None = None) -> Tensor | None:
        """Classes (n,) of the in-distribution data; None without, or where one does not hold alone.

        Args:
            link: of the outputs.
            shifted: name of a shifted set that is meant instead.
        """
        if link not in (None, "softmax"):
            return None
        return self.id_labels if shifted is None else self.shifted_labels.get(shifted)

    def fits_on_held_out(self, detector: Detector) -> bool:
        """Whether a method is fitted on the held-out data."""
        if self.held_out is None or not (isinstance(detector, Learner) and detector.held_out):
            return False
        return self.held_out_labels is not None or not detector.labels


def fitted(bound: DetectorSet, sets: Sets) -> DetectorSet:
    """The detectors, each fitted on the training data or on what was held out of it.

    Args:
        bound: to the model.
        sets: the data; without training data, nothing is fitted.
    """
    if sets.fit is None:
        return bound
    apart = [n for n, detector in bound.learners.items() if sets.fits_on_held_out(detector)]
    if apart and sets.held_out is not None:
        bound = fit(bound, shards_of(sets.held_out, labels=True), apart)
    rest = [n for n in bound.learners if n not in apart]
    return fit(bound, shards_of(sets.fit, labels=True), rest)


def told_fit(plan: Plan, detector: Detector, sets: Sets) -> Plan:
    """The plan, with a note on the data of the fit where the paper's is held out.

    Args:
        plan: of the detector.
        detector: any.
        sets: the data.
    """
    if not (isinstance(detector, Learner) and detector.held_out):
        return plan
    note = "fitted on the training images, where its paper takes held-out ones (--held-out)"
    if sets.fits_on_held_out(detector):
        note = "fitted on held-out images, as in its paper"
    return replace(plan, notes=(*plan.notes, note))


def joined_labels(datasets: Sequence[RowDataset]) -> Tensor | None:
    """Labels of several data sets one after another; None if there are none, or not of all."""
    found = [dataset.labels for dataset in datasets]
    known = [labels for labels in found if labels is not None]
    return torch.cat(known) if known and len(known) == len(found) else None
