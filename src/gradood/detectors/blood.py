"""BLOOD."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal, final

from torch import Tensor

from gradood.detectors._shared.attributions import Terms, layer_terms
from gradood.detectors._shared.blocks import representations
from gradood.detectors._shared.layers import require_names
from gradood.detectors.base import Detector, Plan, State, require
from gradood.errors import TapError
from gradood.evidence import Evidence, JacobianNorm, gather
from gradood.taps import Network

__all__ = ["BLOOD"]

_ROWS = 2


@final
class BLOOD(Detector):
    """Sharpness of the maps between layers, by their Jacobians [jelenic2024blood].

    Reads Jacobians between the representations that blocks of a transformer give: of the token that
    is classified (``[CLS]``, or the last), or of the mean over those that are, whichever the model
    takes. Assumes that training smooths the maps of known inputs more than those of others. Of
    networks without tokens, the maps between stages, whole, as the released code has it.

    ``score = ‖∂r_L / ∂r_{L−1}‖_F²`` (BLOOD_L), or its mean over all pairs (BLOOD_M), estimated by
    ``1/M Σ_m ‖v_mᵀ J‖₂²`` with v_m ~ N(0, I), the same for every input.

    Args:
        pairs: ``"last"`` for BLOOD_L, which the paper finds better; ``"mean"`` for BLOOD_M.
        samples: M; ``"exact"`` for the norm itself, by as many passes as r has values.
        projections: ``"one-sided"``; ``"two-sided"`` is the paper's ``(v_mᵀ J w_m)²``, of the same
            mean, which needs many times the samples for the same precision.
        layers: names of layers whose outputs are the representations, in order; None finds them.

    Cost: one more forward, and M backward passes through one block, or through all for
    ``"mean"``.

    >>> BLOOD(pairs="mean")
    BLOOD(pairs='mean')
    """

    name = "blood"
    title = "Squared norm of the Jacobian between the last two blocks."
    needs = ("Jacobians between layers",)
    cost = "a pass of its own: one forward, and 10 backward passes through one block (samples)"
    fails_when = (
        "The task is so simple that training changed the upper layers little, or the network is no "
        "transformer, on which the paper measured it to say less."
    )
    attribution = (
        "layers: ‖J‖² of each pair of layers, by the number of pairs; the reference value is 0"
    )
    published: ClassVar[Mapping[str, Any]] = {"samples": 50, "projections": "two-sided"}

    def __init__(
        self,
        *,
        pairs: Literal["last", "mean"] = "last",
        samples: int | Literal["exact"] = 10,
        projections: Literal["one-sided", "two-sided"] = "one-sided",
        layers: Sequence[str] | None = None,
    ) -> None:
        require(pairs in ("last", "mean"), "pairs", pairs, "'last' or 'mean'")
        whole = isinstance(samples, int) and not isinstance(samples, bool) and samples > 0
        require(samples == "exact" or whole, "samples", samples, "a whole number > 0, or 'exact'")
        known = projections in ("one-sided", "two-sided")
        require(known, "projections", projections, "'one-sided' or 'two-sided'")
        require_names(layers, "None or a list of two layers or more", least=2)
        self.pairs: Literal["last", "mean"] = pairs
        self.samples: int | Literal["exact"] = samples
        self.projections: Literal["one-sided", "two-sided"] = projections
        self.layers = layers

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Jacobians between the last two representations, or between all."""
        sites, last = representations(network, self.layers, probe, self.name)
        samples = None if isinstance(self.samples, str) else self.samples
        two_sided = self.projections == "two-sided" and samples is not None
        chosen = sites[-2:] if self.pairs == "last" else sites
        read = JacobianNorm(chosen, last, samples, two_sided)
        try:
            gather(network, probe[:_ROWS], (JacobianNorm(chosen, last, 1),))
        except TapError as error:
            raise TapError(
                f"{self.name} cannot be taken between layers {', '.join(map(str, chosen))}: {error}"
            ) from error
        between = ", ".join(f"{a} → {b}" for a, b in pairwise(chosen))
        return Plan((read,), notes=(f"Jacobians of {between}",))

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return evidence["jacobian norms"].mean(1)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        norms = evidence["jacobian norms"].double()
        (read,) = (read for read in evidence.reads if isinstance(read, JacobianNorm))
        names = [f"{a} → {b}" for a, b in pairwise(read.sites)]
        return layer_terms(names, (norms / norms.shape[1]).unbind(1), evidence)
