"""What a layer of a model takes or gives during training; unlike `Tap`, of the model itself."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from gradood.errors import TapError, suggest
from gradood.taps.site import Site

__all__ = ["captured"]


@contextmanager
def captured(model: nn.Module, site: Site, reading: Callable[[Tensor], None]) -> Iterator[None]:
    """Show the tensor at `site` to `reading` in every forward of this thread; no hook remains.

    The model keeps its mode and its graph, so that what is seen can be trained through. Forwards of
    other threads are not looked at.

    Args:
        model: the unwrapped model.
        site: an input or output of a layer; which call of it is not looked at.
        reading: what to do with the tensor.

    Raises:
        TapError: there is no such layer, or no tensor there.
    """
    modules = dict(model.named_modules())
    if site.layer not in modules:
        raise TapError(f"no layer {site.layer!r}; {suggest(site.layer, modules)}")

    thread = threading.get_ident()

    def show(values: tuple[Any, ...]) -> None:
        if threading.get_ident() != thread:
            return
        tensor = next((value for value in values if isinstance(value, Tensor)), None)
        if tensor is None:
            raise TapError(f"no tensor at {site}; name a layer that takes and gives one.")
        reading(tensor)

    # torch looks up apart from a hook whether it takes keyword arguments, so that a thread that
    # runs the layer meanwhile may call it without them.
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        show((*args, *(kwargs or {}).values()))

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        show((output,))

    layer = modules[site.layer]
    handle = (
        layer.register_forward_pre_hook(before, with_kwargs=True)
        if site.port == "input"
        else layer.register_forward_hook(after)
    )
    try:
        yield
    finally:
        handle.remove()
