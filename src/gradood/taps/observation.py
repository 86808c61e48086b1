"""Observing a classifier: one forward of two rows, and what its graph says of every layer."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradood.errors import TapError
from gradood.taps.graph import consumers_of, goes_to_max_pool, nodes_between, positive_part
from gradood.taps.head import Head, HeadCandidate, find_head, linear_weight
from gradood.taps.network import LastMap, Layer, Network
from gradood.taps.site import Site, channel_dim, positions
from gradood.taps.stages import Stage, find_stages
from gradood.taps.tap import device_of
from gradood.taps.wrap import left_as_found, logits_of, unwrap

__all__ = ["is_norm", "observe"]


def observe(model: nn.Module, example: Tensor, *, head: str | None = None) -> Network:
    """Run the model on a few rows and note what it does.

    Args:
        model: any classifier.
        example: (n ≥ 1, …) inputs on the model's device; the first two are used.
        head: name of the head, or None to search for it.

    Raises:
        TapError: the model returns no logits, or mixes the samples of a batch.

    Cost:
        Two forwards of at most two rows, one of them with its graph.
    """
    module = unwrap(model)
    rows = example[:2] if len(example) > 1 else torch.cat([example, example.flip(-1)])
    notes = _Notes(module)
    with ExitStack() as stack:
        stack.enter_context(left_as_found(module, device_of(module)))
        alone = logits_of(module(rows[:1].clone()))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(notes)
        logits = logits_of(notes.run(rows))
    _refuse_mixing(module, logits.detach(), alone, len(rows))
    return notes.network(rows[:1].detach().clone(), logits, head)


def _refuse_mixing(module: nn.Module, logits: Tensor, alone: Tensor, rows: int) -> None:
    if logits.shape[0] != rows or alone.shape[0] != 1:
        raise TapError(
            f"the model gave {logits.shape[0]} rows of logits for {rows} inputs; "
            "row i of the output must belong to sample i."
        )
    scale = logits.abs().max().clamp_min(1e-6)
    tolerance = 1e-3 if logits.dtype in (torch.float32, torch.float64) else 5e-2
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

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._seen: dict[str, list[_Seen]] = {}
        self._ports: dict[Any, Site] = {}
        self._nodes: dict[Site, Any] = {}
        self._candidates: list[tuple[str, nn.Module, Tensor]] = []
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        for name, module in self._module.named_modules():
            if name:
                hook = self._hook(name)
                self._handles.append(module.register_forward_hook(hook, with_kwargs=True))
                before = self._before(name)
                self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def run(self, rows: Tensor) -> Any:
        if rows.is_floating_point():
            rows = rows.detach().clone().requires_grad_().clone()
        return self._module(rows)

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
            if not output.requires_grad:
                fresh = output.detach().requires_grad_().clone()
            dim = channel_dim(module, output)
            values = positions(output.detach(), dim)
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

    def network(self, example: Tensor, logits: Tensor, head: str | None) -> Network:
        counts = {name: len(calls) for name, calls in self._seen.items()}
        candidates = [
            HeadCandidate(name, module, seen, counts.get(name, 1))
            for name, module, seen in self._candidates
        ]
        found: Head | TapError
        features: Tensor | None = None
        try:
            found = find_head(candidates, logits, head)
            features = found.features(next(c.seen for c in candidates if c.layer == found.layer))
        except TapError as error:
            found = error
        consumers = consumers_of(logits)
        layers = {
            name: self._layer(name, calls, consumers, example.shape[0] + 1)
            for name, calls in self._seen.items()
        }
        draft = Network(self._module, layers, (), None, False, example, logits.shape[1], found)
        stages = find_stages([layer.name for layer in draft.hook_layers])
        return Network(
            self._module,
            layers,
            stages,
            self._last_map(layers, features),
            self._concatenates(stages, consumers),
            example,
            logits.shape[1],
            found,
        )

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
        pooled: LastMap | None = None
        for name in reversed(layers):
            for call, seen in enumerate(self._seen[name]):
                if len(seen.shape) < 3 or seen.mean is None or seen.mean.shape != target.shape:
                    continue
                for mean in (seen.mean, seen.positive_mean):
                    if mean is not None and float((mean - target).abs().max() / scale) < 1e-4:
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


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalizes, by class, or by the word in its class name."""
    known = nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm
    if isinstance(module, known):
        return True
    named = any(
        word in type(module).__name__.lower()
        for word in ("batchnorm", "layernorm", "groupnorm", "rmsnorm")
    )
    return named and not any(True for _ in module.children())


def _first_tensor(args: Iterable[Any], kwargs: dict[str, Any]) -> Tensor | None:
    return next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
