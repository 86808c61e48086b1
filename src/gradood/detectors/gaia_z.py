"""GAIA-Z."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from gradood.detectors._shared.attributions import Terms, layer_terms
from gradood.detectors._shared.layers import hook_layers, require_names
from gradood.detectors.base import Detector, Plan, State, require
from gradood.errors import TapError
from gradood.evidence import (
    MAX_LOGIT,
    NONZERO_SHARE,
    POSITIVE_SHARE,
    Activation,
    Evidence,
    Gradient,
    Read,
    gather,
    max_pooled_share,
)
from gradood.functional.gaia import zero_abnormality
from gradood.taps import Layer, Network

__all__ = ["GAIAZ"]

_CHUNK = 8
_DENSE = 0.98
_DENSE_CAVEAT = ("gaia-z is nearly constant here: gradients are dense, no ReLU follows the norms.",)


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
            takes gradients, ``"auto"`` counts where that is proven, takes gradients in the last
            eighth of the layers if that agrees better, and otherwise takes gradients everywhere.

    Cost: the forward pass and one comparison per element; on the backward path one backward.

    >>> GAIAZ(path="backward")
    GAIAZ(path='backward')
    """

    name = "gaia-z"
    title = "Share of non-zero gradients at normalization layers."
    needs = ("normalization layers",)
    cost = "one forward where ReLUs follow the norms, else one backward more"
    fails_when = (
        "Gradients are dense: no ReLU follows the normalization layers (GELU, SiLU, linear "
        "bottlenecks), as in transformers and most mobile networks; the score is then constant."
    )
    attribution = (
        "layers: sum over its channels of (share of non-zero gradients)², by the number of all "
        "channels; the reference value is 0"
    )
    links = ("softmax", "sigmoid")

    def __init__(
        self,
        *,
        layers: Sequence[str] | None = None,
        path: Literal["auto", "forward", "backward"] = "auto",
    ) -> None:
        require_names(layers, "at least one module name", least=1)
        paths = ("auto", "forward", "backward")
        require(path in paths, "path", path, "'auto', 'forward' or 'backward'")
        self.layers = layers
        self.path: Literal["auto", "forward", "backward"] = path

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """One share per layer, by the cheapest path that is exact on this network.

        Raises:
            TapError: `path="forward"`, and the probe disagrees or no ReLU follows a layer.
        """
        place = {name: i for i, name in enumerate(network.layers)}
        layers = hook_layers(network, self.layers, self.name)
        layers = tuple(sorted(layers, key=lambda layer: place[layer.name]))
        exact: list[Read] = [Gradient(MAX_LOGIT, k.output, NONZERO_SHARE) for k in layers]
        quick = [_forward_read(network, layer) for layer in layers]
        self._refuse_unseen(layers, quick)
        known, channels = _squares(network, probe, exact)
        scores = known.sum(1) / channels
        # A class token makes shares small but as constant: no ReLU decides anything.
        constant = not any(quick) and float(scores.max() - scores.min()) < 1e-4
        caveats = _DENSE_CAVEAT if constant or float(scores.min()) > _DENSE else ()
        seen = next((i for i, read in enumerate(quick) if read is None), len(layers))
        if self.path == "backward" or seen == 0:
            return Plan(tuple(exact), caveats=caveats, notes=("gradients by a backward pass",))
        forward = [read for read in quick[:seen] if read is not None]
        gaps = (_squares(network, probe, forward)[0] - known[:, :seen]) / channels
        first, proof = _cut(gaps, len(layers), self.path == "auto")
        if not proof.holds:
            if self.path == "forward":
                raise TapError(
                    f"gaia-z with path='forward' does not give this model's gradients: {proof}; "
                    "expected 95 % to 1e-6 and all to 1e-3. Use path='auto' or 'backward'."
                )
            notes = (f"gradients by a backward pass; from the forward pass, {proof}",)
            return Plan(tuple(exact), caveats=caveats, notes=notes)
        where = "" if first == len(layers) else f" up to {layers[first].name}, then backward"
        notes = (f"gradients from the forward pass{where}: {proof}",)
        return Plan((*forward[:first], *exact[first:]), caveats=caveats, notes=notes)

    def _refuse_unseen(self, layers: Sequence[Layer], quick: Sequence[Read | None]) -> None:
        unseen = [k.name for k, read in zip(layers, quick, strict=True) if read is None]
        if self.path == "forward" and unseen:
            raise TapError(
                f"gaia-z with path='forward': no ReLU follows {unseen[0]!r}, so its gradient "
                "cannot be told from the forward pass; use path='auto' or 'backward'."
            )

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        return zero_abnormality(evidence.group("shares"))

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        shares = evidence.group("shares")
        channels = sum(share.shape[1] for share in shares)
        each = [zero_abnormality([share]) * (share.shape[1] / channels) for share in shares]
        return layer_terms(evidence.sites("shares"), each, evidence)


@dataclass(frozen=True, slots=True)
class _Proof:
    """How far the forward pass agrees with the gradients on the probe."""

    agree: float
    largest: float
    inputs: int

    @property
    def holds(self) -> bool:
        return self.agree >= 0.95 and self.largest <= 1e-3

    def __str__(self) -> str:
        return (
            f"{self.agree:.0%} of {self.inputs} probe inputs agree to 1e-6, all to "
            f"{self.largest:.0e}"
        )


def _cut(gaps: Tensor, layers: int, hybrid: bool) -> tuple[int, _Proof]:
    """The first layer to take gradients at, and the proof for reading those before it forward.

    Where everything downstream of a position is inactive its gradient is zero although its own
    ReLU is active. That happens in the last layers, where little is downstream, and a backward
    pass through the last eighth of the layers costs next to nothing.

    Args:
        gaps: (inputs, layers read forward) differences, as parts of the score.
        layers: how many there are.
        hybrid: whether the last layers may be read backward.
    """
    seen = gaps.shape[1]
    proofs: dict[int, _Proof] = {}
    for first in range(layers - layers // 8 if hybrid else layers, layers + 1):
        if first <= seen:
            gap = gaps[:, :first].sum(1).abs()
            agree = float((gap <= 1e-6).double().mean())
            proofs[first] = _Proof(agree, float(gap.max()), len(gap))
    if not proofs:
        return 0, _Proof(0.0, 1.0, len(gaps))
    best = max(proofs, key=lambda first: (proofs[first].agree, first))
    return best, proofs[best]


def _forward_read(network: Network, layer: Layer) -> Read | None:
    """The share of active ReLUs; two norms that feed one residual sum read it twice."""
    site = layer.positive
    if site is None:
        return None
    pool = network.module.get_submodule(site.layer)
    if site.port == "input" and isinstance(pool, nn.MaxPool2d):
        return Activation(site, max_pooled_share(pool))
    return Activation(site, POSITIVE_SHARE)


def _squares(network: Network, probe: Tensor, reads: Sequence[Read]) -> tuple[Tensor, int]:
    """(inputs, layers) sums of squared shares, and the number of channels of all layers.

    A few inputs at a time: the backward path holds the whole graph.
    """
    parts: list[Tensor] = []
    channels = 0
    for rows in probe.split(_CHUNK):
        readings = gather(network, rows.clone(), reads).tensors
        channels = sum(reading.shape[1] for reading in readings)
        parts.append(torch.stack([r.double().square().sum(1) for r in readings], 1))
    return torch.cat(parts), channels
