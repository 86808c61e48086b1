"""Canary inputs: smooth noise in the range of what a model takes."""

import torch
from torch import Tensor, nn

from gradood.errors import DataError
from gradood.taps import Arguments, Inputs, full_mask, is_mask, joined

__all__ = ["COUNT", "synthesize"]

COUNT = 8
"""How many inputs there are."""
_SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}


def synthesize(
    example: Inputs, low: Tensor | float, high: Tensor | float, *, seed: int = 0
) -> Inputs:
    """Eight inputs like those that the model takes: noise, from smooth to rough.

    Args:
        example: of one row or more; only its shapes, types and constants are used.
        low: smallest value of each channel, (channels,) or one number; of arguments,
            one for each tensor (tensors,), or for each of its columns (tensors, columns).
        high: largest value of each channel.
        seed: of the noise.

    Returns:
        (8, …) on the CPU, of the type of `example`; integers lie in low to high, both included.

    Raises:
        DataError: the range is empty, not finite, or of another number of channels.
    """
    if isinstance(example, Arguments):
        tensors = len(example.leaves)
        low, high = (_of_tensors(torch.as_tensor(bound), tensors) for bound in (low, high))
        return _synthesized(example, low, high, seed)
    shape = tuple(example.shape[1:])
    low, high = (_per_channel(bound, shape) for bound in (low, high))
    if not bool((low <= high).all() and low.isfinite().all() and high.isfinite().all()):
        raise DataError("the canary's range is empty or not finite; expected finite low ≤ high.")
    generator = torch.Generator().manual_seed(seed)
    if example.dtype == torch.bool:
        return torch.rand((COUNT, *shape), generator=generator) < 0.5
    if not example.is_floating_point():
        place = torch.rand((COUNT, *shape), generator=generator, dtype=torch.float64)
        return (low + place * (high - low + 1)).floor().minimum(high).to(example.dtype)
    rows = [_noise(shape, 2**row, generator) for row in range(COUNT)]
    values = low + torch.stack(rows) * (high - low)
    # Rounding to a coarser type may step over the bounds.
    limits = torch.finfo(example.dtype)
    return values.clamp(limits.min, limits.max).to(example.dtype)


def _of_tensors(bound: Tensor, tensors: int) -> Tensor:
    return bound if bound.ndim else bound.expand(tensors)


def _own(leaf: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of one tensor: of each column of whole numbers where they are known, or of all."""
    columns = leaf.shape[1] if leaf.ndim == 2 and not leaf.is_floating_point() else 0
    if low.ndim and 0 < columns <= len(low):
        return low[:columns], high[:columns]
    return low.amin(), high.amax()


def _synthesized(example: Arguments, low: Tensor, high: Tensor, seed: int) -> Arguments:
    """Eight rows of arguments without padding: every tensor by itself, in its own range."""
    whole = full_mask(joined([example[:1]] * COUNT).cpu())  # type: ignore[arg-type]
    made = {
        name: synthesize(leaf.cpu(), *_own(leaf, low[place], high[place]), seed=seed + place)
        for place, (name, leaf) in enumerate(example.leaves.items())
        if not is_mask(name)
    }
    return whole.replaced({n: leaf for n, leaf in made.items() if isinstance(leaf, Tensor)})


def _per_channel(bound: Tensor | float, shape: tuple[int, ...]) -> Tensor:
    """The bound in float64, broadcasting over (channels, …)."""
    values = torch.as_tensor(bound, dtype=torch.float64).cpu()
    if values.ndim == 0:
        return values
    if values.ndim != 1 or not shape or len(values) not in (1, shape[0]):
        raise DataError(
            f"the canary's range has shape {tuple(values.shape)}; expected one number, or one for "
            f"each of the {shape[0] if shape else 0} channels."
        )
    return values.reshape(-1, *[1] * (len(shape) - 1))


def _noise(shape: tuple[int, ...], cells: int, generator: torch.Generator) -> Tensor:
    """Noise from 0 to 1, both reached in each channel, smooth over `cells` cells per dimension."""
    places = shape[1:]
    coarse = tuple(min(cells + 1, side) for side in places)
    values = torch.rand((*shape[:1], *coarse), generator=generator, dtype=torch.float64)
    if len(places) in _SMOOTH and coarse != places:
        values = nn.functional.interpolate(
            values[None], size=places, mode=_SMOOTH[len(places)], align_corners=True
        )[0]
    elif coarse != places:
        values = torch.rand(shape, generator=generator, dtype=torch.float64)
    if not places or values.numel() == 0:
        return values
    flat = values.flatten(1)
    least, most = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return ((flat - least) / (most - least).clamp_min(1e-12)).reshape(shape)
