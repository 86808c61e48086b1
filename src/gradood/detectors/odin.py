"""ODIN."""

from typing import final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, perturbed_terms
from gradood.detectors._shared.layers import one_logit
from gradood.detectors._shared.perturbing import (
    Deviation,
    check_step,
    step_scale,
    try_perturbing,
)
from gradood.detectors.base import Detector, Plan, State
from gradood.evidence import LOGITS, Evidence, Perturbation, Perturbed
from gradood.functional.logits import max_softmax
from gradood.taps import Network

__all__ = ["ODIN"]


@final
class ODIN(Detector):
    """Tempered softmax of an input moved toward its predicted class, negated [liang2018odin].

    Reads the logits of perturbed inputs. Assumes that a small step toward the predicted class
    raises its probability more for known inputs. The paper scores ID high; negated once here.

    ``score = −max softmax(z(x̃) / T)`` with ``x̃ = x + ε · sign(∇ₓ log max softmax(z(x) / T)) / std``

    Where a gradient is zero nothing moves; the released code moves those values down.

    Args:
        temperature: T > 0.
        noise: ε > 0, the step. The paper picks it on validation data; 0.0014 is its value for
            DenseNet on CIFAR-10.
        std: what the preprocessing divided each channel by, so that ε counts on images from 0 to 1,
            as in the released code: (63/255, 62.1/255, 66.7/255) on CIFAR. ``"auto"`` takes what
            `gradood.Monitor` was told as ``preprocess``, or the shell knows of the model; where
            nobody knows, and for None, the step is on the inputs as the model gets them.

    Cost: the forward pass with its whole graph, one backward to the input, and one more forward.

    >>> ODIN(std=(0.247, 0.243, 0.261))
    ODIN(std=(0.247, 0.243, 0.261))
    """

    name = "odin"
    title = "Negative tempered softmax of an input moved toward its predicted class."
    needs = ("logits", "gradient of the input")
    cost = "a pass of its own: one forward, one backward to the input, one forward"
    fails_when = (
        "The step does not suit the network and its preprocessing (published values were chosen on "
        "out-of-distribution data), the network has few classes or masks its gradients, or inputs "
        "are whole numbers."
    )
    attribution = (
        "terms: the path of the logits, from the reference's to those of the input as it is; what "
        "the step of the input adds is a part"
    )

    def __init__(
        self,
        *,
        temperature: float = 1000.0,
        noise: float = 0.0014,
        std: Deviation = "auto",
    ) -> None:
        check_step(temperature, noise, std)
        self.temperature = temperature
        self.noise = noise
        self.std: Deviation = std

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits of the perturbed inputs."""
        std, notes = step_scale(network, probe, self.std)
        step = Perturbation(
            "max log-softmax", float(self.noise), temperature=float(self.temperature), std=std
        )
        read = Perturbed(step, LOGITS)
        caveats = one_logit(network, self.name)
        caveats = caveats or try_perturbing(network, probe, read, self.name)
        return Plan((read,), caveats=caveats, notes=notes)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return max_softmax(evidence["perturbed logits"] / float(self.temperature))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""

        def score(logits: Tensor) -> Tensor:
            return max_softmax(logits / float(self.temperature))

        return perturbed_terms(score, evidence["perturbed logits"], evidence, reference)
