"""Operations on pictures from 0 to 1 that keep their class: of tone and of place, as Pillow's."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["OPERATIONS", "Operation", "drawn_operation"]

_LEVELS = 255


@dataclass(frozen=True, slots=True)
class Operation:
    """One of `OPERATIONS`, and how much of it.

    Attributes:
        name: which.
        amount: threshold of solarize (0 to 256), bits of posterize, degrees counter-clockwise,
            pixels, or the slope of a shear; without meaning for the others.
    """

    name: str
    amount: float = 0.0

    def __call__(self, picture: Tensor) -> Tensor:
        """The picture (channels, height, width) from 0 to 1 after the operation."""
        return OPERATIONS[self.name](picture, self.amount)


def drawn_operation(rng: random.Random, size: tuple[int, int], severity: float) -> Operation:
    """An operation at random, with an amount that grows with a level from 0.1 to `severity`.

    Args:
        rng: drawn from three times, whichever operation it is.
        size: (height, width).
        severity: 0.1 to 10, at which a picture turns by 30 degrees or moves by a third at most.
    """
    name = rng.choice(tuple(OPERATIONS))
    share = rng.uniform(0.1, severity) / 10
    sign = 1 if rng.random() < 0.5 else -1
    amounts = {
        "posterize": 4 - int(4 * share),
        "rotate": sign * int(30 * share),
        "solarize": 256 - int(256 * share),
        "shear-x": sign * 0.3 * share,
        "shear-y": sign * 0.3 * share,
        "translate-x": sign * int(size[1] / 3 * share),
        "translate-y": sign * int(size[0] / 3 * share),
    }
    return Operation(name, float(amounts.get(name, 0.0)))


def _autocontrast(picture: Tensor, amount: float) -> Tensor:
    """Each channel stretched from 0 to 1; a channel of one value stays."""
    del amount
    least, most = picture.amin((1, 2), keepdim=True), picture.amax((1, 2), keepdim=True)
    spread = most - least
    return torch.where(spread > 0, (picture - least) / spread.clamp_min(1e-12), picture)


def _equalize(picture: Tensor, amount: float) -> Tensor:
    """Each channel by the ranks of its 256 levels, in whole numbers as Pillow has it."""
    del amount
    channels: list[Tensor] = []
    for channel in picture:
        levels = _quantized(channel).long()
        counts = torch.bincount(levels.flatten(), minlength=_LEVELS + 1)
        last = counts[counts.nonzero()[-1]]
        step = int((counts.sum() - last) // _LEVELS)
        if step == 0:  # Also a channel of one value.
            channels.append(channel)
            continue
        before = counts.cumsum(0) - counts
        table = ((before + step // 2) // step).clamp_max(_LEVELS)
        channels.append(table[levels].to(picture) / _LEVELS)
    return torch.stack(channels)


def _posterize(picture: Tensor, amount: float) -> Tensor:
    """The first `amount` of 8 bits."""
    width = 2 ** (8 - int(amount))
    return (_quantized(picture) / width).floor() * width / _LEVELS


def _solarize(picture: Tensor, amount: float) -> Tensor:
    """Inverted from a level on."""
    return torch.where(_quantized(picture) >= amount, 1 - picture, picture)


def _rotate(picture: Tensor, amount: float) -> Tensor:
    angle = -math.radians(amount)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = picture.shape[2] / 2, picture.shape[1] / 2
    return _placed(picture, (cos, sin, x - cos * x - sin * y), (-sin, cos, y + sin * x - cos * y))


def _shear_x(picture: Tensor, amount: float) -> Tensor:
    return _placed(picture, (1, amount, 0), (0, 1, 0))


def _shear_y(picture: Tensor, amount: float) -> Tensor:
    return _placed(picture, (1, 0, 0), (amount, 1, 0))


def _translate_x(picture: Tensor, amount: float) -> Tensor:
    return _placed(picture, (1, 0, amount), (0, 1, 0))


def _translate_y(picture: Tensor, amount: float) -> Tensor:
    return _placed(picture, (1, 0, 0), (0, 1, amount))


OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "posterize": _posterize,
    "rotate": _rotate,
    "solarize": _solarize,
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": _translate_x,
    "translate-y": _translate_y,
}
"""By name; those that are also corruptions of ImageNet-C are left out, as by default there."""


def _quantized(picture: Tensor) -> Tensor:
    """Whole levels from 0 to 255, as floats."""
    return (picture * _LEVELS).round().clamp(0, _LEVELS)


def _placed(picture: Tensor, across: tuple[float, ...], down: tuple[float, ...]) -> Tensor:
    """Each pixel from the place that two affine functions of its center give; black outside.

    Between the centers of four pixels values are interpolated; beyond the outermost ones theirs
    count, as far as the picture reaches.
    """
    height, width = picture.shape[1:]
    y = torch.arange(height, dtype=torch.float64)[:, None] + 0.5
    x = torch.arange(width, dtype=torch.float64)[None, :] + 0.5
    place_x = across[0] * x + across[1] * y + across[2]
    place_y = down[0] * x + down[1] * y + down[2]
    inside = (place_x >= 0) & (place_x < width) & (place_y >= 0) & (place_y < height)
    left, top = (place_x - 0.5).floor(), (place_y - 0.5).floor()
    right_share = (place_x - 0.5 - left).to(picture)
    lower_share = (place_y - 0.5 - top).to(picture)
    columns = [(left + i).long().clamp(0, width - 1) for i in (0, 1)]
    rows = [(top + i).long().clamp(0, height - 1) for i in (0, 1)]
    upper, lower = (
        picture[:, row, columns[0]] * (1 - right_share) + picture[:, row, columns[1]] * right_share
        for row in rows
    )
    return (upper * (1 - lower_share) + lower * lower_share) * inside
