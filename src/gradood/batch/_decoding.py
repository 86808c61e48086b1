"""Rows decoded for scoring: an input, or the reason why there is none; never an error."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from gradood._io.warning_filters import ignored
from gradood.data._column_source import ColumnRows
from gradood.data._decode import REMARKS, examine
from gradood.data._extras import pillow
from gradood.data._worker_pool import run_chunks
from gradood.data._workers import RowTask, in_worker
from gradood.data.column_input import ColumnInput, Row
from gradood.data.image_source import ImageSource
from gradood.data.row_source import RowSource
from gradood.errors import BadRowError, ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Chunk",
    "ColumnDecoder",
    "Decoded",
    "ImageDecoder",
    "RowDecoder",
    "decoded",
    "decoder_of",
]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One row.

    Attributes:
        row: its number.
        x: the input without a batch dimension, as (channels, height, width) of an image; or None
            if it cannot be scored.
        status: ``"ok"``, a key of `gradood.data._decode.REMARKS`, or a fault.
        reason: of a status other than ok.
    """

    row: int
    x: Row | None
    status: str = "ok"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows that are scored together.

    Attributes:
        rows: their number.
        notes: those whose status is not ok, without their inputs. To send all of them from one
            process to another would cost as much as decoding a small image.
        groups: row numbers, and their inputs (rows, …); those of one size are together.
    """

    rows: int
    notes: tuple[Decoded, ...]
    groups: tuple[tuple[tuple[int, ...], Row], ...]


def decoded(
    decoder: "RowDecoder", rows: Sequence[range], *, workers: int, timeout: float | None
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


class RowDecoder(RowTask[Decoded, Chunk]):
    """The rows of a source, decoded when asked for.

    Args:
        source: the rows.
    """

    def __init__(self, source: RowSource) -> None:
        self.source = source

    @abstractmethod
    def _decoded(self, row: int) -> tuple[Row, Sequence[tuple[str, str]]]:
        """The input of a row, and the statuses and reasons of what is odd about it.

        Raises:
            BadRowError: it cannot be used.
        """

    @abstractmethod
    def _form(self, x: Row) -> Hashable:
        """What inputs have in common that one batch can hold."""

    @abstractmethod
    def _joined(self, rows: list[Row]) -> Row:
        """Inputs of one form as a batch."""

    @final
    def start(self) -> None:
        _ignore_warnings()

    @final
    def decode(self, row: int) -> Decoded:
        try:
            if in_worker():  # `start` was called.
                return self._noted(row)
            with ignored(Warning, module=r"PIL\."):
                return self._noted(row)
        except BadRowError as error:
            return Decoded(row, None, error.status, _line(f"{error}{self.source.hint(row)}"))
        except MemoryError as error:
            reason = f"there was not enough memory to decode it. {error}"
            return Decoded(row, None, "out_of_memory", _line(reason))
        except Exception as error:
            reason = f"it cannot be preprocessed: {type(error).__name__}: {error}"
            return Decoded(row, None, "not_preprocessed", _line(reason))

    @final
    def stand_in(self, row: int, status: str, reason: str) -> Decoded:
        return Decoded(row, None, status, reason)

    @final
    def collate(self, items: list[Decoded]) -> Chunk:
        groups: dict[Hashable, list[tuple[int, Row]]] = {}
        for item in items:
            if item.x is not None:
                groups.setdefault(self._form(item.x), []).append((item.row, item.x))
        return Chunk(
            rows=len(items),
            notes=tuple(
                Decoded(item.row, None, item.status, item.reason)
                for item in items
                if item.status != "ok"
            ),
            groups=tuple(
                (tuple(row for row, _ in group), self._joined([x for _, x in group]))
                for group in groups.values()
            ),
        )

    def _noted(self, row: int) -> Decoded:
        x, remarks = self._decoded(row)
        own = self.source.remark(row)
        remarks = [*remarks, *([] if own is None else [own])]
        if not remarks:
            return Decoded(row, x)
        return Decoded(row, x, remarks[0][0], "; ".join(reason for _, reason in remarks))


@final
class ImageDecoder(RowDecoder):
    """The images of a source.

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
        super().__init__(source)
        self._images = source
        self.preprocess = preprocess
        self.max_pixels = max_pixels

    def _decoded(self, row: int) -> tuple[Tensor, Sequence[tuple[str, str]]]:
        image, noted = examine(self._images.encoded(row), max_pixels=self.max_pixels)
        x = self.preprocess(image)
        if not isinstance(x, Tensor) or x.ndim != 3:
            raise TypeError("it gave no tensor (channels, height, width)")
        return x, [(status, REMARKS[status]) for status in noted]

    def _form(self, x: Row) -> Hashable:
        assert isinstance(x, Tensor)
        return (*x.shape, x.dtype)

    def _joined(self, rows: list[Row]) -> Row:
        return _stacked([row for row in rows if isinstance(row, Tensor)])


@final
class ColumnDecoder(RowDecoder):
    """The rows of a table.

    Args:
        source: the rows.
        inputs: from the values of a row to the model's input.
    """

    def __init__(self, source: ColumnRows, inputs: ColumnInput) -> None:
        super().__init__(source)
        self._values = source
        self.inputs = inputs

    def _decoded(self, row: int) -> tuple[Row, Sequence[tuple[str, str]]]:
        return self.inputs(self._values.values(row)), []

    def _form(self, x: Row) -> Hashable:
        return self.inputs.form(x)

    def _joined(self, rows: list[Row]) -> Row:
        return self.inputs.collate(rows)


def decoder_of(source: RowSource, preprocess: Callable[[Any], Any], max_pixels: int) -> RowDecoder:
    """The decoder of a source.

    Args:
        source: images, or rows of a table.
        preprocess: of images a callable; of rows a `gradood.data.ColumnInput`.
        max_pixels: larger images are not decoded.

    Raises:
        ConfigError: the one is of images, the other of columns.
    """
    if isinstance(source, ColumnRows) and isinstance(preprocess, ColumnInput):
        return ColumnDecoder(source, preprocess)
    if isinstance(source, ImageSource) and not isinstance(preprocess, ColumnInput):
        return ImageDecoder(source, preprocess, max_pixels=max_pixels)
    raise ConfigError(
        f"the input is a {type(source).__name__} and its preprocessing a "
        f"{type(preprocess).__name__}; expected images and a Preprocess, or rows of a table and a "
        "ColumnInput."
    )


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
