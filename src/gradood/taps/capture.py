"""What a layer takes or gives, seen during training: unlike `Tap`, no mode is changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from gradood.errors import TapError, suggest
from gradood.taps.site import Site

__all__ = ["captured"]


@contextmanager
def captured(model: nn.Module, site: Site, reading: Callable[[Tensor], None]) -> Iterator[None]:
    """Show the tensor at `site` to `reading` in every forward inside; nothing remains after.

    The model keeps its mode and its graph, so that what is seen can be trained through.

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

    def show(values: Any) -> None:
        found = next((v for v in values if isinstance(v, Tensor)), None)
        if found is None:
            raise TapError(f"no tensor at {site}; name a layer that takes and gives one.")
        reading(found)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        show((*args, *kwargs.values()))

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
