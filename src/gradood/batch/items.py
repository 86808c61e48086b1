"""Rows decoded, in whatever process: an image, or what is the matter with it; never an error."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from gradood.batch.listing import Listing
from gradood.data.condition import REMARKS
from gradood.data.decode import examine
from gradood.data.extras import pillow
from gradood.errors import BadImageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Chunk", "Item", "Items", "collate", "quiet"]


@dataclass(frozen=True, slots=True)
class Item:
    """One row.

    Attributes:
        row: its number.
        x: (channels, height, width), or None if it cannot be scored.
        status: ``"ok"``, a key of `gradood.data.condition.REMARKS`, or a fault.
        reason: of a status other than ok.
    """

    row: int
    x: Tensor | None
    status: str = "ok"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are scored together.

    Attributes:
        rows: their number.
        notes: those whose status is not ok, without their images. To send all of them from one
            process to another would cost as much as decoding a small image.
        groups: row numbers, and their images (rows, channels, height, width); images of one size
            are together.
    """

    rows: int
    notes: tuple[Item, ...]
    groups: tuple[tuple[tuple[int, ...], Tensor], ...]


@final
class Items(Dataset[Item]):
    """The rows of a listing, decoded when asked for.

    Args:
        listing: the rows.
        preprocess: from a Pillow image to a tensor.
        max_pixels: larger images are not decoded.

    Raises:
        ImportError: Pillow is not installed.
    """

    def __init__(
        self, listing: Listing, preprocess: Callable[["Image"], Tensor], *, max_pixels: int
    ) -> None:
        # Before processes are forked, so that they need not load it each.
        pillow().init()
        pillow("ImageOps")
        self.listing = listing
        self.preprocess = preprocess
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        return len(self.listing)

    def __getitem__(self, row: int) -> Item:
        try:
            if get_worker_info() is not None:  # `quiet` was called.
                return self._item(row)
            with warnings.catch_warnings():
                quiet()
                return self._item(row)
        except BadImageError as error:
            return Item(row, None, error.status, _line(str(error)))
        except MemoryError as error:
            reason = f"there was not enough memory to decode it. {error}"
            return Item(row, None, "out_of_memory", _line(reason))
        except Exception as error:
            reason = f"it cannot be preprocessed: {type(error).__name__}: {error}"
            return Item(row, None, "not_preprocessed", _line(reason))

    def _item(self, row: int) -> Item:
        image, noted = examine(self.listing.encoded(row), max_pixels=self.max_pixels)
        x = self.preprocess(image)
        if not isinstance(x, Tensor) or x.ndim != 3:
            raise TypeError("it gave no tensor (channels, height, width)")
        found = [(status, REMARKS[status]) for status in noted]
        own = self.listing.remark(row)
        found += [] if own is None else [own]
        if not found:
            return Item(row, x)
        return Item(row, x, found[0][0], "; ".join(reason for _, reason in found))


def quiet() -> None:
    """No warnings of Pillow: a broken EXIF block is no news, and what costs pixels is an error."""
    warnings.simplefilter("ignore")


def collate(items: Sequence[Item]) -> Chunk:
    """Items as a chunk; runs where they were decoded, so that only few large tensors travel."""
    groups: dict[tuple[Any, ...], list[Item]] = {}
    for item in items:
        if item.x is not None:
            groups.setdefault((*item.x.shape, item.x.dtype), []).append(item)
    return Chunk(
        rows=len(items),
        notes=tuple(
            Item(item.row, None, item.status, item.reason) for item in items if item.status != "ok"
        ),
        groups=tuple(
            (tuple(item.row for item in group), _stacked([i.x for i in group if i.x is not None]))
            for group in groups.values()
        ),
    )


def _stacked(images: list[Tensor]) -> Tensor:
    # Writes into shared memory where it runs in a worker; torch.stack would copy once more.
    x = default_collate(images)
    assert isinstance(x, torch.Tensor)
    return x


def _line(text: str) -> str:
    return " ".join(text.split())[:500]
