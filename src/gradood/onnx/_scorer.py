"""A monitor as one module from inputs to decisions, for the tracer."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradood.detectors.base import Detector, State
from gradood.evidence import FEATURES, LOGITS, Activation, Evidence, Linear, Read, Reads
from gradood.onnx._lookup import RuleLookup
from gradood.onnx.record import SENTINEL, STATUSES
from gradood.taps import Head, Network, Site

__all__ = ["HeadReader", "ModelReader", "Scorer"]

_OK, _BAD_INPUT, _BAD_SCORE = (STATUSES.index(s) for s in ("ok", "nonfinite_input", "nonfinite_score"))


class ModelReader(nn.Module):
    """Evidence of inputs, from one forward of a view of the model with plain hooks.

    Args:
        module: the root of a view, which nothing else runs.
        network: as it was observed.
        reads: what is read besides the logits.
    """

    def __init__(self, module: nn.Module, network: Network, reads: tuple[Read, ...]) -> None:
        super().__init__()
        self.module = module
        self._network = network
        self._reads = reads
        self._seen: dict[Site, Tensor] = {}
        self._calls: dict[tuple[str, str], int] = {}
        self.handles: list[Any] = []

    def listen(self, found: Callable[[str], nn.Module]) -> None:
        """Put a hook where something is read."""
        sites = [read.site for read in self._reads if isinstance(read, Activation)]
        sites += [self._network.head.site] if FEATURES in self._reads else []
        for layer, port in dict.fromkeys((site.layer, site.port) for site in sites):
            module = found(layer)
            if port == "input":
                hook = module.register_forward_pre_hook(self._before(layer), with_kwargs=True)
            else:
                hook = module.register_forward_hook(self._after(layer))
            self.handles.append(hook)

    def forward(self, inputs: Tensor) -> tuple[Tensor, dict[Read, Tensor]]:
        """Logits (batch, classes) in float64, and everything else that was asked for."""
        self._seen.clear()
        self._calls.clear()
        logits = self._network.logits_of(self.module(inputs)).double()
        found: dict[Read, Tensor] = {LOGITS: logits}
        for read in self._reads:
            if read == FEATURES:
                head: Head = self._network.head
                features = head.features(self._seen[head.site])
                wide = torch.promote_types(features.dtype, torch.float32)
                found[read] = features.to(wide)
            elif isinstance(read, Activation):
                tensor = self._seen[read.site]
                layer = self._network.layers.get(read.site.layer)
                channels = 1 if layer is None else layer.channels
                found[read] = read.summary.reduce(tensor, min(channels, tensor.ndim - 1))
        return logits, found

    def _before(self, layer: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            self._keep(layer, "input", next(given))

        return hook

    def _after(self, layer: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            self._keep(layer, "output", output)

        return hook

    def _keep(self, layer: str, port: Any, tensor: Tensor) -> None:
        call = self._calls.get((layer, port), 0)
        self._calls[layer, port] = call + 1
        # A copy: what runs next may change it in place.
        self._seen[Site(layer, port, call)] = tensor.clone()


class Scorer(nn.Module):
    """Inputs to label, status, and score, p-value and decision of each part.

    Args:
        reader: of evidence, from what is given.
        detectors: by name.
        states: learned, by name.
        reads: of each detector, by name.
        head: weight and bias, or None.
        rule: that decides.
        classes: number of logits.
    """

    def __init__(
        self,
        detectors: Mapping[str, Detector],
        states: Mapping[str, State],
        reads: Mapping[str, Reads],
        head: Linear | None,
        rule: RuleLookup | None,
    ) -> None:
        super().__init__()
        self._detectors, self._reads, self._rule = dict(detectors), dict(reads), rule
        self._states = {name: dict(states.get(name, {})) for name in detectors}
        self._head = head

    def scores(self, logits: Tensor, found: Mapping[Read, Tensor]) -> dict[str, Tensor]:
        """(batch,) by detector, float64; +inf where one is not finite, or the model's answer."""
        size, classes = logits.shape
        lost = ~logits.amax(1).isfinite()
        every = Reads(tuple(found))
        evidence = Evidence(size, classes, self._head, None, every, dict(found))
        scores: dict[str, Tensor] = {}
        for name, detector in self._detectors.items():
            own = evidence.only(self._reads[name])
            score = detector.measure(own, self._states[name]).double()
            sound = score.isfinite() & ~lost
            scores[name] = torch.where(sound, score, torch.inf)
        return scores
