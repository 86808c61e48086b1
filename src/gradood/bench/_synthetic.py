"""Synthetic outliers, made of in-distribution samples: several kinds, the same every time.

None of them is an outlier that anyone will meet. Each takes something away that in-distribution
samples have (places of parts, phases of the spectrum, fine detail, one class at a time) and keeps
something else, so that together they ask more than one kind alone.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from gradood.taps import Arguments, Inputs, attended, is_mask, sequences

__all__ = ["IMAGE_KINDS", "KINDS", "made", "usable_kinds"]

Maker = Callable[[Tensor, torch.Generator], Tensor]
"""From (n ≥ 2, …) samples and a generator to as many outliers of their shape and dtype."""

_CELLS, _LEAST = 4, 8


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    """As many numbers in [0, 1) as there are in x, on its device."""
    return torch.rand(x.shape, generator=generator, dtype=torch.float32).to(x.device)


def _other(x: Tensor) -> Tensor:
    """Another sample for each: half the batch away."""
    return x.roll(max(1, len(x) // 2), 0)


def _blended(x: Tensor, generator: torch.Generator) -> Tensor:
    """The mean of two samples."""
    return (x + _other(x)) / 2


def _extrapolated(x: Tensor, generator: torch.Generator) -> Tensor:
    """Beyond a sample, seen from another: x + (x − y) / 2."""
    return x + (x - _other(x)) / 2


def _permuted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Every feature of another sample: the distribution of each is kept, their relation is not."""
    flat = x.flatten(1)
    order = torch.rand(flat.shape, generator=generator).argsort(0).to(x.device)
    return flat.gather(0, order).reshape(x.shape)


def _permuted_arguments(x: Arguments, generator: torch.Generator) -> Arguments:
    """Every feature of another sample, every position of a sequence of any sample's sequence."""
    mask = attended(x)
    leaves = {name: leaf for name, leaf in x.leaves.items() if not is_mask(name)}
    if mask is None:
        return x.replaced({name: _permuted(leaf, generator) for name, leaf in leaves.items()})
    order = torch.rand(int(mask.sum()), generator=generator).argsort().to(mask.device)
    changed = {name: _permuted(leaf, generator) for name, leaf in leaves.items()}
    for name in sequences(x, mask.shape[1]):
        changed[name] = leaves[name].clone()
        changed[name][mask] = leaves[name][mask][order]
    return x.replaced(changed)


def _pasted(x: Tensor, generator: torch.Generator) -> Tensor:
    """The left half of one image beside the right half of another."""
    half = x.shape[-1] // 2
    return torch.cat([x[..., :half], _other(x)[..., half:]], -1)


def _shuffled(x: Tensor, generator: torch.Generator) -> Tensor:
    """Cut into 4 × 4 cells, and these permuted."""
    height, width = (side // _CELLS for side in x.shape[-2:])
    inner = x[..., : height * _CELLS, : width * _CELLS]
    cells = F.unfold(inner, (height, width), stride=(height, width))
    order = torch.rand(len(x), 1, cells.shape[-1], generator=generator).argsort(-1).to(x.device)
    cells = cells.gather(-1, order.expand_as(cells))
    size = (height * _CELLS, width * _CELLS)
    made = x.clone()
    made[..., : size[0], : size[1]] = F.fold(cells, size, (height, width), stride=(height, width))
    return made


def _phases(x: Tensor, generator: torch.Generator) -> Tensor:
    """Noise with the spectrum of each image: its amplitudes, with the phases of white noise."""
    noise = _uniform(x[:, :1], generator)
    phase = torch.fft.rfft2(noise - noise.mean((-2, -1), keepdim=True)).angle()
    phase[..., 0, 0] = 0  # The mean stays.
    spectrum = torch.fft.rfft2(x.float())
    dc = spectrum[..., 0, 0].clone()
    made = torch.polar(spectrum.abs(), phase.expand_as(spectrum).contiguous())
    made[..., 0, 0] = dc
    return torch.fft.irfft2(made, s=x.shape[-2:]).to(x.dtype)


def _noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """White noise with the mean and the spread of each channel."""
    drawn = (_uniform(x, generator) - 0.5) * math.sqrt(12)
    mean, spread = x.mean((-2, -1), keepdim=True), x.std((-2, -1), keepdim=True)
    return mean + spread * drawn.to(x.dtype)


def _coarse(x: Tensor, generator: torch.Generator) -> Tensor:
    """Without detail: the means of 4 × 4 cells, enlarged."""
    return F.interpolate(F.adaptive_avg_pool2d(x, _CELLS), size=x.shape[-2:], mode="bilinear")


def _enlarged(x: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter of each side, from the same random place of every image, enlarged."""
    height, width = (max(2, side // 4) for side in x.shape[-2:])
    top = torch.randint(0, x.shape[-2] - height + 1, (), generator=generator).item()
    left = torch.randint(0, x.shape[-1] - width + 1, (), generator=generator).item()
    part = x[..., int(top) : int(top) + height, int(left) : int(left) + width]
    return F.interpolate(part, size=x.shape[-2:], mode="bilinear")


def _inverted(x: Tensor, generator: torch.Generator) -> Tensor:
    """The negative, within the range of each channel of the batch."""
    low, high = x.amin((0, -2, -1), keepdim=True), x.amax((0, -2, -1), keepdim=True)
    return low + high - x


def _turned(x: Tensor, generator: torch.Generator) -> Tensor:
    """Upside down, every other one mirrored along its diagonal where it is square."""
    made = x.flip(-2)
    if x.shape[-2] == x.shape[-1]:
        made[::2] = x[::2].transpose(-2, -1).flip(-1)
    return made


KINDS: Mapping[str, Maker] = MappingProxyType(
    {"blended": _blended, "extrapolated": _extrapolated, "permuted": _permuted}
)
"""Kinds for samples of any form."""
IMAGE_KINDS: Mapping[str, Maker] = MappingProxyType(
    {
        "blended": _blended,
        "pasted": _pasted,
        "shuffled": _shuffled,
        "phases": _phases,
        "noise": _noise,
        "coarse": _coarse,
        "enlarged": _enlarged,
        "inverted": _inverted,
        "turned": _turned,
    }
)
"""Kinds for images (n, channels, height, width)."""


def usable_kinds(x: Inputs) -> dict[str, Maker]:
    """The kinds that apply to samples of this form.

    Args:
        x: (n, …): floating (n, channels, height, width) of at least 8 × 8 with 1 to 4 channels are
            images; of whole numbers, such as tokens, and of several tensors, only permutations are
            made.
    """
    if isinstance(x, Arguments):
        return {"permuted": KINDS["permuted"]}
    if not x.is_floating_point():
        return {"permuted": KINDS["permuted"]}
    if x.ndim == 4 and x.shape[1] <= 4 and min(x.shape[-2:]) >= _LEAST:
        return dict(IMAGE_KINDS)
    return dict(KINDS)


def made(x: Inputs, maker: Maker, seed: int) -> Inputs:
    """Outliers of a kind; the same for the same samples, kind and seed.

    Args:
        x: n ≥ 2 in-distribution samples.
        maker: of the kind.
        seed: of what is drawn.

    Returns:
        Of n rows, of the dtype of x.
    """
    if isinstance(x, Arguments):
        return _permuted_arguments(x, torch.Generator("cpu").manual_seed(seed))
    return maker(x, torch.Generator("cpu").manual_seed(seed))
