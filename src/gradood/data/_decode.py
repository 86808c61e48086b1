"""Encoded images made into pixels, or the reason why one cannot be, in a word programs can read.

An image that cannot be used is one of

- ``empty``: a file of no bytes;
- ``truncated``: it ends before its pixels do;
- ``not_an_image``: its bytes are something else, such as a web page;
- ``broken``: it begins like an image and cannot be decoded;
- ``too_large``: more pixels, or bytes, than the limit;
- ``bad_mode``: 32-bit values, of which nothing says what is black and what is white;
- ``transparent``: fully transparent, so that whatever its pixels hold is not to be seen;
- ``no_decoder``: HEIC without pillow-heif, or DICOM;
- ``unreadable``: it cannot be opened, or is no file: absent, forbidden, a link to itself, a pipe.

One that can be used, though not all of it reaches the model, is one of `REMARKS`.
"""

import os
import stat
from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradood.data._diagnosis import diagnosis, is_heif
from gradood.data._extras import heif, pillow
from gradood.errors import BadImageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

__all__ = ["FORMATS", "REMARKS", "decode", "eight_bit", "examine"]

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

_EIGHT_BIT_LOST, _ALPHA_LOST = "sixteen_bit", "alpha_dropped"
REMARKS: Mapping[str, str] = MappingProxyType(
    {
        "cmyk": "its CMYK colors were converted to RGB without their profile",
        _EIGHT_BIT_LOST: "its 16 bits per channel were reduced to 8",
        "animated": "it holds several frames or pages, and only the first was looked at",
        _ALPHA_LOST: "it is transparent in part; its colors were taken as they are without that",
    }
)
"""Status → what was done, for images that can be used nevertheless."""

# Pillow reads their 16-bit gray images into 32-bit integers from 0 to 65535.
_PNG_LIKE = ("PNG", "PPM")


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
    """What `decode` gives, and which of `REMARKS` hold for it.

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
        with _opened(encoded, source) as image:
            _check_size(image.size, module.MAX_IMAGE_PIXELS, "PIL.Image.MAX_IMAGE_PIXELS")
            _check_size(image.size, max_pixels, "max_pixels")
            noted = _remarks(image)
            image.load()
            noted += _transparency(image)
            found = eight_bit(image)
            pillow("ImageOps").exif_transpose(found, in_place=True)  # Else it would copy.
            return found, noted
    except MemoryError:
        raise
    except Exception as error:  # Decoders raise whatever a broken file makes them raise.
        raise diagnosis(error, encoded) from error


def eight_bit(image: "Image") -> "Image":
    """The image with 8 bits per channel; 16-bit gray (0 to 65535) is scaled.

    Args:
        image: in any mode.

    Raises:
        BadImageError: its values are 32-bit, of which nothing says what is black and what is white.
    """
    if _sixteen_bit(image):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return pillow().fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImageError(
            f"its values are 32-bit (mode {image.mode!r}) and have no standard range; "
            "expected 8 or 16 bits per channel. Convert it.",
            "bad_mode",
        )
    return image


def _opened(encoded: bytes | Path, source: Any) -> Any:
    """The image, opened by Pillow; HEIC by pillow-heif, which is not registered with Pillow."""
    decoder = heif()
    if decoder is not None and is_heif(encoded):
        return decoder.HeifImageFile(source)
    return pillow().open(source, formats=_formats())


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


# ---------------------------------------------------------------- what is wrong with an image


def _remarks(image: "ImageFile") -> tuple[str, ...]:
    """Which of `REMARKS` hold for an image that has been opened, but not loaded.

    Args:
        image: as ``PIL.Image.open`` gives it.

    Cost: of a GIF, a look at the head of the second frame.
    """
    found = []
    if image.mode == "CMYK":
        found.append("cmyk")
    if _sixteen_bit(image) or any(";16" in _raw_mode(tile) for tile in image.tile):
        found.append(_EIGHT_BIT_LOST)
    if image.format != "MPO" and _several(image):  # An MPO's others are previews or depth.
        found.append("animated")
    return tuple(found)


def _transparency(image: "Image") -> tuple[str, ...]:
    """Which of `REMARKS` holds for the transparency of a loaded image.

    Raises:
        BadImageError: all of it is transparent.
    """
    if "transparency" in image.info and image.mode in ("L", "RGB", "P"):
        alpha = image.convert("RGBA").getchannel("A")
    elif image.mode in ("RGBA", "LA", "PA"):
        alpha = image.getchannel("A")
    else:
        return ()
    low, high = cast(tuple[int, int], alpha.getextrema())
    if high == 0:
        raise BadImageError(
            "it is fully transparent: its pixels hold colors that nobody sees. Save it without "
            "transparency, on the background it is meant for.",
            "transparent",
        )
    return (_ALPHA_LOST,) if low < 255 else ()


def _sixteen_bit(image: "Image") -> bool:
    """Whether the values in memory are 16-bit gray, 0 to 65535."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in _PNG_LIKE)


def _raw_mode(tile: tuple) -> str:
    """How a tile's values lie in the file, such as ``RGB;16B``."""
    given = tile[3]
    first = given[0] if isinstance(given, tuple) and given else given
    return first if isinstance(first, str) else ""


def _several(image: "Image") -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # What follows the first frame is broken; loading says whether it is too.
        return False
