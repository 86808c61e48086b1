"""What each layer takes and gives in one forward with its graph, and what follows from it."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradood.taps._failures import is_model_failure, model_failure
from gradood.taps._head_search import HeadSearch
from gradood.taps._last_map import LayerCall, last_map
from gradood.taps._output import by_graph, chosen_among, mistaken
from gradood.taps.arguments import Inputs, called
from gradood.taps.attended import attended
from gradood.taps.feature_layer import FeatureLayer
from gradood.taps.graph import (
    Stage,
    consumers_of,
    find_stages,
    goes_to_max_pool,
    nodes_between,
    positive_part,
)
from gradood.taps.head import linear_weight
from gradood.taps.network import Layer, Network, own_name, paired
from gradood.taps.site import Site, channel_dim, is_norm, mean_over, positions
from gradood.taps.view import View, Views
from gradood.taps.wrap import Link, Output, logits_of

__all__ = ["Recording"]


class Recording:
    """Hooks on every module of a view for one forward, and what is concluded from it.

    Args:
        views: of the model.
        view: to hook and run.
        output: which item of what the model returns holds the logits, or None for the usual ones.
        opaque: why autograd cannot follow the model, or None.

    Attributes:
        logits: (rows, classes) that the forward gave.
    """

    def __init__(
        self, views: Views, view: View, output: Output | None = None, opaque: str | None = None
    ) -> None:
        self.logits = torch.empty(0, device="cpu")
        self._views = views
        self._view = view
        self._thread = threading.get_ident()
        self._opaque = opaque
        self._output = output
        self._returned: Any = None
        self._rows: Inputs = torch.empty(0, device="cpu")
        self._module = views.model
        self._seen: dict[str, list[LayerCall]] = {}
        self._ports: dict[Any, Site] = {}
        self._nodes: dict[Site, Any] = {}
        self._candidates: list[tuple[str, Tensor]] = []
        self._channels: int | None = None
        self._attended: Tensor | None = None

    def run(self, rows: Inputs) -> None:
        """Run the view on a few rows; no hook remains."""
        self._rows = rows.detach().clone()
        rows = _with_graph(rows.detach().clone())
        self._attended = attended(rows)
        handles: list[RemovableHandle] = []
        try:
            for name, _ in self._module.named_modules():
                module = self._view.find(name) if name else None
                if module is not None:
                    handles.append(module.register_forward_hook(self._after(name)))
                    before = self._before(name)
                    handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self._returned = self._forward(rows)
        finally:
            for handle in handles:
                handle.remove()
        self.logits = logits_of(self._returned, self._output)

    def _forward(self, rows: Inputs) -> Any:
        try:
            return called(self._view.module, rows)
        except RuntimeError:  # May be autograd's.
            raise
        except Exception as error:
            if not is_model_failure(error):
                raise
            raise model_failure(error, rows) from error

    def _before(self, name: str) -> Callable[..., None]:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
        ) -> None:
            if threading.get_ident() != self._thread:
                return
            call = len(self._seen.get(name, ()))
            given = _first_tensor(args, kwargs or {})
            if given is not None and given.grad_fn is not None:
                site = Site(name, "input", call)
                self._nodes[site] = given.grad_fn
                self._ports.setdefault(given.grad_fn, site)
            if given is not None and linear_weight(module) is not None:
                self._candidates.append((name, given.detach().clone()))

        return hook

    def _after(self, name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, _: tuple[Any, ...], output: Any) -> Any:
            if threading.get_ident() != self._thread:
                return None
            calls = self._seen.setdefault(name, [])
            known = isinstance(output, Tensor) and output.is_floating_point()
            if not known or not output.ndim or output.layout != torch.strided:
                calls.append(LayerCall(None, (), 1, None, None))
                return None
            fresh = output
            if torch.is_grad_enabled() and not output.requires_grad:
                fresh = output.detach().requires_grad_().clone()
            dim = self._channel_dim(module, output)
            values = positions(output.detach(), dim).double()
            if fresh.grad_fn is not None:
                self._ports.setdefault(fresh.grad_fn, Site(name, "output", len(calls)))
            calls.append(
                LayerCall(
                    fresh.grad_fn,
                    tuple(output.shape),
                    dim,
                    self._mean(values),
                    self._mean(values.clamp_min(0)),
                )
            )
            return None if fresh is output else fresh

        return hook

    def _mean(self, values: Tensor) -> Tensor:
        """Mean of (batch, channels, positions) over the positions that count."""
        mask = self._attended
        fits = mask is not None and values.shape[::2] == mask.shape
        return mean_over(values, mask if fits else None)

    def _channel_dim(self, module: nn.Module, output: Tensor) -> int:
        """Of a layer that does not tell, as of the last layer that did; else the last."""
        told = channel_dim(module, output)
        if output.ndim == 3:
            self._channels = self._channels if told is None else told
            return 2 if self._channels is None else self._channels
        assert told is not None
        return told

    def network(
        self,
        example: Inputs,
        head: str | FeatureLayer | None,
        overwrites: bool,
        *,
        link: Link = "softmax",
        pairs: bool = True,
    ) -> Network:
        """The network as it ran.

        Args:
            example: one of the inputs (1, …).
            head: name of the head, the layer that gives the features, or None to search.
            overwrites: whether the model changes the tensor that it is given.
            link: what makes probabilities of the outputs.
            pairs: whether one logit z under a softmax is read as the two (0, z).
        """
        logits = self.logits
        ended = None if link == "none" else by_graph(logits)
        cautions = [] if ended is None else [mistaken(ended)]
        made = pairs and link == "softmax" and logits.shape[1] == 1
        search = self._search(example, paired=made)
        if self._output is None:
            among = chosen_among(self._returned, logits, search.tried(paired=False))
            cautions += [] if among is None else [among]
        if made:
            logits = paired(logits)
        named = head if isinstance(head, FeatureLayer) else None
        name = None if named else head and own_name(self._module, cast("str", head))
        found, features = ("", None) if named else search.head(logits, name, link, ended)
        consumers = consumers_of(self.logits)
        layers = {
            name: self._layer(name, calls, consumers, len(example) + 1)
            for name, calls in self._seen.items()
        }
        draft = Network(
            module=self._module,
            layers=layers,
            stages=(),
            last_map=last_map(reversed(layers), self._seen, features),
            concatenates=False,
            example=example,
            classes=1 if link == "none" else logits.shape[1],
            overwrites=overwrites,
            opaque=self._opaque,
            views=self._views,
            _head=found,
            output=self._output,
            cautions=tuple(cautions),
            link=link,
            paired=made,
        )
        if named:
            layer = draft.layer(named.name)
            features = cast("Tensor", self._seen[layer.name][0].mean)
            seen = last_map(reversed(layers), self._seen, features)
            draft = replace(draft, _head=search.named(layer, features), last_map=seen)
        stages = find_stages([layer.name for layer in draft.hook_layers])
        return replace(draft, stages=stages, concatenates=self._concatenates(stages, consumers))

    def _search(self, example: Inputs, *, paired: bool) -> HeadSearch:
        shapes = {name: calls[0].shape for name, calls in self._seen.items() if len(calls) == 1}
        counts = {name: len(calls) for name, calls in self._seen.items()}
        single = self._rows
        linear = isinstance(single, Tensor) and linear_weight(self._module) is not None
        own = [("", single)] if linear and isinstance(single, Tensor) else []
        taken = (*own, *self._candidates)
        mask = self._attended
        return HeadSearch(self._views, example, self._rows, taken, counts, shapes, paired, mask)

    def _layer(self, name: str, calls: Sequence[LayerCall], consumers: Any, rows: int) -> Layer:
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
        own = [call.node for call in calls if call.node is not None]
        result = self.logits.grad_fn
        unknown = result is None or not own
        return Layer(
            name,
            type(module).__name__,
            len(calls),
            usable[1:],
            first.channels,
            norm,
            site,
            positive,
            connected=unknown or any(n is result or n in consumers for n in own),
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

    def _concatenates(self, stages: tuple[Stage, ...], consumers: Any) -> bool:
        if not stages:
            return False
        first = self._seen[stages[-1].layers[0]][0].node
        last = self._seen[stages[-1].layers[-1]][0].node
        names = nodes_between(first, consumers, last)
        return any(name.startswith("CatBackward") for name in names)


def _with_graph(rows: Inputs) -> Inputs:
    """The inputs, which autograd follows from there where grad mode is on."""

    def recorded(leaf: Tensor) -> Tensor:
        follows = torch.is_grad_enabled() and leaf.is_floating_point()
        return leaf.requires_grad_().clone() if follows else leaf

    return recorded(rows) if isinstance(rows, Tensor) else rows.each(recorded)


def _first_tensor(args: Iterable[Any], kwargs: dict[str, Any]) -> Tensor | None:
    return next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
