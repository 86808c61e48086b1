"""PixMix (Hendrycks et al., CVPR 2022, arXiv 2112.05135): one image, pixel by pixel, in float64.

Written from the algorithm: mix the image, or a changed copy of it, in some rounds with a changed
copy of the image or with a picture, by ``a(2u-1) + b(2v-1)`` or ``(2u)^a (2v)^b``, brought back to
0..1 and cut there. Operations are those of AugMix, with Pillow's rules.
"""

import math
from collections.abc import Sequence

import numpy as np

from .arrays import Array

Change = tuple[str, float] | None
"""Name and amount of an operation."""
Turn = tuple[Change, bool, float, float]
"""What the partner is (None: the picture), whether by a product, and the two weights."""


def pixmix(image: Array, picture: Array, first: Change, turns: Sequence[Turn]) -> Array:
    """The image (channels, height, width) from 0 to 1 after all rounds."""
    found = changed(image, first)
    for change, product, a, b in turns:
        partner = picture if change is None else changed(image, change)
        out = np.zeros_like(found)
        for place in np.ndindex(*found.shape):
            u, v = float(found[place]), float(partner[place])
            if product:
                value = (2 * u) ** a * max(2 * v, 1e-37) ** b / 2
            else:
                value = (a * (2 * u - 1) + b * (2 * v - 1) + 1) / 2
            out[place] = min(max(value, 0.0), 1.0)
        found = out
    return found


def changed(image: Array, change: Change) -> Array:
    """The image after one operation, or as it is."""
    if change is None:
        return image
    name, amount = change
    tone = {"autocontrast": stretched, "equalize": equalized}
    if name in tone:
        return np.stack([tone[name](channel) for channel in image])
    if name == "posterize":
        step = 2 ** (8 - round(amount))
        return np.vectorize(lambda v: level(v) // step * step / 255)(image)
    if name == "solarize":
        return np.vectorize(lambda v: 1 - v if level(v) >= amount else v)(image)
    return moved(image, name, amount)


def level(value: float) -> int:
    """Of 256."""
    return min(max(round(255 * value), 0), 255)


def stretched(channel: Array) -> Array:
    low, high = channel.min(), channel.max()
    return channel if low == high else (channel - low) / (high - low)


def equalized(channel: Array) -> Array:
    counts = [0] * 256
    for value in channel.flat:
        counts[level(value)] += 1
    filled = [count for count in counts if count]
    step = (sum(filled) - filled[-1]) // 255
    if len(filled) == 1 or step == 0:
        return channel
    table, n = [], step // 2
    for count in counts:
        table.append(min(n // step, 255))
        n += count
    return np.vectorize(lambda v: table[level(v)] / 255)(channel)


def moved(image: Array, name: str, amount: float) -> Array:
    """Each pixel from where the inverse of the movement puts its center."""
    channels, height, width = image.shape
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            if name == "rotate":
                angle = math.radians(amount)
                dx, dy = x - width / 2, y - height / 2
                x = width / 2 + math.cos(angle) * dx - math.sin(angle) * dy
                y = height / 2 + math.sin(angle) * dx + math.cos(angle) * dy
            elif name == "shear-x":
                x = x + amount * y
            elif name == "shear-y":
                y = y + amount * x
            elif name == "translate-x":
                x = x + amount
            elif name == "translate-y":
                y = y + amount
            for channel in range(channels):
                out[channel, row, column] = interpolated(image[channel], x, y)
    return out


def interpolated(channel: Array, x: float, y: float) -> float:
    """Between the centers of pixels; black outside of the picture."""
    height, width = channel.shape
    if not (0 <= x < width and 0 <= y < height):
        return 0.0
    total = 0.0
    for row in range(height):
        for column in range(width):
            # A border pixel stands for what lies beyond it.
            near_x = min(max(x, 0.5), width - 0.5)
            near_y = min(max(y, 0.5), height - 0.5)
            share_x = max(0.0, 1 - abs(near_x - column - 0.5))
            share_y = max(0.0, 1 - abs(near_y - row - 0.5))
            total += share_x * share_y * float(channel[row, column])
    return total
