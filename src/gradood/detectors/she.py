"""SHE."""

from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, at_class
from gradood.detectors._shared.labels import check_labels, fill_absent
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError
from gradood.evidence import FEATURES, LOGITS, Evidence
from gradood.functional.directions import directions
from gradood.functional.moments import ClassMoments
from gradood.functional.score_terms import norm_terms
from gradood.functional.she import Similarity, pattern_agreement
from gradood.taps import Network

__all__ = ["SHE"]


@final
class SHE(Learner[ClassMoments]):
    """Simplified Hopfield energy: agreement with the predicted class's pattern [zhang2023she].

    Reads the features and the logits; learns, per class, the mean feature of the fit samples that
    are classified correctly. Assumes that features of known inputs point where those of their class
    do, and are as long. High-is-ID in the paper, negated once here; its variant with a perturbed
    input is left out, as it takes a pass of its own.

    ``score = −h · S_ĉ`` with S the patterns and ĉ the predicted class.

    A class of which no fit sample is classified correctly takes the mean of all that are.

    Args:
        similarity: ``"inner"``, ``h · S_ĉ``; or what the paper compares it with, ``"cosine"``,
            ``h · S_ĉ / (‖h‖ ‖S_ĉ‖)``, and ``"euclidean"``, ``−‖h − S_ĉ‖``.

    Cost: the forward pass; width multiplications per image; state of classes · width.

    >>> SHE().name
    'she'
    """

    name = "she"
    title = "Negative inner product with the mean feature of the predicted class."
    needs = ("features", "logits", "labels")
    cost = "one forward; one fit pass; state of classes × width"
    fails_when = (
        "Unknown inputs have long features, as the score grows with their length, or features are "
        "normalized, as in transformers, so that length says nothing."
    )
    attribution = (
        "terms: −h_d S_ĉd, −ĥ_d Ŝ_ĉd or (h − S_ĉ)²_d / ‖h − S_ĉ‖, by the similarity; the "
        "reference value is 0"
    )
    state_shapes = ("patterns: float classes features",)

    def __init__(self, *, similarity: Similarity = "inner") -> None:
        known = ("inner", "cosine", "euclidean")
        require(similarity in known, "similarity", similarity, "'inner', 'cosine' or 'euclidean'")
        self.similarity: Similarity = similarity

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features and logits."""
        return Plan((FEATURES, LOGITS), fit_reads=(FEATURES, LOGITS))

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Means of the features that are classified correctly."""
        labels = check_labels(evidence, self.name)
        right = evidence.logits.argmax(1) == labels
        features = evidence.features[right]
        return ClassMoments.of(features, labels[right], evidence.classes)

    def finish(self, patterns: ClassMoments, network: Network, plan: Plan) -> State:
        """One pattern per class."""
        if int(patterns.count.sum()) == 0:
            raise DataError(
                "she averages the fit samples that are classified correctly, and there is none; "
                "give in-distribution training data whose labels are the model's classes."
            )
        means = fill_absent(patterns, "she, among samples classified correctly")
        if not bool((means != 0).any()):
            raise DataError(
                "she was fitted on features that are all zero, with which every feature agrees as "
                "much; give inputs that the network responds to."
            )
        return {"patterns": means}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        predicted = evidence.logits.argmax(1)
        return -pattern_agreement(evidence.features, state["patterns"], predicted, self.similarity)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        predicted = evidence.logits.argmax(1)
        wide, own = evidence.features.double(), state["patterns"][predicted].double()
        if self.similarity == "euclidean":
            units = norm_terms(wide - own, 2.0)
        elif self.similarity == "cosine":
            units = -directions(wide) * directions(own)
        else:
            units = -wide * own
        total = units.sum(1)
        classes = at_class(total, predicted, evidence.classes)
        return Terms(units, torch.zeros_like(total), classes=classes)
