"""GAIA-A."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, layer_terms
from gradood.detectors._shared.layers import hook_layers, inner_layers, one_logit, require_names
from gradood.detectors.base import Detector, Plan, State, require
from gradood.evidence import (
    FEATURE_SUM,
    FEATURES,
    LOG_SOFTMAX_SUM,
    LOGITS,
    MEAN,
    POSITIONS,
    Activation,
    Evidence,
    Gradient,
    Read,
    gather,
)
from gradood.functional.gaia import abnormality_ratio, log_softmax_gradient
from gradood.taps import Network

__all__ = ["GAIAA"]

_INNER = "feature sum gradients"


@final
class GAIAA(Detector):
    """Mean gradient of inner layers relative to that of the output [chen2023gaia].

    Reads the logits, the features and the spatial mean of the gradient of the feature sum at inner
    layers. Assumes that unknown inputs disturb the channel-wise mean gradients of late layers.

    ``score = mean over channels of (|mean ∂Σh/∂inner| / O)²`` with
    ``O = sqrt(mean_c |mean ∂Σ log softmax(z)/∂last|)``; O has a closed form where the last map is
    pooled into the features.

    Args:
        layers: names of the inner layers; None takes the normalization layers of the last stages
            as the paper does for its architectures (see `gradood.inspect` for which).
        last: name of the layer whose output is the last feature map, or ``"pooled"`` for the
            pooled features themselves; None takes the map before the pooling where there is one.

    Cost: the forward pass and a backward pass down to the first inner layer, with the graph from
    there; no gradient of any parameter.

    >>> GAIAA(last="pooled")
    GAIAA(last='pooled')
    """

    name = "gaia-a"
    title = "Mean gradient of inner layers relative to the output's."
    needs = ("normalization layers", "features", "head", "gradient")
    cost = "one forward and a backward down to the first inner layer"
    fails_when = (
        "The network is so confident that O underflows for most inputs, in- and out-of-"
        "distribution alike, or the inner layers are chosen too early."
    )
    attribution = (
        "layers: sum over its channels of (|mean ∂Σh/∂inner| / O)², by the number of all channels; "
        "the reference value is 0"
    )

    def __init__(self, *, layers: Sequence[str] | None = None, last: str | None = None) -> None:
        require_names(layers, "at least one module name", least=1)
        require(last is None or isinstance(last, str), "last", last, "a module name or 'pooled'")
        self.layers = layers
        self.last = last

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits, features, the last map if there is one, and the inner gradients."""
        if self.layers is None:
            layers, pooled = inner_layers(network)
        else:
            layers, pooled = hook_layers(network, self.layers, self.name), False
        outer = self._outer(network, probe, pooled)
        inner = tuple(Gradient(FEATURE_SUM, layer.output, MEAN) for layer in layers)
        notes = (
            f"inner layers {layers[0].name} … {layers[-1].name} ({len(layers)})",
            f"last map: {outer.site if outer is not None else 'pooled features'}"
            + (" by autograd" if isinstance(outer, Gradient) else ""),
        )
        reads: tuple[Read, ...] = (LOGITS, FEATURES, *(() if outer is None else (outer,)), *inner)
        return Plan(reads, caveats=one_logit(network, self.name), notes=notes)

    def _outer(self, network: Network, probe: Tensor, pooled: bool) -> Activation | Gradient | None:
        """How to get the last map's gradient: by its number of positions, or by autograd."""
        known = network.last_map
        if self.last is None:
            return None if pooled or known is None else Activation(known.site, POSITIONS)
        if self.last == "pooled":
            return None
        site = network.layer(self.last).output
        mean = Activation(site, MEAN)
        seen = gather(network, probe[:2].clone(), (mean, FEATURES))
        same = seen[mean].shape == seen.features.shape and torch.allclose(
            seen[mean], seen.features, rtol=1e-3, atol=1e-5
        )
        return Activation(site, POSITIONS) if same else Gradient(LOG_SOFTMAX_SUM, site, MEAN)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,); +inf where the softmax is exactly uniform."""
        return abnormality_ratio(evidence.group(_INNER), _outer_gradient(evidence))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        inner, outer = evidence.group(_INNER), _outer_gradient(evidence)
        channels = sum(gradient.shape[1] for gradient in inner)
        shares = [abnormality_ratio([g], outer) * (g.shape[1] / channels) for g in inner]
        return layer_terms(evidence.sites(_INNER), shares, evidence)


def _outer_gradient(evidence: Evidence) -> Tensor:
    """(batch, channels) of the last map, or of the pooled features."""
    outer = log_softmax_gradient(evidence.logits, evidence.linear.weight)
    if "positions" in evidence:
        outer = outer / evidence["positions"][:, None]
    elif "log-softmax sum gradients" in evidence:
        outer = evidence["log-softmax sum gradients"]
    return outer
