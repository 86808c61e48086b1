"""Images in Parquet files, in the Hugging Face convention or as a plain column of bytes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from gradood.data.columns import Columns, class_names
from gradood.data.content import file_digest
from gradood.data.dataset import ImageDataset
from gradood.data.shards import find_shards
from gradood.data.tables import Tables
from gradood.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ParquetImages"]


@final
class ParquetImages(ImageDataset):
    """Rows of a Parquet file, or of all the files of a folder in the order of their names.

    The image column is a struct of ``bytes`` and ``path`` (Hugging Face), or binary. The label
    column holds integers. The name column, if there is one, gives what `name` says; else the
    ``path`` does, else file and row.

    Args:
        source: a Parquet file, or a folder of them (its own subfolders are not searched).
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.
        image_column: where the images are.
        label_column: where the labels are; a name other than the default must exist.
        name_column: where the names are; a name other than the default must exist.
        cache_bytes: row groups kept in memory, per process; at least one is.

    Raises:
        DataError: a file is absent or damaged, or a column is not of the expected type.
        ConfigError: a column named is not in the file.

    Cost: opening reads the footers. An image costs the read of its row group, unless that is
    cached: in order, each is read once; in random order, mind `cache_bytes`.
    """

    def __init__(
        self,
        source: str | Path,
        preprocess: Callable[["Image"], Tensor] | None = None,
        *,
        labeled: bool | None = None,
        image_column: str = "image",
        label_column: str = "label",
        name_column: str = "name",
        cache_bytes: int = 64 * 2**20,
    ) -> None:
        if cache_bytes < 0:
            raise ConfigError(f"cache_bytes is {cache_bytes}; expected a size in bytes, 0 or more.")
        self._tables = Tables(find_shards(Path(source)), cache_bytes=cache_bytes)
        self._columns = Columns.of(
            self._tables,
            image=image_column,
            label=label_column,
            name=name_column,
            labeled=labeled,
        )
        self._every_label: Tensor | None = None
        self._digests: dict[PurePath, str] = {}
        label = self._columns.label
        super().__init__(
            self._tables.rows,
            preprocess=preprocess,
            classes=None if label is None else class_names(self._tables.schemas[0], label),
            labeled=label is not None,
        )

    def _encoded(self, row: int) -> bytes:
        value = self._tables.value(row, self._columns.pixels, self._columns.item)
        if value is None:
            raise DataError(
                "the row holds no bytes; expected an encoded image. Embed what it only points to."
            )
        return value

    def _label(self, row: int) -> int:
        label = self._columns.label
        assert label is not None
        value = self._tables.value(row, label, self._columns.item)
        if value is None:
            raise DataError(
                f"{self._where(row)} has no label in {label!r}; expected an integer. "
                "Leave that row out, or pass labeled=False."
            )
        return int(value)

    def _all_labels(self) -> Tensor:
        if self._every_label is None:
            label = self._columns.label
            assert label is not None
            column = self._tables.column(label)
            if column.null_count:
                raise DataError(
                    f"{column.null_count} of {len(column)} rows have no label in {label!r}; "
                    "expected integers. Leave those rows out, or pass labeled=False."
                )
            self._every_label = torch.tensor(column.to_numpy(), dtype=torch.int64)
        return self._every_label

    def _name(self, row: int) -> str:
        column = self._columns.name
        value = None if column is None else self._tables.value(row, column, (column,))
        if value is None:
            path, inside = self._tables.place(row)
            return f"{path.name}:{inside}"
        return str(value)

    def _where(self, row: int) -> str:
        path, inside = self._tables.place(row)
        return f"the image in row {inside} of {str(path)!r}"

    def _content(self, rows: Sequence[int]) -> str:
        total = hashlib.sha256(self._columns.pixels.encode())
        for origin in self._origins(rows):
            total.update(f"{origin}\n".encode("ascii"))
        return total.hexdigest()

    def _origins(self, rows: Sequence[int]) -> Iterator[str]:
        for row in rows:
            path, inside = self._tables.place(row)
            if path not in self._digests:
                self._digests[path] = file_digest(Path(path))
            yield f"{self._digests[path]} {inside}"
