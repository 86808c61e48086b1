"""Observing a classifier: one forward of two rows, and what its graph says of every layer."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradood.errors import GradoodError, TapError
from gradood.taps.graph import consumers_of, goes_to_max_pool, nodes_between, positive_part
from gradood.taps.head import (
    Head,
    HeadCandidate,
    exact_products,
    find_head,
    linear_weight,
    refuse_features_first,
)
from gradood.taps.network import LastMap, Layer, Network, own_name
from gradood.taps.site import Site, channel_dim, is_norm, positions
from gradood.taps.stages import Stage, find_stages
from gradood.taps.tap import device_of
from gradood.taps.wrap import left_as_found, logits_of, unwrap

__all__ = ["observe"]

_LOG = logging.getLogger(__name__)
_MEANS = {torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Rounding of a mean in these types, relative to the largest feature; else 1e-4."""


def observe(model: nn.Module, example: Tensor, *, head: str | None = None) -> Network:
    """Run the model on a few rows and note what it does.

    Args:
        model: any classifier.
        example: (n ≥ 1, …) inputs on the model's device; the first two are used.
        head: name of the head, or None to search for it.

    Raises:
        TapError: the model returns no logits or other tensors first, or mixes the samples of a
            batch.

    Cost:
        Two forwards of at most two rows, one of them with its graph.
    """
    module = unwrap(model)
    rows = example[:2] if len(example) > 1 else torch.cat([example, example.flip(-1)])
    with left_as_found(module, device_of(module)):
        given = rows[:1].clone()
        version = given._version
        alone = logits_of(module(given))
        overwrites = given._version != version
        notes = _noted(module, rows)
    _refuse_mixing(module, notes.logits.detach(), alone, len(rows))
    return notes.network(rows[:1].detach().clone(), head, overwrites)


def _noted(module: nn.Module, rows: Tensor) -> "_Notes":
    """One forward with its graph, or without where autograd refuses the model."""
    notes = _Notes(module)
    try:
        with torch.enable_grad():
            notes.run(rows)
    except RuntimeError as error:
        if isinstance(error, GradoodError | torch.cuda.OutOfMemoryError):
            raise
        notes = _Notes(module, opaque=str(error).split("\n")[0].rstrip("."))
        notes.run(rows)
        _LOG.info("autograd cannot follow the model: %s", error)
    return notes


def _refuse_mixing(module: nn.Module, logits: Tensor, alone: Tensor, rows: int) -> None:
    if logits.shape[0] != rows or alone.shape[0] != 1:
        raise TapError(
            f"the model gave {logits.shape[0]} rows of logits for {rows} inputs; "
            "row i of the output must belong to sample i."
        )
    scale = logits.abs().max().clamp_min(1e-6)
    tolerance = 1e-3 if logits.dtype in (torch.float32, torch.float64) else 5e-2
    if logits.dtype == torch.float32 and (logits.device.type != "cpu" or not exact_products()):
        tolerance = 2e-2  # TF32, for one batch size and not for the other
    if bool(((logits[:1] - alone).abs().max() / scale) > tolerance):
        norms = [
            name
            for name, layer in module.named_modules()
            if isinstance(layer, nn.modules.batchnorm._NormBase)
            and layer.running_mean is None
            and not isinstance(layer, nn.modules.instancenorm._InstanceNorm)
        ]
        named = f" BatchNorm without running statistics: {', '.join(norms)}." if norms else ""
        raise TapError(
            "the model gives a sample other logits alone than in a batch, even in evaluation mode; "
            f"a score per sample needs independent rows.{named}"
        )


class _Notes:
    """Hooks on every module for one forward, and what is concluded from it."""

    def __init__(self, module: nn.Module, opaque: str | None = None) -> None:
        self.logits = torch.empty(0, device="cpu")
        self._opaque = opaque
        self._output: Any = None
        self._module = module
        self._seen: dict[str, list[_Seen]] = {}
        self._ports: dict[Any, Site] = {}
        self._nodes: dict[Site, Any] = {}
        self._candidates: list[tuple[str, nn.Module, Tensor]] = []
        self._channels: int | None = None

    def run(self, rows: Tensor) -> None:
        rows = rows.detach().clone()
        if torch.is_grad_enabled() and rows.is_floating_point():
            rows = rows.requires_grad_().clone()
        handles: list[Any] = []
        try:
            for name, module in self._module.named_modules():
                if name:
                    hook = self._hook(name)
                    handles.append(module.register_forward_hook(hook, with_kwargs=True))
                    before = self._before(name)
                    handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self._output = self._module(rows)
        finally:
            for handle in handles:
                handle.remove()
        self.logits = logits_of(self._output)

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = len(self._seen.get(name, ()))
            given = _first_tensor(args, kwargs)
            if given is not None and given.grad_fn is not None:
                site = Site(name, "input", call)
                self._nodes[site] = given.grad_fn
                self._ports.setdefault(given.grad_fn, site)
            if given is not None and linear_weight(module) is not None:
                self._candidates.append((name, module, given.detach().clone()))

        return hook

    def _hook(self, name: str) -> Callable[..., Any]:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
        ) -> Any:
            calls = self._seen.setdefault(name, [])
            if not isinstance(output, Tensor) or not output.is_floating_point():
                calls.append(_Seen(None, (), 1, None, None))
                return None
            fresh = output
            if torch.is_grad_enabled() and not output.requires_grad:
                fresh = output.detach().requires_grad_().clone()
            dim = self._channel_dim(module, output)
            values = positions(output.detach(), dim)
            if fresh.grad_fn is not None:
                self._ports.setdefault(fresh.grad_fn, Site(name, "output", len(calls)))
            calls.append(
                _Seen(
                    fresh.grad_fn,
                    tuple(output.shape),
                    dim,
                    values.double().mean(-1),
                    values.double().clamp_min(0).mean(-1),
                )
            )
            return None if fresh is output else fresh

        return hook

    def _channel_dim(self, module: nn.Module, output: Tensor) -> int:
        """Of a layer that does not tell, as of the last layer that did; else the last."""
        told = channel_dim(module, output)
        if output.ndim == 3:
            self._channels = self._channels if told is None else told
            return 2 if self._channels is None else self._channels
        assert told is not None
        return told

    def network(self, example: Tensor, head: str | None, overwrites: bool) -> Network:
        logits = self.logits
        counts = {name: len(calls) for name, calls in self._seen.items()}
        candidates = [
            HeadCandidate(name, module, seen, counts.get(name, 1))
            for name, module, seen in self._candidates
        ]
        found: Head | str
        features: Tensor | None = None
        try:
            found = find_head(candidates, logits, head and own_name(self._module, head))
            features = found.features(next(c.seen for c in candidates if c.layer == found.layer))
        except TapError as error:
            refuse_features_first(self._output, logits, candidates)
            # Its words alone: the error would keep this forward and its graph alive.
            found = str(error)
        consumers = consumers_of(logits)
        layers = {
            name: self._layer(name, calls, consumers, example.shape[0] + 1)
            for name, calls in self._seen.items()
        }
        draft = Network(
            module=self._module,
            layers=layers,
            stages=(),
            last_map=self._last_map(layers, features),
            concatenates=False,
            example=example,
            classes=logits.shape[1],
            overwrites=overwrites,
            opaque=self._opaque,
            _head=found,
        )
        stages = find_stages([layer.name for layer in draft.hook_layers])
        return replace(draft, stages=stages, concatenates=self._concatenates(stages, consumers))

    def _layer(self, name: str, calls: Sequence["_Seen"], consumers: Any, rows: int) -> Layer:
        module = self._module.get_submodule(name)
        first, site = calls[0], Site(name)
        norm = is_norm(module)
        inner = self._first_child_called(name) if norm else None
        node = first.node
        if inner is not None:
            # A normalization that applies its own activation: read before that.
            site = Site(inner, "input")
            node = self._nodes.get(site)
        positive = None
        if len(calls) == 1 and node is not None:
            found = positive_part(node, consumers, self._ports, site)
            positive = None if found is None else self._max_pooled(*found, consumers)
        usable = first.shape if first.shape and first.shape[0] == rows else ()
        return Layer(
            name,
            type(module).__name__,
            len(calls),
            usable[1:],
            first.channels,
            norm,
            site,
            positive,
        )

    def _max_pooled(self, site: Site, relu: Any, consumers: Any) -> Site:
        """`site`, or the input of the max pooling layer that takes the ReLU's output alone."""
        if goes_to_max_pool(relu, consumers):
            for other, node in self._nodes.items():
                layer = self._module.get_submodule(other.layer)
                if node is relu and isinstance(layer, nn.MaxPool2d):
                    return other
        return site

    def _first_child_called(self, name: str) -> str | None:
        inside = [n for n in self._seen if n.startswith(f"{name}.")]
        return inside[0] if inside else None

    def _last_map(self, layers: dict[str, Layer], features: Tensor | None) -> LastMap | None:
        if features is None:
            return None
        target = features.double()
        scale = target.abs().max().clamp_min(1e-9)
        tolerance = _MEANS.get(features.dtype, 1e-4)
        pooled: LastMap | None = None
        for name in reversed(layers):
            for call, seen in enumerate(self._seen[name]):
                if len(seen.shape) < 3 or seen.mean is None or seen.mean.shape != target.shape:
                    continue
                for mean in (seen.mean, seen.positive_mean):
                    if mean is not None and float((mean - target).abs().max() / scale) < tolerance:
                        count = torch.Size(seen.shape).numel() // target.numel()
                        found = LastMap(Site(name, "output", call), count)
                        if count > 1:
                            return found
                        pooled = pooled or found
        return pooled

    def _concatenates(self, stages: tuple[Stage, ...], consumers: Any) -> bool:
        if not stages:
            return False
        first = self._seen[stages[-1].layers[0]][0].node
        last = self._seen[stages[-1].layers[-1]][0].node
        names = nodes_between(first, consumers, last)
        return any(name.startswith("CatBackward") for name in names)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    node: Any
    shape: tuple[int, ...]
    channels: int
    mean: Tensor | None
    positive_mean: Tensor | None


def _first_tensor(args: Iterable[Any], kwargs: dict[str, Any]) -> Tensor | None:
    return next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
