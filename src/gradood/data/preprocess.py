"""From an image to what a network takes: mode, resize, crop, scale, normalize."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from gradood.data._decode import eight_bit
from gradood.data._extras import pillow
from gradood.errors import BadImageError, ConfigError, suggest

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Preprocess"]

_CHANNELS = {"L": 1, "RGB": 3}
_CHOICES = {
    "mode": ("RGB", "L"),
    "interpolation": ("bilinear", "bicubic", "nearest", "lanczos"),
    "crop_rounding": ("even", "down"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """Mode, resize, center crop, scale to [0, 1], normalize; in this order.

    Gives what torchvision's ``Resize``, ``CenterCrop``, ``ToTensor`` and ``Normalize`` give for a
    Pillow image. An alpha channel is dropped, not blended.

    Attributes:
        mode: ``"RGB"``, or ``"L"`` for gray.
        resize: length in pixels that the shorter side gets; or height and width, whatever that does
            to the aspect ratio; or None.
        crop: height and width in pixels of the center that is kept, one number if they are the
            same, or None; what an image lacks is filled with black.
        mean: subtracted per channel, after scaling; None for 0.
        std: divided by per channel, after scaling; None for 1.
        interpolation: of the resize: ``"bilinear"``, ``"bicubic"``, ``"nearest"`` or
            ``"lanczos"``, all but nearest with antialiasing.
        crop_rounding: where the crop begins if as many pixels cannot go on both sides: ``"even"``
            rounds halves to the even pixel, as torchvision and timm do, ``"down"`` rounds down, as
            Transformers does.

    Raises:
        ConfigError: an option has a wrong value.
    """

    mode: Literal["RGB", "L"] = "RGB"
    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] = "bilinear"
    crop_rounding: Literal["even", "down"] = "even"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                *some, last = map(repr, known)
                raise ConfigError(f"{name} is {value!r}; expected {', '.join(some)} or {last}.")
        for name in ("resize", "crop"):
            object.__setattr__(self, name, _pixels(name, getattr(self, name)))
        if isinstance(self.crop, tuple) and self.crop[0] == self.crop[1]:
            object.__setattr__(self, "crop", self.crop[0])
        for name in ("mean", "std"):
            object.__setattr__(self, name, self._per_channel(name))

    def __call__(self, image: "Image") -> Tensor:
        """The image as float32 (channels, height, width).

        Args:
            image: in any of Pillow's modes; not changed.

        Raises:
            BadImageError: its pixels are 32-bit, or resized it would be too large.
        """
        x = self.pixels(image).permute(2, 0, 1)
        x = x.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        if self.mean is not None:
            x.sub_(torch.tensor(self.mean).view(-1, 1, 1))
        if self.std is not None:
            x.div_(torch.tensor(self.std).view(-1, 1, 1))
        return x

    def pixels(self, image: "Image") -> Tensor:
        """The image before it is scaled: mode, resize and crop alone.

        Args:
            image: as of a call.

        Returns:
            uint8 (height, width, channels), as a graph of ``gradood export --part pixels`` takes.

        Raises:
            BadImageError: as of a call.
        """
        pixels = np.array(self._cropped(self._resized(self._converted(image))))
        return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1))

    def to_dict(self) -> dict[str, Any]:
        """Its options by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> "Preprocess":
        """Of options by name, as `to_dict` gives them.

        Raises:
            ConfigError: there is no such option, or its value is wrong.
        """
        known = [field.name for field in fields(cls)]
        for option in options:
            if option not in known:
                raise ConfigError(f"preprocess has no option {option!r}; {suggest(option, known)}")
        return cls(**options)

    @property
    def black(self) -> Tensor:
        """(channels,) input of a black pixel.

        >>> Preprocess(mode="L", mean=(0.5,), std=(0.25,)).black
        tensor([-2.])
        """
        channels = (0.0,) * _CHANNELS[self.mode]
        mean = torch.tensor(self.mean or channels)
        return -mean / torch.tensor(self.std or (1.0,) * len(channels))

    @property
    def white(self) -> Tensor:
        """(channels,) input of a white pixel.

        >>> Preprocess(mode="L", mean=(0.5,), std=(0.25,)).white
        tensor([2.])
        """
        std = self.std or (1.0,) * _CHANNELS[self.mode]
        return self.black + 1 / torch.tensor(std)

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
        size = self._target(image.width, image.height)
        if size == image.size:
            return image
        limit = pillow().MAX_IMAGE_PIXELS
        if limit is not None and size[0] * size[1] > limit:
            raise BadImageError(
                f"its {image.width}×{image.height} pixels would become {size[0]}×{size[1]}, and "
                f"the limit is {limit} (PIL.Image.MAX_IMAGE_PIXELS). Leave such strips out.",
                "too_large",
            )
        return image.resize(size, pillow().Resampling[self.interpolation.upper()])

    def _target(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the resize."""
        if self.resize is None:
            return width, height
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        short, long = sorted((width, height))
        if short == self.resize:
            return width, height
        other = int(self.resize * long / short)
        return (other, self.resize) if width > height else (self.resize, other)

    def _cropped(self, image: "Image") -> "Image":
        if self.crop is None:
            return image
        height, width = self.crop if isinstance(self.crop, tuple) else (self.crop, self.crop)
        if image.size == (width, height):
            return image
        left, top = self._start(image.width, width), self._start(image.height, height)
        return image.crop((left, top, left + width, top + height))

    def _start(self, side: int, crop: int) -> int:
        """Where the crop begins; negative where it fills up."""
        if self.crop_rounding == "down":
            return (side - crop) // 2
        return round((side - crop) / 2) if side >= crop else -((crop - side) // 2)


def _pixels(name: str, given: Any) -> int | tuple[int, int] | None:
    """Pixels, or height and width as a tuple whatever sequence they came in."""
    if given is None:
        return None
    several = isinstance(given, list | tuple)
    sides = tuple(given) if several else (given, given)
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise ConfigError(
            f"{name} is {given!r}; expected pixels, at least 1, or (height, width), or None."
        )
    return sides if several else given
