"""GradPCA."""

import logging
from typing import Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.labels import check_labels, present
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import ConfigError, DataError
from gradood.evidence import FEATURES, LOGITS, Evidence
from gradood.functional.gradpca import head_gradients, retained_share, retained_terms, subspace
from gradood.functional.moments import ClassMoments
from gradood.taps import Network

__all__ = ["GradPCA"]

_LOG = logging.getLogger(__name__)
_BUDGET = 1 << 29
"""Bytes of class-mean gradients held."""


@final
class GradPCA(Learner[ClassMoments]):
    """How far the head's gradient points out of the classes' mean gradients [seleznova2025gradpca].

    Reads the features (and for ``output="max"`` the logits); learns the leading principal
    components of the classes' mean gradients. Assumes what alignment of the tangent kernel brings:
    gradients of known inputs lie in the span of their classes' means. The paper scores the retained
    length, high for known inputs; negated once here.

    ``score = −‖P (g − ḡ)‖ / ‖g − ḡ‖`` with g the gradient of the output by the head's weight and
    bias, ḡ the mean of the class means, and P the projection on as few components as hold ε of
    their trace. Of the sum of the logits, g is the features once per class, so that this is the
    angle between the features and the span of their class means; of the largest logit, the features
    stand in the predicted class's block alone. Both exact, without a backward pass.

    Args:
        output: whose gradient: ``"sum"`` of the logits, as released, or ``"max"``, as in the
            paper's text.
        epsilon: ε, share of the trace kept, above 0 to 1.

    Cost: the forward pass and classes · width multiplications per image; state of classes × width,
    for ``"max"`` of classes² × width.

    >>> GradPCA(output="max")
    GradPCA(output='max')
    """

    name = "gradpca"
    title = "Angle of the head's gradient to the span of the class-mean gradients."
    needs = ("features", "logits", "head", "labels")
    cost = "one forward (closed form); one fit pass; state of classes × width"
    fails_when = (
        "The features have about as few dimensions as there are classes, so that the class means "
        "span all of them, or the network was trained too little for its classes to align."
    )
    attribution = (
        "terms: −y_d (Tᵀ T y)_d / (‖T y‖ ‖y‖) of the centered gradient y; its entries of the "
        "bias and of other classes are parts; the reference value is 0"
    )
    state_shapes = (
        "center: float outputs columns",
        "operator: float directions outputs columns",
    )

    def __init__(self, *, output: Literal["sum", "max"] = "sum", epsilon: float = 0.99) -> None:
        require(output in ("sum", "max"), "output", output, "'sum' or 'max'")
        require(0 < epsilon <= 1, "epsilon", epsilon, "a number above 0, and 1 at most")
        self.output: Literal["sum", "max"] = output
        self.epsilon = epsilon

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, and logits where the largest counts."""
        reads = (FEATURES,) if self.output == "sum" else (FEATURES, LOGITS)
        classes, width = network.classes, network.head.weight.shape[1]
        if self.output == "max" and 8 * classes**2 * (width + 1) > _BUDGET:
            raise ConfigError(
                f"gradpca with output='max' would hold {8 * classes**2 * (width + 1) / 1e9:.1f} GB "
                f"of mean gradients for {classes} classes; use output='sum'."
            )
        caveats = ()
        if self.output == "sum" and classes > width:
            caveats = (
                f"gradpca says little here: {classes} class means may span all {width} features.",
            )
        return Plan(reads, fit_reads=reads, caveats=caveats)

    def accumulate(self, evidence: Evidence) -> ClassMoments:
        """Mean gradients by true class and block."""
        labels = check_labels(evidence, self.name)
        block, blocks = self._blocks(evidence)
        gradients = head_gradients(evidence.features)
        cells = labels.to(block.device) * blocks + block
        return ClassMoments.of(gradients, cells, evidence.classes * blocks)

    def finish(self, cells: ClassMoments, network: Network, plan: Plan) -> State:
        """The mean of the class means, and their leading components."""
        classes = network.classes
        count = cells.count.view(classes, -1)
        total = count.sum(1)
        share = count.double() / total.clamp_min(1)[:, None]
        means = cells.mean.view(*count.shape, -1) * share[..., None]
        seen = present(ClassMoments(total, means.flatten(1), None), self.name)
        center, operator, kept = subspace(means[seen], float(self.epsilon))
        if kept == 0:
            raise DataError(
                f"gradpca was fitted on {int(total.sum())} samples of {int(seen.sum())} classes "
                "whose mean gradients are equal; give samples of at least two classes that differ."
            )
        _LOG.info("gradpca: %d components of %d class means.", kept, int(seen.sum()))
        return {"center": center.clone(), "operator": operator.clone()}

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,), −1 to 0."""
        gradients = head_gradients(evidence.features)
        block, _ = self._blocks(evidence)
        return -retained_share(gradients, block, state["center"], state["operator"])

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        gradients = head_gradients(evidence.features)
        block, _ = self._blocks(evidence)
        own, rest = retained_terms(gradients, block, state["center"], state["operator"])
        parts = {"bias": -own[:, -1], "other classes": -rest}
        return Terms(-own[:, :-1], torch.zeros_like(rest), parts)

    def _blocks(self, evidence: Evidence) -> tuple[Tensor, int]:
        """Which block of the head's rows the gradient is in, and how many there are."""
        if self.output == "max":
            return evidence.logits.argmax(1), evidence.classes
        return torch.zeros(evidence.size, dtype=torch.int64, device=evidence.features.device), 1
