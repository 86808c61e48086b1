"""Encoded images made into pixels; what is broken, too large or of no known format is refused."""

import os
import stat
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gradood.data.condition import diagnose, remarks, sixteen_bit
from gradood.data.extras import pillow
from gradood.errors import BadImageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FORMATS", "decode", "eight_bit", "examine"]

FORMATS = (
    "AVIF",
    "BMP",
    "GIF",
    "JPEG",
    "JPEG2000",
    "MPO",
    "PNG",
    "PPM",
    "TIFF",
    "WEBP",
)
"""Formats that are read, by Pillow's names. Others, such as PostScript, could start programs."""


def decode(encoded: bytes | Path, *, max_pixels: int | None = None) -> "Image":
    """The first frame, turned upright as its EXIF orientation says, with 8 bits per channel.

    Args:
        encoded: the content of an image file, or where it is.
        max_pixels: refuse larger images; Pillow's own limit holds besides.

    Returns:
        A loaded image in any of Pillow's 8-bit modes.

    Raises:
        BadImageError: it is absent, no file, of no known format, broken, has values without a
            standard range, or more pixels than `max_pixels` or Pillow's
            ``Image.MAX_IMAGE_PIXELS``. Says why, but not which image: the caller knows its name.

    Cost: one decode; the file is read once.
    """
    return examine(encoded, max_pixels=max_pixels)[0]


def examine(
    encoded: bytes | Path, *, max_pixels: int | None = None
) -> tuple["Image", tuple[str, ...]]:
    """What `decode` gives, and which of `gradood.data.condition.REMARKS` hold for it.

    Args:
        encoded: as for `decode`.
        max_pixels: as for `decode`.

    Raises:
        BadImageError: as for `decode`.
    """
    module = pillow()
    if isinstance(encoded, Path):
        _check_regular(encoded)
    try:
        source = BytesIO(encoded) if isinstance(encoded, bytes) else encoded
        with module.open(source, formats=_formats()) as image:
            _check_size(image.size, module.MAX_IMAGE_PIXELS, "PIL.Image.MAX_IMAGE_PIXELS")
            _check_size(image.size, max_pixels, "max_pixels")
            noted = remarks(image)
            image.load()
            found = eight_bit(image)
            pillow("ImageOps").exif_transpose(found, in_place=True)  # Else it would copy.
            return found, noted
    except MemoryError:
        raise
    except Exception as error:  # Decoders raise whatever a broken file makes them raise.
        raise diagnose(error, encoded) from error


def eight_bit(image: "Image") -> "Image":
    """The image with 8 bits per channel; 16-bit gray (0 to 65535) is scaled.

    Args:
        image: in any mode.

    Raises:
        BadImageError: its values are 32-bit, of which nothing says what is black and what is white.
    """
    if sixteen_bit(image):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return pillow().fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImageError(
            f"its values are 32-bit (mode {image.mode!r}) and have no standard range; "
            "expected 8 or 16 bits per channel. Convert it.",
            "bad_mode",
        )
    return image


@cache
def _formats() -> tuple[str, ...]:
    """The formats that this Pillow was built with."""
    module = pillow()
    module.init()
    return tuple(name for name in FORMATS if name in module.OPEN)


def _check_regular(path: Path) -> None:
    """Opening a pipe would wait forever."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise BadImageError(
            f"it cannot be opened: {error.strerror or error}.", "unreadable"
        ) from error
    if not stat.S_ISREG(mode):
        raise BadImageError("it is no regular file.", "unreadable")


def _check_size(size: tuple[int, int], limit: int | None, name: str) -> None:
    if limit is not None and size[0] * size[1] > limit:
        raise BadImageError(
            f"it is too large to decode safely: {size[0]}×{size[1]} pixels, and the limit is "
            f"{limit} ({name}).",
            "too_large",
        )
