"""GAIA-Z."""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from gradood.detectors.base import Detector, Plan, State, require
from gradood.detectors.defaults import hook_layers
from gradood.errors import TapError
from gradood.evidence import (
    MAX_LOGIT,
    NONZERO_SHARE,
    POSITIVE_SHARE,
    Activation,
    Evidence,
    Gradient,
    Read,
    Summary,
    gather,
    max_pooled_share,
)
from gradood.functional.gaia import zero_abnormality
from gradood.taps import Layer, Network, Site

__all__ = ["GAIAZ"]

_CHUNK = 8
_DENSE = 0.98


@final
class GAIAZ(Detector):
    """Share of non-zero gradients at the normalization layers [chen2023gaia].

    Reads, per normalization layer and channel, how many positions have a non-zero gradient of the
    largest logit. Assumes ReLU networks: there the gradient is non-zero exactly where the following
    ReLU is active, so the forward pass tells it. Which ReLU follows, or whether it acts on a
    residual sum, is observed, and the result is compared with the gradients on a probe batch
    before it is relied on.

    ``score = mean over channels of (share of non-zero gradients)²``

    Args:
        layers: module names; None takes all normalization layers, or, where there are none, the
            layers that feed a ReLU alone.
        path: ``"forward"`` counts active ReLUs (an error if the probe disagrees), ``"backward"``
            takes gradients, ``"auto"`` the first if it is proven and otherwise the second.

    Cost: the forward pass and one comparison per element; on the backward path one backward.

    >>> GAIAZ(path="backward")
    GAIAZ(path='backward')
    """

    name: ClassVar[str] = "gaia-z"
    title: ClassVar[str] = "Share of non-zero gradients at normalization layers."
    paper: ClassVar[str] = "chen2023gaia"
    needs: ClassVar[tuple[str, ...]] = ("normalization layers",)
    cost: ClassVar[str] = "one forward where ReLUs follow the norms, else one backward more"
    fails_when: ClassVar[str] = (
        "Gradients are dense: no ReLU follows the normalization layers (GELU, SiLU, linear "
        "bottlenecks), as in transformers and most mobile networks; the score is then constant."
    )

    def __init__(
        self,
        *,
        layers: Sequence[str] | None = None,
        path: Literal["auto", "forward", "backward"] = "auto",
    ) -> None:
        require(layers is None or not isinstance(layers, str), "layers", layers, "module names")
        require(layers is None or len(layers) > 0, "layers", layers, "at least one module name")
        paths = ("auto", "forward", "backward")
        require(path in paths, "path", path, "'auto', 'forward' or 'backward'")
        self.layers = layers
        self.path: Literal["auto", "forward", "backward"] = path

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """One share per layer, by the path that is exact on this network.

        Raises:
            TapError: `path="forward"`, and the probe disagrees or no ReLU follows a layer.
        """
        layers = hook_layers(network, self.layers, self.name)
        exact = tuple(Gradient(MAX_LOGIT, layer.output, NONZERO_SHARE) for layer in layers)
        quick = self._forward_reads(network, layers)
        scores = _scores(network, probe, exact)
        caveats: tuple[str, ...] = ()
        if float(scores.min()) > _DENSE:
            caveats = ("gaia-z is nearly constant here: gradients are dense, no ReLU follows.",)
        if quick is None:
            return Plan(exact, caveats=caveats, notes=("gradients by a backward pass",))
        gap = (_scores(network, probe, quick) - scores).abs()
        agree = float((gap <= 1e-6).double().mean())
        note = (
            f"{agree:.0%} of {len(probe)} probe inputs agree to 1e-6, all to {float(gap.max()):.0e}"
        )
        if agree >= 0.95 and float(gap.max()) <= 1e-3:
            return Plan(quick, caveats=caveats, notes=(f"gradients from the forward pass: {note}",))
        if self.path == "forward":
            raise TapError(
                f"gaia-z with path='forward' does not give this model's gradients: {note}; "
                "expected 95 % to 1e-6 and all to 1e-3. Use path='auto' or 'backward'."
            )
        return Plan(exact, caveats=caveats, notes=(f"gradients by a backward pass: {note}",))

    def _forward_reads(
        self, network: Network, layers: tuple[Layer, ...]
    ) -> tuple[Read, ...] | None:
        """Shares of active ReLUs; two norms that feed one residual sum read it twice."""
        if self.path == "backward":
            return None
        sites = [layer.positive for layer in layers]
        found = [site for site in sites if site is not None]
        if len(found) == len(layers):
            return tuple(Activation(site, _share(network, site)) for site in found)
        if self.path == "auto":
            return None
        without = next(layer.name for layer in layers if layer.positive is None)
        raise TapError(
            f"gaia-z with path='forward': no ReLU follows {without!r}, so its gradient cannot be "
            "told from the forward pass; use path='auto' or 'backward'."
        )

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return zero_abnormality(evidence.readings)


def _share(network: Network, site: Site) -> Summary:
    layer = network.module.get_submodule(site.layer)
    if site.port == "input" and isinstance(layer, nn.MaxPool2d):
        return max_pooled_share(layer)
    return POSITIVE_SHARE


def _scores(network: Network, probe: Tensor, reads: tuple[Read, ...]) -> Tensor:
    """Scores of the probe, a few rows at a time: the backward path holds the whole graph."""
    parts = [gather(network, rows.clone(), reads).readings for rows in probe.split(_CHUNK)]
    return torch.cat([zero_abnormality(readings) for readings in parts])
