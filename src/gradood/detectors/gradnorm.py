"""GradNorm."""

from collections.abc import Sequence
from math import isfinite
from typing import final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, gradient_terms, refuse_parameters
from gradood.detectors._shared.layers import attention_caveat, one_logit
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import FEATURES, Evidence, ParameterNorm, Read, gather
from gradood.functional.gradnorm import last_layer_gradient_norm, linear_logits
from gradood.taps import Network

__all__ = ["GradNorm"]


@final
class GradNorm(Detector):
    """Norm of the last layer's gradient of KL(uniform ‖ softmax), negated [huang2021gradnorm].

    Reads the features and the head. Assumes that the loss toward uniform outputs has a larger
    gradient on known inputs. The paper's scale and high-is-ID sign, negated once here; the released
    code's value is the number of classes times this.

    ``score = −‖h‖_q · ‖softmax(z / T) − 1/C‖_q / T``: the exact gradient, without a backward pass.

    Args:
        temperature: T > 0.
        order: q ≥ 1 of the entrywise norm.
        bias: include the gradient of the head's bias.
        parameters: names of the parameters to take the norm over instead of the head's weight; then
            the gradients are taken per sample, in a pass of their own.

    Cost: the forward pass; with `parameters`, about three more.

    >>> GradNorm(order=2)
    GradNorm(order=2)
    """

    name = "gradnorm"
    title = "Negative norm of the last layer's gradient of KL(uniform ‖ softmax)."
    needs = ("features", "head")
    cost = "one forward (closed form); with parameters=…, a per-sample gradient pass"
    fails_when = (
        "Features are signed or normalized, as in transformers (below chance on ViT-B/16), or the "
        "network is small and confident (near chance on CIFAR-10 ResNet-18: OpenOOD v1.5 near/far "
        "AUROC 54.90/57.55)."
    )
    attribution = (
        "terms: of the gradient's norm by the entries of h, −‖p − u‖_q |h_d|^q / ‖h‖_q^(q−1) "
        "/ T; the input that is always one, of the bias, is a part; the reference value is "
        "0. Norms over other parameters have no units"
    )

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        order: float = 1,
        bias: bool = False,
        parameters: Sequence[str] | None = None,
    ) -> None:
        require(
            0 < temperature and isfinite(temperature), "temperature", temperature, "a number > 0"
        )
        require(order >= 1, "order", order, "a number ≥ 1")
        require(
            parameters is None or (not isinstance(parameters, str) and len(parameters) > 0),
            "parameters",
            parameters,
            "None or a list of parameter names",
        )
        self.temperature = temperature
        self.order = order
        self.bias = bias
        self.parameters = parameters

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features, or the norm over the named parameters."""
        read: Read = FEATURES
        if self.parameters is not None:
            names = tuple(self.parameters)
            read = ParameterNorm(names, float(self.temperature), float(self.order))
            gather(network, probe[:1], (read,))
        caveats = one_logit(network, self.name) + attention_caveat(network, self.name)
        return Plan((read,), caveats=caveats)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        if self.parameters is not None:
            return -evidence["parameter norm"]
        head = evidence.linear
        return -last_layer_gradient_norm(
            evidence.features,
            linear_logits(evidence.features, head.weight, head.bias),
            temperature=float(self.temperature),
            order=float(self.order),
            bias=self.bias,
        )

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        refuse_parameters(self.name, self.parameters)
        head, ones = evidence.linear, evidence.features.new_ones(evidence.size, 1)
        logits = linear_logits(evidence.features, head.weight, head.bias)
        order, temperature = float(self.order), float(self.temperature)
        left = last_layer_gradient_norm(ones, logits, temperature=temperature, order=order)
        return gradient_terms(-left, evidence.features, order, bias=self.bias)
