"""What is wrong with the content of an image file that could not be decoded."""

import re
from io import BytesIO
from pathlib import Path

from gradood.data._extras import pillow
from gradood.errors import BadImageError

__all__ = ["diagnosis", "is_heif"]

_CUT = re.compile(r"truncated|EOF|end of file|not enough image data|but only got", re.IGNORECASE)
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
    said = str(error).strip()  # libheif ends its sentences with a line of their own.
    return BadImageError(f"it is broken: {type(error).__name__}: {said}", status)


def _unidentified(encoded: bytes | Path) -> BadImageError:
    try:
        size, head = _size_and_head(encoded)
    except OSError as error:
        return BadImageError(f"it cannot be opened: {error.strerror or error}.", "unreadable")
    known = f"its {size} bytes are no image of a known format"
    if size == 0:
        return BadImageError(f"it is empty: {known}.", "empty")
    kind = next((name for magic, name in _BEGINNINGS if head.startswith(magic)), None)
    if b"avif" in _brands(head):
        kind = "AVIF"
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
    brands = _brands(head)
    return any(brands.startswith(brand) for brand in _HEIF_BRANDS) and b"avif" not in brands


def _brands(head: bytes) -> bytes:
    """Those that a file of boxes is made for, the main one first; empty of another file."""
    return head[8 : int.from_bytes(head[:4], "big")] if head[4:8] == b"ftyp" else b""


def _cut_short(encoded: bytes | Path) -> bool:
    """Whether a RIFF file (WebP), or one of boxes (HEIC, AVIF), is shorter than it says; their
    decoders do not tell."""
    try:
        size, head = _size_and_head(encoded)
    except OSError:
        return False
    if head[4:8] == b"ftyp":
        return _box_beyond(encoded, size)
    return head.startswith(b"RIFF") and size < 8 + int.from_bytes(head[4:8], "little")


def _box_beyond(encoded: bytes | Path, size: int) -> bool:
    """Whether one of the boxes that a file consists of ends after the file."""
    with BytesIO(encoded) if isinstance(encoded, bytes) else encoded.open("rb") as stream:
        place = 0
        while place < size:
            stream.seek(place)
            header = stream.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:], "big")
            if length == 0:  # It reaches to the end of the file, wherever that is.
                return False
            if length < 8 or place + length > size:
                return place + length > size
            place += length
    return False


def _size_and_head(encoded: bytes | Path) -> tuple[int, bytes]:
    if isinstance(encoded, bytes):
        return len(encoded), encoded[:_HEAD]
    with encoded.open("rb") as stream:
        return encoded.stat().st_size, stream.read(_HEAD)
