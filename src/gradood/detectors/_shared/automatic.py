"""Settings chosen on in-distribution data alone: by how well the score tells surrogate outliers."""

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from gradood.detectors._shared.fit_data import check_finite
from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import FEATURES, KEYS, LOGITS, Evidence, Linear, Read
from gradood.functional.gradnorm import linear_logits
from gradood.functional.samples import Selection
from gradood.functional.surrogates import best_separating
from gradood.taps import Network

__all__ = ["CLIPS", "ROW_READS", "SHARES", "chosen", "fit_rows", "fitted_rows"]

ROW_READS: tuple[Read, ...] = (FEATURES, KEYS)
"""What a fit reads for `fit_rows`."""
SHARES = (0, 10, 20, 30, 40, 50, 60, 65, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 99)
"""Percentiles of the units of a row among which ``"auto"`` chooses, the mildest first."""
CLIPS = (100, 99.5, 99, 98, 97, 95, 92.5, 90)
"""Percentiles of all activations, likewise: ReAct's own is the strongest."""
_ROWS = 500
K = TypeVar("K")


def fit_rows(evidence: Evidence) -> Selection:
    """Features of the 500 samples with the smallest content keys."""
    return Selection.of(_ROWS, key=evidence[KEYS], features=evidence.features)


def fitted_rows(kept: Selection, method: str) -> Tensor:
    """(rows, width) the features kept, in an order that rounding does not change.

    Keys are of contents, which are others in another floating type.

    Raises:
        DataError: one is not finite.
    """
    features = kept.columns["features"][:_ROWS]
    check_finite(features, method)
    return features[features.double().sum(1).argsort(stable=True)]


def chosen(
    detector: Detector, rows: Tensor, network: Network, plan: Plan, states: Mapping[K, State]
) -> K:
    """The setting with which a detector best tells fit features from surrogate outliers.

    Args:
        detector: whose score is of the features, and of logits made of them.
        rows: from `fitted_rows`.
        network: for its head.
        plan: of the detector.
        states: setting → what would be learned with it, the mildest first; never empty.
    """
    weight, bias = network.head.weight.detach(), network.head.bias
    head = Linear(weight.to(rows.device), None if bias is None else bias.detach().to(rows.device))

    def score(features: Tensor, state: State) -> Tensor:
        values: dict[Read, Tensor] = {FEATURES: features}
        if LOGITS in plan.reads:
            values[LOGITS] = linear_logits(features, head.weight, head.bias)
        evidence = Evidence(len(features), len(weight), head, None, plan.reads, values)
        return detector.measure(evidence, state)

    scores = [lambda features, state=state: score(features, state) for state in states.values()]
    return tuple(states)[best_separating(rows, scores)]
