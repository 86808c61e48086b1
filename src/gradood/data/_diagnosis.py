"""What is wrong with the content of an image file that could not be decoded."""

import re
from pathlib import Path

from gradood.data._extras import pillow
from gradood.errors import BadImageError

__all__ = ["diagnosis", "is_heif"]

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
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HEAD = 132


def diagnosis(error: Exception, encoded: bytes | Path) -> BadImageError:
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
    if is_heif(encoded):
        return BadImageError(
            "it is HEIC, which needs a decoder: pip install pillow-heif.", "no_decoder"
        )
    if head[128:132] == b"DICM":
        return BadImageError(
            "it is DICOM, which is not read: convert it to PNG, with the window that you look at.",
            "no_decoder",
        )
    if _MARKUP.match(head):
        return BadImageError(f"it is a web page or other markup: {known}.", "not_an_image")
    return BadImageError(f"{known}.", "not_an_image")


def is_heif(encoded: bytes | Path) -> bool:
    """Whether the content begins as HEIC does; AVIF, which Pillow reads, is none."""
    try:
        head = _size_and_head(encoded)[1]
    except OSError:
        return False
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def _cut_short(encoded: bytes | Path) -> bool:
    """Whether a RIFF file (WebP) is shorter than it says; its decoder does not tell."""
    try:
        size, head = _size_and_head(encoded)
    except OSError:
        return False
    return head.startswith(b"RIFF") and size < 8 + int.from_bytes(head[4:8], "little")


def _size_and_head(encoded: bytes | Path) -> tuple[int, bytes]:
    if isinstance(encoded, bytes):
        return len(encoded), encoded[:_HEAD]
    with encoded.open("rb") as stream:
        return encoded.stat().st_size, stream.read(_HEAD)
