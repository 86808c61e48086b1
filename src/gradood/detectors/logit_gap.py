"""LogitGap."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, linear_terms
from gradood.detectors._shared.layers import one_logit
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import LOGITS, Evidence
from gradood.functional.logits import logit_gap
from gradood.taps import Network

__all__ = ["LogitGap"]


@final
class LogitGap(Detector):
    """Mean gap between the largest logit and those that follow, negated [liang2025logitgap].

    Reads the logits. Assumes that unknown inputs have lower largest logits and higher other ones.

    ``score = −1/(N − 1) Σ_{j=2}^N (z'_1 − z'_j)`` with z' the logits in descending order (equation
    4 of arXiv 2510.20134 with N = C, and its top-N variant)

    The paper takes N = C/5, or chooses it by samples that are made by interpolation and noise. The
    values so chosen and released grow more slowly: 6 of 10 classes, 11 of 20, 21 of 100, 89 of
    1,000. ``"auto"`` follows them with ``N = 1 + round(C^(2/3))``, which is 6, 8, 23 and 101, and
    needs no samples.

    Args:
        N: how many of the largest logits, the largest one included, from 2; all of them if there
            are fewer. ``"auto"`` is ``1 + round(C^(2/3))`` for C classes.

    Cost: the forward pass and a selection of the largest logits.

    >>> LogitGap(N=5)
    LogitGap(N=5)
    """

    name = "logit-gap"
    needs = ("logits",)
    cost = "one forward"
    fails_when = (
        "Unknown inputs resemble one class, so that its logit stands out as for known ones, or the "
        "network is overconfident away from its data."
    )
    attribution = (
        "terms: Σ_c k_c W_cd (h_d − r_d), k −1 for the largest logit and 1/(N − 1) for the "
        "next ones; the reference value is that of the same classes"
    )
    published: ClassVar[Mapping[str, Any]] = MappingProxyType({"N": 89})

    def __init__(self, *, N: int | Literal["auto"] = "auto") -> None:
        whole = isinstance(N, int) and N >= 2
        require(N == "auto" or whole, "N", N, "a whole number ≥ 2, or 'auto'")
        self.N: int | Literal["auto"] = N

    def _largest(self, classes: int) -> int:
        return 1 + round(classes ** (2 / 3)) if self.N == "auto" else self.N

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits."""
        note = f"the {min(self._largest(network.classes), network.classes)} largest logits"
        return Plan((LOGITS,), caveats=one_logit(network, self.name), notes=(note,))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return logit_gap(evidence.logits, self._largest(evidence.classes))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        largest = min(self._largest(evidence.classes), evidence.classes)
        order = evidence.logits.topk(largest, 1).indices
        share = evidence.logits.new_full((largest,), 1.0 / max(1, largest - 1))
        share[0] = -1.0
        weights = torch.zeros_like(evidence.logits).scatter(1, order, share.expand_as(order))
        return linear_terms(weights, evidence, reference)
