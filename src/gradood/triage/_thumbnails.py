"""Thumbnails of items, as a few sheets of JPEG."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradood.data import ImageSource
from gradood.data._decode import decode
from gradood.data._extras import pillow
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["thumbnail_sheets"]

_SHEET = 400
"""Thumbnails of a sheet."""
_MOST_PIXELS, _QUALITY = 50_000_000, 80


def thumbnail_sheets(
    images: ImageSource | None, ids: Sequence[str], side: int
) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    """Sheets, and the place of each id that has a picture: sheet, column, row.

    Args:
        images: None for none.
        ids: in the order of the sheets; one that is no image, or is gone, has no picture.
        side: of a thumbnail, in pixels.

    Cost:
        One decode of each image; some 2 kB of page for 64 pixels.
    """
    if images is None:
        return [], {}
    rows = {images.id(row): row for row in range(len(images))}
    found: list[tuple[str, Image]] = []
    for one in ids:
        picture = _small(images, rows[one], side) if one in rows else None
        if picture is not None:
            found.append((one, picture))
    sheets: list[dict[str, Any]] = []
    places: dict[str, list[int]] = {}
    for begin in range(0, len(found), _SHEET):
        part = found[begin : begin + _SHEET]
        columns = int(np.ceil(np.sqrt(len(part))))
        for position, (one, _) in enumerate(part):
            places[one] = [len(sheets), position % columns, position // columns]
        sheets.append(_sheet([picture for _, picture in part], columns, side))
    return sheets, places


def _small(images: ImageSource, row: int, side: int) -> "Image | None":
    try:
        image = decode(images.encoded(row), max_pixels=_MOST_PIXELS).convert("RGB")
    except (DataError, OSError):
        return None
    pil = pillow()
    how = pil.Resampling.NEAREST if max(image.size) < side else pil.Resampling.BICUBIC
    return pillow("ImageOps").fit(image, (side, side), how)


def _sheet(pictures: Sequence["Image"], columns: int, side: int) -> dict[str, Any]:
    rows = -(-len(pictures) // columns)
    sheet = pillow().new("RGB", (columns * side, rows * side))
    for position, picture in enumerate(pictures):
        row, column = divmod(position, columns)
        sheet.paste(picture, (column * side, row * side))
    out = io.BytesIO()
    # Not optimize=True: it fails on noise, whose code is larger than Pillow's buffer.
    sheet.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    text = base64.b64encode(out.getvalue()).decode("ascii")
    return {"columns": columns, "rows": rows, "source": f"data:image/jpeg;base64,{text}"}
