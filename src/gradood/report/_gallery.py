"""The images that a method is surest of, either way; and their thumbnails, as one sheet a set."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradood.data._extras import pillow
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EXTREMES", "Images", "Sheets", "extremes", "fitting", "wanted"]

Images = Callable[[str, list[int]], "Sequence[Image]"]
"""From a set (``id`` for the in-distribution one) and ascending positions to images, or none."""

EXTREMES = 8
"""Images at either end that are named."""

# What is tried, best first: images at either end, and pixels of a side; multiples of 16, so that
# no block of the JPEG lies across two images.
_PLANS = ((8, 64), (8, 48), (6, 48), (8, 32), (6, 32), (4, 32), (3, 32), (2, 32))
_LARGEST, _SMALLEST = _PLANS[0][1], _PLANS[-1][1]
_QUALITY = 72


@dataclass(frozen=True, slots=True)
class Sheets:
    """Thumbnails.

    Attributes:
        shown: images at either end of each list.
        side: of a thumbnail in pixels.
        sheets: per set the positions in the order of the thumbnails, row by row, the thumbnails of
            a row, and the sheet as a ``data:`` address.
    """

    shown: int
    side: int
    sheets: Mapping[str, Mapping[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the page."""
        return {"shown": self.shown, "side": self.side, "sheets": dict(self.sheets)}


def extremes(scores: np.ndarray, count: int = EXTREMES) -> dict[str, list[list[Any]]]:
    """Positions and scores of the most and the least OOD-looking samples, the extreme one first.

    Among equal scores the earlier position comes first. An infinite score is spelled as text.

    Args:
        scores: (n,) of one set.
        count: at most so many at either end.
    """
    count = min(count, scores.size)
    ends = {"most": -scores, "least": scores}
    return {
        end: [[int(i), _told(float(scores[i]))] for i in _smallest(keys, count)]
        for end, keys in ends.items()
    }


def _smallest(keys: np.ndarray, count: int) -> np.ndarray:
    """Positions of the smallest, in order; without sorting the others."""
    last = np.partition(keys, count - 1)[count - 1]
    below = np.flatnonzero(keys < last)
    chosen = np.concatenate([below, np.flatnonzero(keys == last)[: count - below.size]])
    return chosen[np.lexsort((chosen, keys[chosen]))]


def _told(score: float) -> float | str:
    return float(f"{score:.4g}") if np.isfinite(score) else str(float(score))


def wanted(galleries: Iterable[Mapping[str, Any]], count: int) -> dict[str, list[int]]:
    """Positions that are shown, ascending, by set.

    Args:
        galleries: per run, by set and method, what `extremes` gave.
        count: of each end.
    """
    found: dict[str, set[int]] = {}
    for gallery in galleries:
        for name, methods in gallery.items():
            for ends in methods.values():
                for end in ends.values():
                    found.setdefault(name, set()).update(index for index, _ in end[:count])
    return {name: sorted(indices) for name, indices in found.items()}


def fitting(galleries: Sequence[Mapping[str, Any]], images: Images, room: int) -> Sheets | None:
    """As many thumbnails, as large as there is room for; None if there is room for none.

    Args:
        galleries: per run, by set and method, what `extremes` gave.
        images: where they come from.
        room: in bytes of the page.

    Raises:
        DataError: `images` gave another number of images than it was asked for.
    """
    if room <= 0:
        return None
    small: dict[str, dict[int, Image]] = {}
    for name, indices in wanted(galleries, EXTREMES).items():
        given = images(name, indices)
        if not given:
            continue
        if len(given) != len(indices):
            raise DataError(
                f"{len(indices)} images of set {name!r} were asked for and {len(given)} came; "
                "expected one per position, or none at all. Give a function that returns as many."
            )
        small[name] = {i: _square(image) for i, image in zip(indices, given, strict=True)}
    if not small:
        return None
    native = max(image.width for part in small.values() for image in part.values())
    for shown, side in _PLANS:
        if side > _SMALLEST and side - 16 >= native:
            continue  # Larger than the images are.
        chosen = wanted(galleries, shown)
        sheets = {
            name: _sheet([small[name][i] for i in indices], indices, side)
            for name, indices in chosen.items()
            if name in small
        }
        # The positions are written beside each sheet: seven characters each.
        if sum(len(s["source"]) + 7 * len(s["at"]) + 200 for s in sheets.values()) <= room:
            return Sheets(shown, side, sheets)
    return None


def _square(image: "Image") -> "Image":
    """The middle, no larger than any plan needs."""
    side = min(_LARGEST, *image.size)
    return pillow("ImageOps").fit(image.convert("RGB"), (side, side))


def _sheet(images: Sequence["Image"], indices: list[int], side: int) -> dict[str, Any]:
    pil = pillow()
    columns = max(1, int(np.ceil(np.sqrt(len(images)))))
    rows = -(-len(images) // columns)
    sheet = pil.new("RGB", (columns * side, rows * side))
    for position, image in enumerate(images):
        row, column = divmod(position, columns)
        # Few pixels are shown as they are rather than blurred.
        how = pil.Resampling.NEAREST if image.width < side else pil.Resampling.BICUBIC
        fitted = image if image.width == side else image.resize((side, side), how)
        sheet.paste(fitted, (column * side, row * side))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=_QUALITY, optimize=True)
    text = base64.b64encode(out.getvalue()).decode("ascii")
    return {
        "at": indices,
        "columns": columns,
        "rows": rows,
        "source": f"data:image/jpeg;base64,{text}",
    }
