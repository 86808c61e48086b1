"""Rows decoded for scoring: an image, or the reason why there is none; never an error."""

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from gradood._io.warning_filters import ignored
from gradood.data._decode import REMARKS, examine
from gradood.data._extras import pillow
from gradood.data._worker_pool import run_chunks
from gradood.data._workers import RowTask, in_worker
from gradood.data.image_source import ImageSource
from gradood.errors import BadImageError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Chunk", "Decoded", "ImageDecoder", "decoded"]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One row.

    Attributes:
        row: its number.
        x: (channels, height, width), or None if it cannot be scored.
        status: ``"ok"``, a key of `gradood.data._decode.REMARKS`, or a fault.
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
    notes: tuple[Decoded, ...]
    groups: tuple[tuple[tuple[int, ...], Tensor], ...]


def decoded(
    decoder: "ImageDecoder", rows: Sequence[range], *, workers: int, timeout: float | None
) -> Generator[Chunk]:
    """One chunk for each range of rows.

    A row that ends its process even when it is tried again gets the status ``decoder_crashed``, one
    that takes too long ``timed_out``.

    Args:
        decoder: of the rows.
        rows: which to decode together.
        workers: processes; 0 decodes in this one, without a time limit.
        timeout: seconds that one row may take, or None.

    Raises:
        ChildProcessError: processes end again and again, at no row in particular.
    """
    return run_chunks(decoder, rows, workers=workers, timeout=timeout)


@final
class ImageDecoder(RowTask[Decoded, Chunk]):
    """The rows of a source, decoded when asked for.

    Args:
        source: the rows.
        preprocess: from a Pillow image to a tensor.
        max_pixels: larger images are not decoded.

    Raises:
        ImportError: Pillow is not installed.
    """

    def __init__(
        self, source: ImageSource, preprocess: Callable[["Image"], Tensor], *, max_pixels: int
    ) -> None:
        # Before processes are forked, so that they need not load it each.
        pillow().init()
        pillow("ImageOps")
        self.source = source
        self.preprocess = preprocess
        self.max_pixels = max_pixels

    def start(self) -> None:
        _ignore_warnings()

    def decode(self, row: int) -> Decoded:
        try:
            if in_worker():  # `start` was called.
                return self._image(row)
            with ignored(Warning, module=r"PIL\."):
                return self._image(row)
        except BadImageError as error:
            return Decoded(row, None, error.status, _line(f"{error}{self.source.hint(row)}"))
        except MemoryError as error:
            reason = f"there was not enough memory to decode it. {error}"
            return Decoded(row, None, "out_of_memory", _line(reason))
        except Exception as error:
            reason = f"it cannot be preprocessed: {type(error).__name__}: {error}"
            return Decoded(row, None, "not_preprocessed", _line(reason))

    def stand_in(self, row: int, status: str, reason: str) -> Decoded:
        return Decoded(row, None, status, reason)

    def collate(self, items: list[Decoded]) -> Chunk:
        groups: dict[tuple[Any, ...], list[tuple[int, Tensor]]] = {}
        for item in items:
            if item.x is not None:
                group = groups.setdefault((*item.x.shape, item.x.dtype), [])
                group.append((item.row, item.x))
        return Chunk(
            rows=len(items),
            notes=tuple(
                Decoded(item.row, None, item.status, item.reason)
                for item in items
                if item.status != "ok"
            ),
            groups=tuple(
                (tuple(row for row, _ in group), _stacked([x for _, x in group]))
                for group in groups.values()
            ),
        )

    def _image(self, row: int) -> Decoded:
        image, noted = examine(self.source.encoded(row), max_pixels=self.max_pixels)
        x = self.preprocess(image)
        if not isinstance(x, Tensor) or x.ndim != 3:
            raise TypeError("it gave no tensor (channels, height, width)")
        remarks = [(status, REMARKS[status]) for status in noted]
        own = self.source.remark(row)
        remarks += [] if own is None else [own]
        if not remarks:
            return Decoded(row, x)
        return Decoded(row, x, remarks[0][0], "; ".join(reason for _, reason in remarks))


def _stacked(images: list[Tensor]) -> Tensor:
    """Images (…) as (images, …), in memory that other processes share where this is one."""
    if not in_worker():
        return torch.stack(images)
    shared = images[0].new_empty((len(images), *images[0].shape)).share_memory_()
    return torch.stack(images, out=shared)


def _ignore_warnings() -> None:
    """Pillow's warnings: a broken EXIF block is no news, and what costs pixels is an error."""
    warnings.simplefilter("ignore")


def _line(text: str) -> str:
    return " ".join(text.split())[:500]
