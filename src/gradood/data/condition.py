"""What is the matter with an encoded image, in a word that programs can read.

An image that cannot be used is one of

- ``empty``: a file of no bytes;
- ``truncated``: it ends before its pixels do;
- ``not_an_image``: its bytes are something else, such as a web page;
- ``broken``: it begins like an image and cannot be decoded;
- ``too_large``: more pixels, or bytes, than the limit;
- ``bad_mode``: 32-bit values, of which nothing says what is black and what is white;
- ``unreadable``: it cannot be opened, or is no file: absent, forbidden, a link to itself, a pipe.

One that can be used, though not all of it reaches the model, is one of `REMARKS`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from gradood.data.extras import pillow
from gradood.errors import BadImageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

__all__ = ["EIGHT_BIT_LOST", "REMARKS", "diagnose", "remarks", "sixteen_bit"]

EIGHT_BIT_LOST = "sixteen_bit"
REMARKS: Mapping[str, str] = MappingProxyType(
    {
        "cmyk": "its CMYK colors were converted to RGB without their profile",
        EIGHT_BIT_LOST: "its 16 bits per channel were reduced to 8",
        "animated": "it holds several frames or pages, and only the first was looked at",
    }
)
"""Status → what was done, for images that can be used nevertheless."""

# Pillow reads their 16-bit gray images into 32-bit integers from 0 to 65535.
_PNG_LIKE = ("PNG", "PPM")
_CUT = re.compile(r"truncated|EOF|not enough image data|but only got", re.IGNORECASE)
_MARKUP = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|svg|!--)", re.IGNORECASE)
_BEGINNINGS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"RIFF", "WEBP"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)


def remarks(image: "ImageFile") -> tuple[str, ...]:
    """Which of `REMARKS` hold for an image that has been opened, but not loaded.

    Args:
        image: as ``PIL.Image.open`` gives it.

    Cost: of a GIF, a look at the head of the second frame.
    """
    found = []
    if image.mode == "CMYK":
        found.append("cmyk")
    if sixteen_bit(image) or any(";16" in _raw_mode(tile) for tile in image.tile):
        found.append(EIGHT_BIT_LOST)
    if image.format != "MPO" and _several(image):  # An MPO's others are previews or depth.
        found.append("animated")
    return tuple(found)


def sixteen_bit(image: "Image") -> bool:
    """Whether the values in memory are 16-bit gray, 0 to 65535."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in _PNG_LIKE)


def diagnose(error: Exception, encoded: bytes | Path) -> BadImageError:
    """What an error says about the image that Pillow raised it for.

    Args:
        error: from opening or loading the image.
        encoded: the content of its file, or where it is.
    """
    module = pillow()
    if isinstance(error, BadImageError):
        return error
    if isinstance(error, module.DecompressionBombError | module.DecompressionBombWarning):
        return BadImageError(f"it is too large to decode safely: {error}", "too_large")
    if isinstance(error, module.UnidentifiedImageError):
        return _unidentified(encoded)
    if isinstance(error, OSError) and error.errno is not None:
        return BadImageError(f"it cannot be opened: {error.strerror or error}.", "unreadable")
    status = "truncated" if _CUT.search(str(error)) or _cut_short(encoded) else "broken"
    return BadImageError(f"it is broken: {type(error).__name__}: {error}", status)


def _unidentified(encoded: bytes | Path) -> BadImageError:
    try:
        size, head = _size_and_head(encoded)
    except OSError as error:
        return BadImageError(f"it cannot be opened: {error.strerror or error}.", "unreadable")
    known = f"its {size} bytes are no image of a known format"
    if size == 0:
        return BadImageError(f"it is empty: {known}.", "empty")
    kind = next((name for magic, name in _BEGINNINGS if head.startswith(magic)), None)
    if kind is not None:
        status = "truncated" if _cut_short(encoded) else "broken"
        return BadImageError(f"it begins like {kind} and is broken: {known}.", status)
    if _MARKUP.match(head):
        return BadImageError(f"it is a web page or other markup: {known}.", "not_an_image")
    return BadImageError(f"{known}.", "not_an_image")


def _cut_short(encoded: bytes | Path) -> bool:
    """Whether a RIFF file (WebP) is shorter than it says; its decoder does not tell."""
    try:
        size, head = _size_and_head(encoded)
    except OSError:
        return False
    return head.startswith(b"RIFF") and size < 8 + int.from_bytes(head[4:8], "little")


def _size_and_head(encoded: bytes | Path) -> tuple[int, bytes]:
    if isinstance(encoded, bytes):
        return len(encoded), encoded[:64]
    with encoded.open("rb") as stream:
        return encoded.stat().st_size, stream.read(64)


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
