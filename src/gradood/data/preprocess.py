"""From an image to what a network takes: mode, resize, crop, scale, normalize."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from gradood.data.decode import eight_bit
from gradood.data.extras import pillow
from gradood.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Preprocess"]

_CHANNELS = {"L": 1, "RGB": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """Mode, resize, center crop, scale to [0, 1], normalize; in this order.

    Gives what torchvision's ``Resize``, ``CenterCrop``, ``ToTensor`` and ``Normalize`` give. An
    alpha channel is dropped, not blended.

    Attributes:
        mode: ``"RGB"``, or ``"L"`` for gray.
        resize: length in pixels that the shorter side gets, bilinear with antialiasing, or None.
        crop: height and width in pixels of the center that is kept, or None; what an image lacks
            is filled with black.
        mean: subtracted per channel, after scaling; None for 0.
        std: divided by per channel, after scaling; None for 1.

    Raises:
        ConfigError: an option has a wrong value.
    """

    mode: Literal["RGB", "L"] = "RGB"
    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.mode not in _CHANNELS:
            raise ConfigError(f"mode is {self.mode!r}; expected 'RGB' or 'L'.")
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"{name} is {value!r}; expected pixels, at least 1, or None.")
        for name in ("mean", "std"):
            object.__setattr__(self, name, self._per_channel(name))

    def __call__(self, image: "Image") -> Tensor:
        """The image as float32 (channels, height, width).

        Args:
            image: in any of Pillow's modes; not changed.

        Raises:
            DataError: its pixels are 32-bit, or resized it would be too large.
        """
        pixels = np.array(self._cropped(self._resized(self._converted(image))))
        x = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)
        x = x.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        if self.mean is not None:
            x.sub_(torch.tensor(self.mean).view(-1, 1, 1))
        if self.std is not None:
            x.div_(torch.tensor(self.std).view(-1, 1, 1))
        return x

    def _per_channel(self, name: str) -> tuple[float, ...] | None:
        given = getattr(self, name)
        if given is None:
            return None
        expected = f"{_CHANNELS[self.mode]} finite numbers for mode {self.mode!r}, or None"
        try:
            values = tuple(float(value) for value in given)
        except (TypeError, ValueError):
            raise ConfigError(f"{name} is {given!r}; expected {expected}.") from None
        usable = all(math.isfinite(v) and (v > 0 or name == "mean") for v in values)
        if not usable or len(values) != _CHANNELS[self.mode]:
            more = " above 0" if name == "std" else ""
            raise ConfigError(f"{name} is {given!r}; expected {expected}{more}.")
        return values

    def _converted(self, image: "Image") -> "Image":
        image = eight_bit(image)
        if image.mode in ("P", "PA", "La", "RGBa"):
            # Pillow warns, or refuses, when these lose their transparency in one step.
            image = image.convert("RGBA")
        return image if image.mode == self.mode else image.convert(self.mode)

    def _resized(self, image: "Image") -> "Image":
        short, long = sorted(image.size)
        if self.resize is None or short == self.resize:
            return image
        other = int(self.resize * long / short)
        wide = image.width > image.height
        size = (other, self.resize) if wide else (self.resize, other)
        limit = pillow().MAX_IMAGE_PIXELS
        if limit is not None and size[0] * size[1] > limit:
            raise DataError(
                f"its {image.width}×{image.height} pixels would become {size[0]}×{size[1]}, and "
                f"the limit is {limit} (PIL.Image.MAX_IMAGE_PIXELS). Leave such strips out."
            )
        return image.resize(size, pillow().Resampling.BILINEAR)

    def _cropped(self, image: "Image") -> "Image":
        if self.crop is None or image.size == (self.crop, self.crop):
            return image
        left, top = (_start(side, self.crop) for side in image.size)
        return image.crop((left, top, left + self.crop, top + self.crop))


def _start(side: int, crop: int) -> int:
    """Where the crop begins, rounded as torchvision does; negative where it fills up."""
    return round((side - crop) / 2) if side >= crop else -((crop - side) // 2)
