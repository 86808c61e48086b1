"""PixMix: training images mixed with themselves, changed, and with pictures of much structure.

The definition is that of the paper [hendrycks2022pixmix] as its authors' code has it
(andyzoujm/pixmix, MIT): a clean or changed image is mixed, in up to k rounds, with a changed copy
of itself or with a picture, by a weighted sum or a weighted product, and cut to the range of
pixels after each.
"""

import math
import random
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from gradood.errors import DataError
from gradood.training._inputs import sample_of
from gradood.training._picture_operations import Operation, drawn_operation
from gradood.training._randomness import seed_for, seeded
from gradood.training.fractals import FractalPictures
from gradood.training.recipe import PixMix

__all__ = ["Mixer", "Mixture", "Round", "drawn_mixture", "mixed"]

_LEAST = 1e-37
_MARGIN = 9 / 8
_SLACK = 1e-3


@dataclass(frozen=True, slots=True)
class Round:
    """One mixing.

    Attributes:
        partner: what is done to the image that is mixed in; None mixes the picture in.
        product: whether by a product of powers; else by a sum.
        a: weight of what was mixed so far.
        b: weight of the partner, also below 0.
    """

    partner: Operation | None
    product: bool
    a: float
    b: float


@dataclass(frozen=True, slots=True)
class Mixture:
    """All that is drawn for one image.

    Attributes:
        first: what is done to the image before the first round, or None.
        rounds: in order.
        picture: index of the picture.
        corner: of its crop, down and across, as shares from 0 to 1 of where it can be.
    """

    first: Operation | None
    rounds: tuple[Round, ...]
    picture: int
    corner: tuple[float, float]


def drawn_mixture(
    options: PixMix, pictures: int, size: tuple[int, int], rng: random.Random
) -> Mixture:
    """A mixture at random.

    Args:
        options: see `PixMix`.
        pictures: how many there are.
        size: (height, width) of the image.
        rng: whose state says it all.
    """

    def operation() -> Operation | None:
        changed = drawn_operation(rng, size, options.severity)
        return changed if rng.random() < 0.5 else None

    picture, corner = rng.randrange(pictures), (rng.random(), rng.random())
    first = operation()
    rounds: list[Round] = []
    for _ in range(rng.randint(0, options.rounds)):
        partner, product = operation(), rng.random() < 0.5
        # Beta(β, 1) and Beta(1, β), by the inverses of their distribution functions.
        high, low = (rng.random() ** (1 / options.strength) for _ in range(2))
        if rng.random() < 0.5:
            a, b = high, 1 - low
        else:
            a, b = 2 - high, low - 1
        rounds.append(Round(partner, product, a, b))
    return Mixture(first, tuple(rounds), picture, corner)


def mixed(image: Tensor, picture: Tensor, mixture: Mixture) -> Tensor:
    """The image after all rounds; (channels, height, width) from 0 to 1.

    Args:
        image: (channels, height, width) from 0 to 1.
        picture: of the same shape, from 0 to 1.
        mixture: what to do.
    """
    found = image if mixture.first is None else mixture.first(image)
    for turn in mixture.rounds:
        partner = picture if turn.partner is None else turn.partner(image)
        if turn.product:
            found = (2 * found) ** turn.a * (2 * partner).clamp_min(_LEAST) ** turn.b / 2
        else:
            found = (turn.a * (2 * found - 1) + turn.b * (2 * partner - 1) + 1) / 2
        found = found.clamp(0, 1)
    return found


class Mixer:
    """PixMix of the images of a run.

    Args:
        options: see `PixMix`.
        pictures: map-style data set of pictures (channels, height, width) from 0 to 1, of any size;
            what else its items hold is not looked at. None draws fractals of the image's size.
        black: value per channel of a black pixel; None for 0.
        white: value per channel of a white pixel; None for 1.
        seed: of the run.

    Raises:
        DataError: there are no pictures, or their number cannot be known; black or white is none.
    """

    def __init__(
        self,
        options: PixMix,
        pictures: Dataset[Any] | None,
        *,
        black: Tensor | None = None,
        white: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        self.options = options
        self.pictures = pictures
        self._seed = seed
        self._black = _pixel("black", 0.0 if black is None else black)
        self._white = _pixel("white", 1.0 if white is None else white)
        comparable = len({1, len(self._black), len(self._white)}) < 3
        if comparable and bool((self._black == self._white).any()):
            raise DataError("black= and white= of the training data are equal in a channel.")
        try:
            count = None if pictures is None else len(pictures)  # type: ignore[arg-type]
        except TypeError:
            count = 0
        if count == 0:
            raise DataError(
                "the mixing set has no pictures, or no length; expected a map-style data set of "
                "pictures (mixing_set=, --mixing-set), or none, for fractals that are drawn."
            )

    def __call__(self, image: Tensor, position: int) -> Tensor:
        """The mixture at a position of the run's order, of the type and range of the image.

        Args:
            image: (channels, height, width), as the model takes it.
            position: which the mixture depends on, with the seed.

        Raises:
            DataError: it is no image between black and white, or the picture is none.
        """
        self.check(image)
        wide = image if image.dtype in (torch.float32, torch.float64) else image.float()
        black, white = (v.to(wide).view(-1, 1, 1) for v in (self._black, self._white))
        size = (image.shape[1], image.shape[2])
        pictures: Any = self.pictures
        if pictures is None:
            pictures = FractalPictures(size=math.ceil(_MARGIN * max(size)), seed=self._seed)
        rng = random.Random(seed_for(self._seed, "pixmix", position))
        mixture = drawn_mixture(self.options, len(pictures), size, rng)
        if mixture.first is None and not mixture.rounds:
            return image
        picture = torch.empty(0)
        if any(turn.partner is None for turn in mixture.rounds):
            with seeded(self._seed, "pixmix", "read", position):
                picture = _read(pictures, mixture.picture)
            picture = _cropped(picture.to(wide), tuple(image.shape), mixture.corner)
        pixels = ((wide - black) / (white - black)).clamp(0, 1)
        return (mixed(pixels, picture, mixture) * (white - black) + black).to(image.dtype)

    def check(self, image: Any) -> None:
        """Check that an input is an image between black and white.

        Raises:
            DataError: it is none.
        """
        if not _is_picture(image):
            shown = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            dtype = f" {image.dtype}" if isinstance(image, Tensor) else ""
            raise DataError(
                f"PixMix mixes images, and an input is {shown}{dtype}; expected floating-point "
                "images (channels, height, width). Leave augment.pixmix out."
            )
        for name, pixel in (("black", self._black), ("white", self._white)):
            if len(pixel) not in (1, len(image)):
                raise DataError(
                    f"{name}= of the training data has {len(pixel)} values, and an image "
                    f"{len(image)} channels; expected one, or as many."
                )
        black, white = (v.to(image).view(-1, 1, 1) for v in (self._black, self._white))
        share = (image - black) / (white - black)
        least, most = float(share.min()), float(share.max())
        if not bool(share.isfinite().all()):
            raise DataError("PixMix mixes images, and one has values of NaN or infinity.")
        if not -_SLACK <= least <= most <= 1 + _SLACK:
            raise DataError(
                f"PixMix mixes pixels from black to white, and an image has values from "
                f"{float(image.min()):.3g} to {float(image.max()):.3g} beyond them; expected "
                "black= and white= of the training data to be what a pixel of 0 and of 1 becomes "
                "by its preprocessing."
            )


def _is_picture(value: Any) -> TypeGuard[Tensor]:
    """Whether it is floating-point (channels, height, width), none of them 0."""
    tensor = isinstance(value, Tensor) and value.is_floating_point()
    return tensor and value.ndim == 3 and value.numel() > 0


def _pixel(name: str, value: Any) -> Tensor:
    """(1,) or (channels,) values of a pixel.

    Raises:
        DataError: it is none.
    """
    try:
        found = torch.as_tensor(value).flatten()
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(0)
    if not len(found) or found.is_complex() or not bool(found.isfinite().all()):
        raise DataError(
            f"{name}={value!r} of the training data is no pixel; expected a finite number, or a "
            "tensor of one for each channel."
        )
    return found if found.is_floating_point() else found.float()


def _read(pictures: Any, index: int) -> Tensor:
    """A picture of a mixing set.

    Raises:
        DataError: it cannot be read, or is none.
    """
    try:
        item = pictures[index]
    except Exception as error:
        raise DataError(
            f"picture {index} of the mixing set cannot be read: {error} Remove it, or give "
            "another set."
        ) from error
    return _as_picture(item, index)


def _as_picture(item: Any, index: int) -> Tensor:
    """The picture in an item of a mixing set.

    Raises:
        DataError: it is none, or not from 0 to 1.
    """
    picture = sample_of(item)
    if not _is_picture(picture):
        raise DataError(
            f"picture {index} of the mixing set is no floating-point image; expected "
            "(channels, height, width) from 0 to 1."
        )
    if not bool(((picture >= -_SLACK) & (picture <= 1 + _SLACK)).all()):
        raise DataError(
            f"picture {index} of the mixing set has values from {float(picture.min()):.3g} to "
            f"{float(picture.max()):.3g}; expected 0 to 1, not normalized."
        )
    return picture


def _cropped(picture: Tensor, shape: tuple[int, ...], corner: tuple[float, float]) -> Tensor:
    """A crop of `shape` of the picture, resized so that 9/8 of it just fit.

    Raises:
        DataError: it has other channels that cannot be adapted.
    """
    channels, height, width = shape
    if len(picture) != channels and 1 not in (len(picture), channels):
        raise DataError(
            f"a picture that is mixed in has {len(picture)} channels, and images have {channels}; "
            "give a mixing_set= of pictures of as many channels, or of one. Fractals, which are "
            "drawn without a mixing set, have 3."
        )
    if len(picture) != channels:
        picture = picture.mean(0, keepdim=True).expand(channels, -1, -1)
    scale = max(_MARGIN * height / picture.shape[1], _MARGIN * width / picture.shape[2])
    rows, columns = (round(scale * length) for length in picture.shape[1:])
    size = [max(rows, height), max(columns, width)]
    if size != list(picture.shape[1:]):
        picture = F.interpolate(picture[None], size, mode="bilinear", antialias=True)[0]
    top = min(int(corner[0] * (size[0] - height + 1)), size[0] - height)
    left = min(int(corner[1] * (size[1] - width + 1)), size[1] - width)
    return picture[:, top : top + height, left : left + width].clamp(0, 1)
