"""Gradients toward a confounding label."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, refuse_parameters
from gradood.detectors._shared.layers import attention_caveat, one_logit
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import FEATURES, Evidence, ParameterNorm, Read, gather
from gradood.functional.gradnorm import last_layer_gradient_norm, linear_logits
from gradood.taps import Network

__all__ = ["GradUncertainty"]


@final
class GradUncertainty(Detector):
    """Squared norm of the gradient toward a label of all classes at once [lee2020gradients].

    Reads the features and the head. Assumes that a network sure of its answer would have to change
    more before it answered "every class" than an unsure one. The loss is ``−Σ_c log p_c`` of the
    softmax, as pytorch-ood has it; the paper's is the binary cross-entropy of the classes' sigmoids
    with a label of ones, which ranks much the same. The paper trains a classifier of known against
    unknown inputs on the norms of all layers; without unknown inputs to train on, their sum is the
    score, with the sign that makes higher mean OOD. On the last layer it ranks as
    `GradNorm(order=2, bias=True)` does.

    ``score = −‖∂(−Σ_c log p_c) / ∂(W, b)‖₂² = −C² ‖p − 1/C‖₂² (‖h‖₂² + 1)``: exact, without a
    backward pass.

    Args:
        parameters: names of the parameters to sum over instead of the head's; then the gradients
            are taken per sample, in a pass of their own.

    Cost: the forward pass; with `parameters`, about three more.

    >>> GradUncertainty().name
    'grad-uncertainty'
    """

    name = "grad-uncertainty"
    title = "Negative squared norm of the gradient toward all classes at once."
    needs = ("features", "head")
    cost = "one forward (closed form); with parameters=…, a per-sample gradient pass"
    fails_when = (
        "Where gradnorm fails: features are signed or normalized, as in transformers, or the "
        "network is small and confident. Without labeled unknown inputs its direction is a guess."
    )
    attribution = (
        "terms: of the squared norm by the entries of h, −C² ‖p − u‖² h_d²; the input that "
        "is always one, of the bias, is a part; the reference value is 0. Norms over other "
        "parameters have no units"
    )

    def __init__(self, *, parameters: Sequence[str] | None = None) -> None:
        require(
            parameters is None or (not isinstance(parameters, str) and len(parameters) > 0),
            "parameters",
            parameters,
            "None or a list of parameter names",
        )
        self.parameters = parameters

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, or the norm over the named parameters."""
        read: Read = FEATURES
        if self.parameters is not None:
            read = ParameterNorm(tuple(self.parameters), 1.0, 2.0)
            gather(network, probe[:1], (read,))
        caveats = one_logit(network, self.name)
        caveats += attention_caveat(
            network, "grad-uncertainty, which ranks as gradnorm of order 2,"
        )
        return Plan((read,), caveats=caveats)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        if self.parameters is not None:
            norm = evidence["parameter norm"]
        else:
            head = evidence.linear
            logits = linear_logits(evidence.features, head.weight, head.bias)
            bias = head.bias is not None
            norm = last_layer_gradient_norm(evidence.features, logits, order=2.0, bias=bias)
        # The loss is C times the divergence whose gradient that is.
        return -(evidence.classes * norm).square()

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        refuse_parameters(self.name, self.parameters)
        head, wide = evidence.linear, evidence.features.double()
        logits = linear_logits(wide, head.weight, head.bias)
        left = last_layer_gradient_norm(wide.new_ones(len(wide), 1), logits, order=2.0)
        factor = -(evidence.classes * left).square()
        parts = {} if head.bias is None else {"bias": factor}
        return Terms(factor[:, None] * wide.square(), torch.zeros_like(factor), parts)
