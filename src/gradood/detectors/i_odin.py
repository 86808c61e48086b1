"""i-ODIN."""

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

__all__ = ["IODIN"]

_ONE = 1e-12
"""Of the input's values: rounded down to none, of which a step moves at least one."""


@final
class IODIN(Detector):
    """Tempered softmax of an input whose most salient value was moved, negated [regmi2024beyond].

    ODIN [liang2018odin] with a step of one value, that of the largest gradient, in place of all.
    Reads the logits of perturbed inputs. Assumes that the value which matters most raises the
    predicted class's probability more for known inputs. The released code scores ID high; negated
    once here.

    ``score = −max softmax(z(x̃) / T)`` with ``x̃ = x + ε · m ⊙ sign(∇ₓ log max softmax(z(x) / T)) /
    std``, m = 1 at the largest ``|∇ₓ|`` (the first of equal ones), else 0.

    Definition from the author's code in OpenOOD, whose defaults these are.

    Args:
        temperature: T > 0.
        noise: ε > 0, the step; the code sweeps 0.0014 and 0.0028 on validation data.
        std: what the preprocessing divided each channel by, as for `ODIN`.

    Cost: the forward pass with its whole graph, one backward to the input, and one more forward.

    >>> IODIN(noise=0.0028)
    IODIN(noise=0.0028)
    """

    name = "i-odin"
    title = "Negative tempered softmax after a step of the input's most salient value."
    needs = ("logits", "gradient of the input")
    cost = "a pass of its own: one forward, one backward to the input, one forward"
    fails_when = (
        "As odin: the step does not suit the network, which has few classes or masks its "
        "gradients, or inputs are whole numbers. One value moves the logits little, so that most "
        "of the score is the tempered softmax of the input as it is."
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
            "max log-softmax",
            float(self.noise),
            temperature=float(self.temperature),
            share=_ONE,
            pixels="most",
            std=std,
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
