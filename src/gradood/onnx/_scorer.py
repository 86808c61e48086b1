"""A monitor as one module from inputs to decisions, for the tracer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradood._engine.detector_set import DetectorSet
from gradood.evidence import FEATURES, LOGITS, Activation, Evidence, Linear, Read, Reads
from gradood.onnx._lookup import RuleLookup
from gradood.onnx._pixels import Scaling
from gradood.onnx._record import SENTINEL, STATUSES, GraphRecord
from gradood.taps import Head, Network, Site

__all__ = ["HeadReader", "ModelReader", "Scorer"]

_OK, _BAD_INPUT, _BAD_SCORE = range(len(STATUSES))


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


class HeadReader(nn.Module):
    """Evidence of features and logits that another runtime computed.

    Args:
        reads: what is read besides the logits.
    """

    def __init__(self, reads: tuple[Read, ...]) -> None:
        super().__init__()
        self._reads = reads

    def forward(self, features: Tensor, logits: Tensor) -> tuple[Tensor, dict[Read, Tensor]]:
        """Logits in float64, and the features if they are asked for."""
        wide = logits.double()
        found: dict[Read, Tensor] = {LOGITS: wide}
        return wide, found | ({FEATURES: features} if FEATURES in self._reads else {})


class Scorer(nn.Module):
    """Inputs to label, and to score, p-value, decision and status of each part.

    Args:
        reader: of evidence, from what is given.
        detectors: bound and fitted.
        record: with the outputs, in order.
        rule: that decides; None for scores alone.
        scaling: of pixels, where such are given.
    """

    def __init__(
        self,
        reader: nn.Module,
        detectors: DetectorSet,
        record: GraphRecord,
        rule: RuleLookup | None,
        scaling: Scaling | None = None,
    ) -> None:
        super().__init__()
        self.reader = reader
        self._detectors, self._record, self._rule = detectors, record, rule
        network = detectors.binding.network
        self._head = Linear(*network.head.linear()) if network.head_found else None
        self._scaling = scaling

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Every output of the record, in order."""
        inputs = given if self._scaling is None else tuple(map(self._scaling, given))
        nonfinite = torch.stack([~x.flatten(1).isfinite().all(1) for x in inputs]).any(0)
        clean = [torch.where(_beside(nonfinite, x), torch.zeros_like(x), x) for x in inputs]
        logits, found = self.reader(*clean)
        lost = nonfinite | ~logits.amax(1).isfinite()
        label = torch.where(lost, -1, logits.argmax(1))
        scores = self._scores(logits, found, lost)
        outputs: dict[str, Tensor] = {"label": label}
        record, parts = self._record, dict[str, Tensor](scores)
        if self._rule is not None and record.combine is not None:
            statistic = self._rule.statistic(scores)
            assert statistic is not None
            parts["combined"] = statistic
        for part, score in parts.items():
            sound = score.isfinite()
            bad = torch.where(nonfinite, _BAD_INPUT, torch.where(sound, _OK, _BAD_SCORE))
            outputs[record.output(part, "score")] = torch.where(sound, score, SENTINEL)
            outputs[record.output(part, "status")] = bad.to(torch.int8)
            if self._rule is not None:
                name = None if part not in scores else part
                decided = self._rule.decided(name, scores, label)
                for what, value in zip(decided._fields, decided, strict=True):
                    outputs[record.output(part, what)] = value
        return tuple(outputs[spec.name] for spec in record.outputs)

    def _scores(self, logits: Tensor, found: dict[Read, Tensor], lost: Tensor) -> dict[str, Tensor]:
        """(batch,) by detector, float64; +inf where one is not finite, or the model's answer."""
        every = Reads(tuple(found))
        evidence = Evidence(logits.shape[0], logits.shape[1], self._head, None, every, found)
        scores: dict[str, Tensor] = {}
        for name, detector in self._detectors.detectors.items():
            own = evidence.only(self._detectors.reads(name))
            score = detector.measure(own, self._detectors.states.get(name, {})).double()
            scores[name] = torch.where(score.isfinite() & ~lost, score, torch.inf)
        return scores


def _beside(rows: Tensor, x: Tensor) -> Tensor:
    """(batch,) as (batch, 1, …), to go with `x`."""
    return rows.reshape(-1, *[1] * (x.ndim - 1))
