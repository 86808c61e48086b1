"""Images in Parquet files, in the Hugging Face convention or as a plain column of bytes."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, final

import torch
from torch import Tensor

from gradood.data._extras import arrow
from gradood.data._storage import file_digest
from gradood.data._tables import Tables, open_tables
from gradood.data.image_source import ImageSource, printable
from gradood.errors import BadImageError, ConfigError, DataError, suggest

__all__ = ["CACHE_BYTES", "ParquetSource"]

CACHE_BYTES = 64 * 2**20
"""Row groups kept in memory, per process, unless another size is asked for."""


@final
class ParquetSource(ImageSource):
    """Rows of Parquet files, one after another.

    An id is the file's name, the row's number in it, and the row's own name if it has one, such as
    ``test-00000-of-00002.parquet:17:cat.png``.

    Args:
        source: path or URL of a file, or of a folder of them.
        image: column of images.
        label: column of labels; unless it is the default, it must exist.
        name: column of names; unless it is the default, it must exist.
        labeled: True to insist on labels, False to leave them, None to use them if there are any.
        cache_bytes: row groups kept in memory, per process; at least one is.

    Raises:
        DataError: a file is absent or damaged, or a column is not of the expected type.
        ConfigError: a column named is not in the file, or the size is negative.
    """

    def __init__(
        self,
        source: str,
        *,
        image: str = "image",
        label: str = "label",
        name: str = "name",
        labeled: bool | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if cache_bytes < 0:
            raise ConfigError(f"cache_bytes is {cache_bytes}; expected a size in bytes, 0 or more.")
        self.source = source
        self._tables = open_tables(source, cache_bytes=cache_bytes)
        self._columns = _Columns.of(
            self._tables, image=image, label=label, name=name, labeled=labeled
        )
        self.labeled = self._columns.label is not None
        if self._columns.label is not None:
            self.classes = _class_names(self._tables.schemas[0], self._columns.label)
        self._names: Any = None
        self._every_label: Tensor | None = None
        self._digests: dict[PurePath, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_names": None}

    def __len__(self) -> int:
        return self._tables.rows

    def id(self, row: int) -> str:
        path, inside = self._tables.place(row)
        column = self._columns.name
        if column is not None and self._names is None:
            self._names = self._tables.column(column).combine_chunks()
        name = None if column is None else self._names[row].as_py()
        return printable(f"{path.name}:{inside}" + ("" if name is None else f":{name}"))

    def uri(self, row: int) -> str:
        path, inside = self._tables.place(row)
        return printable(f"{self._tables.uri(path)}#{inside}")

    def name(self, row: int) -> str:
        column = self._columns.name
        value = None if column is None else self._tables.value(row, column, (column,))
        if value is None:
            path, inside = self._tables.place(row)
            return f"{path.name}:{inside}"
        return str(value)

    def where(self, row: int) -> str:
        path, inside = self._tables.place(row)
        return f"the image in row {inside} of {str(path)!r}"

    def encoded(self, row: int) -> bytes:
        try:
            value = self._tables.value(row, self._columns.pixels, self._columns.item)
        except (MemoryError, ImportError):
            raise
        except Exception as error:
            raise BadImageError(f"it cannot be read: {error}", "unreadable") from error
        if value is None:
            raise BadImageError(
                "its row holds no bytes of an image; expected an encoded image. Embed what it only "
                "points to.",
                "empty",
            )
        return value

    def label(self, row: int) -> int:
        column = self._columns.label
        assert column is not None
        value = self._tables.value(row, column, self._columns.item)
        if value is None:
            raise DataError(
                f"{self.where(row)} has no label in {column!r}; expected an integer. "
                "Leave that row out, or pass labeled=False."
            )
        return int(value)

    def labels(self) -> Tensor:
        if self._every_label is None:
            name = self._columns.label
            assert name is not None
            column = self._tables.column(name)
            if column.null_count:
                raise DataError(
                    f"{column.null_count} of {len(column)} rows have no label in {name!r}; "
                    "expected integers. Leave those rows out, or pass labeled=False."
                )
            self._every_label = torch.tensor(column.to_numpy(), dtype=torch.int64)
        return self._every_label

    def content(self, rows: Sequence[int]) -> str:
        total = hashlib.sha256(self._columns.pixels.encode())
        for origin in self.origins(rows):
            total.update(f"{origin}\n".encode("ascii"))
        return total.hexdigest()

    def origins(self, rows: Sequence[int]) -> Iterator[str]:
        for row in rows:
            path, inside = self._tables.place(row)
            if path not in self._digests:
                self._digests[path] = file_digest(self._tables.uri(path))
            yield f"{self._digests[path]} {inside}"


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns hold images, labels and names; a field of a struct is ``struct.field``.

    Attributes:
        pixels: bytes of encoded images.
        label: integers, or None.
        name: what to call an image, or None.
    """

    pixels: str
    label: str | None
    name: str | None

    @property
    def item(self) -> tuple[str, ...]:
        """What one item of the data set is made of."""
        return (self.pixels,) if self.label is None else (self.pixels, self.label)

    @staticmethod
    def of(
        tables: Tables, *, image: str, label: str, name: str, labeled: bool | None
    ) -> "_Columns":
        """The columns of all files, which must agree.

        Args:
            tables: the files.
            image: column of images.
            label: column of labels; unless it is the default, it must exist.
            name: column of names; unless it is the default, it must exist.
            labeled: whether there must be labels, or must not; None if either will do.

        Raises:
            ConfigError: a column is not there.
            DataError: a column is of the wrong type, or the files differ.
        """
        columns: list[_Columns] = []
        for path, schema in zip(tables.paths, tables.schemas, strict=True):
            names = schema.names
            need_label = bool(labeled) or (label != "label" and labeled is None)
            columns.append(
                _Columns(
                    pixels=_pixels(path, schema, image),
                    label=None if labeled is False else _label(path, schema, label, need_label),
                    name=_present(path, names, name, name != "name") or _path(schema, image),
                )
            )
            if columns[-1] != columns[0]:
                raise DataError(
                    f"{str(path)!r} has the columns {columns[-1]}, but {str(tables.paths[0])!r} "
                    f"has {columns[0]}; expected the same in all files. Read them one by one."
                )
        return columns[0]


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Names of the classes, where the Hugging Face metadata of the file tell them.

    Args:
        schema: a `pyarrow.Schema`.
        label: column of labels.
    """
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        names = metadata["info"]["features"][label]["names"]
        return tuple(str(name) for name in names) if isinstance(names, list) else None
    except (KeyError, TypeError, ValueError):  # Absent, or not what they usually are.
        return None


def _present(path: PurePath, names: list[str], wanted: str, needed: bool) -> str | None:
    if wanted in names:
        return wanted
    if needed:
        raise ConfigError(f"no column {wanted!r} in {str(path)!r}: {suggest(wanted, names)}")
    return None


def _pixels(path: PurePath, schema: Any, image: str) -> str:
    _present(path, schema.names, image, needed=True)
    types = arrow().types
    kind = schema.field(image).type
    if types.is_struct(kind):
        fields = [kind.field(i).name for i in range(kind.num_fields)]
        if "bytes" in fields and _is_bytes(kind.field("bytes").type):
            return f"{image}.bytes"
    elif _is_bytes(kind):
        return image
    raise DataError(
        f"the column {image!r} of {str(path)!r} is {kind}; expected binary, or a struct with "
        "binary 'bytes': encoded images such as PNG. Name another with image_column."
    )


def _path(schema: Any, image: str) -> str | None:
    kind = schema.field(image).type
    if not arrow().types.is_struct(kind) or kind.get_field_index("path") < 0:
        return None
    return f"{image}.path"


def _label(path: PurePath, schema: Any, label: str, needed: bool) -> str | None:
    found = _present(path, schema.names, label, needed)
    types = arrow().types
    if found is None or types.is_integer(schema.field(label).type):
        return found
    raise DataError(
        f"the column {label!r} of {str(path)!r} is {schema.field(label).type}; expected integers. "
        "Number the classes, name another with label_column, or pass labeled=False."
    )


def _is_bytes(kind: Any) -> bool:
    types = arrow().types
    return types.is_binary(kind) or types.is_large_binary(kind)
