"""Encoded images made into pixels; what is broken, too large or of no known format is refused."""

import os
import stat
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gradood.data.extras import pillow
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["FORMATS", "decode", "eight_bit"]

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


def decode(encoded: bytes | Path) -> "Image":
    """The first frame, turned upright as its EXIF orientation says, with 8 bits per channel.

    Args:
        encoded: the content of an image file, or where it is.

    Returns:
        A loaded image in any of Pillow's 8-bit modes.

    Raises:
        DataError: it is absent, no file, of no known format, broken, has values without a standard
            range, or more pixels than Pillow's ``Image.MAX_IMAGE_PIXELS``. Says why, but not
            which image: the caller knows its name.

    Cost: one decode; the file is read once.
    """
    module = pillow()
    if isinstance(encoded, Path):
        _check_regular(encoded)
    try:
        source = BytesIO(encoded) if isinstance(encoded, bytes) else encoded
        with module.open(source, formats=_formats()) as image:
            _check_size(image.size, module.MAX_IMAGE_PIXELS)
            image.load()
            return pillow("ImageOps").exif_transpose(eight_bit(image))
    except DataError:
        raise
    except (module.DecompressionBombError, module.DecompressionBombWarning) as error:
        raise DataError(f"it is too large to decode safely: {error}") from error
    except module.UnidentifiedImageError as error:
        size = len(encoded) if isinstance(encoded, bytes) else encoded.stat().st_size
        raise DataError(
            f"its {size} bytes are no image of a known format ({', '.join(FORMATS)})."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # Decoders raise whatever a broken file makes them raise.
        raise DataError(f"it is broken: {type(error).__name__}: {error}") from error


def eight_bit(image: "Image") -> "Image":
    """The image with 8 bits per channel; 16-bit gray (0 to 65535) is scaled.

    Args:
        image: in any mode.

    Raises:
        DataError: its values are 32-bit, of which nothing says what is black and what is white.
    """
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in _PNG_LIKE)
    if sixteen:
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return pillow().fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"its values are 32-bit (mode {image.mode!r}) and have no standard range; "
            "expected 8 or 16 bits per channel. Convert it."
        )
    return image


# Pillow reads their 16-bit gray images into 32-bit integers from 0 to 65535.
_PNG_LIKE = ("PNG", "PPM")


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
        raise DataError(f"it cannot be opened: {error.strerror or error}.") from error
    if not stat.S_ISREG(mode):
        raise DataError("it is no regular file.")


def _check_size(size: tuple[int, int], limit: int | None) -> None:
    if limit is not None and size[0] * size[1] > limit:
        raise DataError(
            f"it is too large to decode safely: {size[0]}×{size[1]} pixels, and the limit is "
            f"{limit} (PIL.Image.MAX_IMAGE_PIXELS)."
        )
