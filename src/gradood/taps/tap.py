"""Hooks on a view of a model, for one look: what is read, and where gradients are taken.

Values are read, and reduced, in the middle of the forward pass. Gradients with respect to inner
layers need no gradient of any parameter and no graph upstream of the first layer asked for: grad
mode is off until the forward reaches that layer, whose output becomes a leaf. A tensor hook placed
there before any in-place layer runs sees the gradient of the value the layer gave, not of what an
in-place activation later made of it, and reduces it as soon as it exists.
"""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils.hooks import RemovableHandle

from gradood.errors import TapError, suggest
from gradood.taps._backward import Mark, failed_backward, unconnected
from gradood.taps._failures import is_model_failure, model_failure
from gradood.taps.arguments import Arguments, Inputs, called
from gradood.taps.attended import stepped
from gradood.taps.isolation import left_as_found
from gradood.taps.site import INPUT, Site
from gradood.taps.view import View, Views

__all__ = ["Reading", "Tap"]

Reading = Callable[[Tensor], None]
"""What to do with a tensor seen at a site; it must not keep the tensor alive unless it means to."""


class Tap:
    """Context manager: hooks on some layers of a view of a model, which itself is not touched.

    Register what to see with `value`, `gradient` and `replace`, then call `run` once, then
    `backward` once per objective. On exit, whatever happened inside, no hook remains.

    Args:
        model: the unwrapped model (`unwrap`), or views of it.

    Raises:
        TapError: a layer is unknown, not reached, gives no tensor, or is not connected to the
            objective; the message names the layer and the choices. Or autograd cannot follow.

    Cost:
        Values: none but the readings' own. Gradients: one truncated backward per objective, with
        the graph kept only from the first layer asked for.
    """

    def __init__(self, model: nn.Module | Views) -> None:
        self._views = model if isinstance(model, Views) else Views(model)
        self._view = View(self._views.model)
        self._values: dict[Site, list[Reading]] = {}
        self._replacements: dict[Site, Tensor] = {}
        self._marks: dict[Site, Mark] = {}
        self._marked: dict[Any, Site] = {}
        self._wanted: set[Site] = set()
        self._reached: set[Site] = set()
        self._sites_by_call: dict[tuple[str, str], dict[int, Site]] = {}
        self._calls: dict[tuple[str, str], int] = {}
        self._receivers: dict[Site, Reading] = {}
        self._handles: list[RemovableHandle] = []
        self._thread = threading.get_ident()
        self._context = ExitStack()

    def value(self, site: Site, reading: Reading) -> None:
        """Show the tensor at `site` to `reading` during the forward."""
        self._check(site)
        self._values.setdefault(site, []).append(reading)

    def gradient(self, site: Site) -> None:
        """Make the gradient at `site` available to `backward`."""
        self._check(site)
        self._wanted.add(site)

    def replace(self, site: Site, tensor: Tensor) -> None:
        """Let the network go on with `tensor` in place of what is at `site`."""
        self._check(site)
        self._replacements[site] = tensor

    def __enter__(self) -> Self:
        self._view = self._context.enter_context(left_as_found(self._views))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for handle in self._handles:
                handle.remove()
            # Readings keep tensors whose graph keeps the hooks: cut what no collector can see.
            for kept in (self._handles, self._marks, self._marked, self._receivers, self._values):
                kept.clear()
            self._replacements.clear()
            self._view = View(self._views.model)
        finally:
            self._context.__exit__(kind, error, trace)

    def run(self, x: Inputs) -> Any:
        """The model's own output on `x`, with every reading shown its tensor.

        Args:
            x: (batch, …) on the model's device.
        """
        x = _recordable(x)
        if INPUT in self._sites():
            # Not in a hook: those of others, which run before ours, may change what the model gets.
            x = self._see_input(x)
        self._attach()
        try:
            output = called(self._view.module, x)
        except Exception as error:
            if not is_model_failure(error):
                raise
            raise model_failure(error, x) from error
        missed = self._sites() - self._reached
        if missed:
            names = ", ".join(sorted(map(str, missed)))
            raise TapError(
                f"the forward pass did not reach {names}; name layers that every input passes."
            )
        return output

    def backward(
        self, objective: Tensor, receivers: dict[Site, Reading], *, keep: bool = False
    ) -> None:
        """Show each receiver the gradient of `objective` at its site; parameters get none.

        Args:
            objective: scalar; a sum over rows, so that row i of a gradient belongs to sample i.
            receivers: site → what to do with the gradient there.
            keep: another objective follows, so keep the graph.
        """
        missing = receivers.keys() - self._marks.keys()
        if missing or not objective.requires_grad:
            raise unconnected(missing or receivers)
        first = [s for s in receivers if not self._marks[s].upstream & receivers.keys()]
        self._receivers = dict(receivers)
        edges = [self._marks[s].edge for s in first]
        try:
            torch.autograd.grad(objective, edges, retain_graph=keep, allow_unused=True)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise failed_backward(error) from error
        if self._receivers:
            raise unconnected(self._receivers)

    # -- inside the forward ---------------------------------------------------------------

    def _check(self, site: Site) -> None:
        self._layer(site.layer)

    def _layer(self, name: str) -> nn.Module:
        layer = self._view.find(name)
        if layer is None:
            known = dict(self._views.model.named_modules())
            raise TapError(f"no layer {name!r}; {suggest(name, filter(None, known))}")
        return layer

    def _sites(self) -> set[Site]:
        return self._values.keys() | self._wanted | self._replacements.keys()

    def _attach(self) -> None:
        sites = self._sites() - {INPUT}
        for site in sites:
            self._sites_by_call.setdefault((site.layer, site.port), {})[site.call] = site
            self._view.pad_around(site.layer)
        for layer in sorted({s.layer for s in sites if s.port == "input"}):
            hook = self._before(layer)
            handle = self._layer(layer).register_forward_pre_hook(hook, with_kwargs=True)
            self._handles.append(handle)
        for layer in sorted({s.layer for s in sites if s.port == "output"}):
            handle = self._layer(layer).register_forward_hook(self._after(layer))
            self._handles.append(handle)

    def _before(self, layer: str) -> Callable[..., Any]:
        # Where the model itself is run, other threads may run it too. torch looks up apart from a
        # hook whether it takes keyword arguments, so that they may call it without.
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
            site = self._next(layer, "input")
            if site is None:
                return None
            words = kwargs or {}
            for i, argument in enumerate(args):
                if isinstance(argument, Tensor):
                    new = self._see(site, argument)
                    return None if new is argument else ((*args[:i], new, *args[i + 1 :]), words)
            for name, argument in words.items():
                if isinstance(argument, Tensor):
                    new = self._see(site, argument)
                    return None if new is argument else (args, {**words, name: new})
            raise TapError(f"layer {layer!r} takes no tensor; name a layer that takes one.")

        return hook

    def _after(self, layer: str) -> Callable[..., Any]:
        def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
            site = self._next(layer, "output")
            if site is None:
                return None
            if not isinstance(output, Tensor):
                raise TapError(
                    f"layer {layer!r} gives a {type(output).__name__}, not a tensor; "
                    f"name a layer inside it: {self._inside(layer)}"
                )
            new = self._see(site, output)
            return None if new is output else new

        return hook

    def _inside(self, layer: str) -> str:
        names = dict(self._views.model.named_modules())
        inside = [name for name in names if name.startswith(f"{layer}.")]
        return ", ".join(inside[:8]) or "there is none."

    def _next(self, layer: str, port: Any) -> Site | None:
        if threading.get_ident() != self._thread:
            return None
        call = self._calls.get((layer, port), 0)
        self._calls[layer, port] = call + 1
        return self._sites_by_call[layer, port].get(call)

    def _see_input(self, x: Inputs) -> Inputs:
        if isinstance(x, Tensor):
            return self._see(INPUT, x)
        name = stepped(x)
        if name is None:
            raise TapError(
                f"the inputs hold no floating tensor, only {', '.join(x.leaves)}, with respect to "
                "which there is a gradient."
            )
        return x.replaced({name: self._see(INPUT, x.leaves[name])})

    def _see(self, site: Site, tensor: Tensor) -> Tensor:
        self._reached.add(site)
        if self._replacements and site in self._replacements:
            # A copy: a layer that works in place may not write to what was given.
            tensor = self._replacements[site].to(tensor).clone()
        if site in self._wanted:
            tensor = self._mark(site, tensor)
        for reading in self._values.get(site, ()):
            reading(tensor)
        return tensor

    def _mark(self, site: Site, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            raise TapError(f"{site} holds {tensor.dtype}, which has no gradient.")
        torch.set_grad_enabled(True)
        upstream = self._upstream(tensor)
        if not upstream:
            # The clone, not the leaf, goes on: in-place layers may not touch a leaf.
            tensor = tensor.detach().requires_grad_().clone()
        elif site.port == "input":
            # Of what this layer takes, whatever else takes it too, as where it is the leaf.
            tensor = tensor.clone()
        if not tensor.requires_grad:
            raise TapError(
                f"{site} has no gradient, as the model runs it under torch.inference_mode(); "
                "take that out of the model's forward: no score needs it."
            )
        hook = tensor.register_hook(lambda gradient: self._receive(site, gradient))
        self._handles.append(hook)
        mark = self._marks[site] = Mark(get_gradient_edge(tensor), upstream)
        self._marked[mark.edge.node] = site
        return tensor

    def _receive(self, site: Site, gradient: Tensor | None) -> None:
        if gradient is None:  # What follows has no derivative, such as a quantized layer.
            return
        reading = self._receivers.pop(site, None)
        if reading is not None:
            reading(gradient)

    def _upstream(self, tensor: Tensor) -> frozenset[Site]:
        """Every marked site that `tensor` depends on, found in the graph recorded so far."""
        marked = self._marked
        found: set[Site] = set()
        seen: set[Any] = set()
        stack: list[Any] = [tensor.grad_fn]
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            site = marked.get(node)
            if site is None:
                stack.extend(parent for parent, _ in node.next_functions)
            else:
                found |= {site} | self._marks[site].upstream
        return frozenset(found)


def _recordable(x: Inputs) -> Inputs:
    """The inputs, copied where they were made in inference mode."""
    if isinstance(x, Arguments):
        made = any(leaf.is_inference() for leaf in x.leaves.values())
    else:
        made = x.is_inference()
    return x.clone() if made else x
