"""Columns of Parquet files: which hold images, labels and names, and of what types they are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from gradood._engine.batches import INPUT_KEYS, LABEL_KEYS
from gradood.data._extras import arrow
from gradood.data._tables import Tables
from gradood.errors import BadImageError, ConfigError, DataError, suggest

__all__ = ["IMAGE", "LABEL", "ParquetColumns", "encoded_value", "label_columns"]

IMAGE, LABEL = "image", "label"
"""Default names. Where a file has no such column, the first of `INPUT_KEYS` or `LABEL_KEYS` that
it has is meant."""

_BYTES = ("binary", "large_binary", "binary_view", "fixed_size_binary")
_TEXTS = ("string", "large_string", "string_view")
_OTHERS = " Rows of other inputs are read with preprocess=, such as gradood.data.TokenInput."
_LISTS = ("list", "large_list", "fixed_size_list", "list_view", "large_list_view")


@dataclass(frozen=True, slots=True)
class ParquetColumns:
    """Which columns hold images, labels and names; a field of a struct is ``struct.field``.

    Attributes:
        pixels: encoded images, or paths of such.
        label: classes, or None.
        name: what to call an image, or None.
        points: whether `pixels` holds paths, relative to the file's folder, or URLs.
        plain: whether labels are whole numbers in a column; else all are looked at.
        partition: whether labels are in the names of folders, as ``label=cat``.
        classes: their names, where the Hugging Face metadata tell them.
        used: whether rows have labels for the user.
    """

    pixels: str
    label: str | None
    name: str | None
    points: bool = False
    plain: bool = True
    partition: bool = False
    classes: tuple[str, ...] | None = None
    used: bool = True

    @property
    def named(self) -> bool:
        """Whether the names of the classes are in the rows."""
        return self.label is not None and not self.plain

    @property
    def item(self) -> tuple[str, ...]:
        """What one item of the data set is made of."""
        label = self.label if self.used and self.plain else None
        return (self.pixels,) if label is None else (self.pixels, label)

    @staticmethod
    def of(
        tables: Tables, *, image: str, label: str, name: str, labeled: bool | None
    ) -> "ParquetColumns":
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
        columns: list[ParquetColumns] = []
        for path, schema in zip(tables.paths, tables.schemas, strict=True):
            names = schema.names
            pixels, points = _pixels(path, schema, _meant(image, IMAGE, INPUT_KEYS, names))
            found, plain, partition = _label(tables, path, schema, label, labeled)
            columns.append(
                ParquetColumns(
                    pixels=pixels,
                    label=found,
                    name=_present(path, names, name, name != "name") or _path(schema, pixels),
                    points=points,
                    plain=plain,
                    partition=partition,
                    classes=None if found is None else _class_names(schema, found),
                    used=labeled is not False,
                )
            )
            if columns[-1] != columns[0]:
                raise DataError(
                    f"{str(path)!r} has the columns {columns[-1]}, but {str(tables.paths[0])!r} "
                    f"has {columns[0]}; expected the same in all files. Read them one by one."
                )
        return columns[0]


def encoded_value(value: Any) -> bytes:
    """The encoded image in a value of the column of images.

    Args:
        value: bytes, or a list of them as numbers; or a list of one image; None for none.

    Raises:
        BadImageError: there is none, or there are several.
    """
    if isinstance(value, list) and (not value or not isinstance(value[0], int)):
        if len(value) > 1:
            raise BadImageError(
                f"its row holds {len(value)} images; expected one. Put each in a row of its own.",
                "not_an_image",
            )
        value = value[0] if value else None
    if isinstance(value, dict):
        value = value.get("bytes")
    if value is None:
        raise BadImageError(
            "its row holds no bytes of an image; expected an encoded image. Embed what it only "
            "points to.",
            "empty",
        )
    if isinstance(value, list):
        return bytes(number % 256 for number in value)
    return value


def label_columns(
    tables: Tables, label: str, labeled: bool | None
) -> tuple[str | None, bool, bool, tuple[str, ...] | None]:
    """The column of labels, whether it holds whole numbers, whether it is of folders, and classes.

    A column of lists, such as the classes of the tokens of a text, is none unless it is named.

    Args:
        tables: the files, which must agree.
        label: column of labels; unless it is the default, it must exist.
        labeled: whether there must be labels, or must not; None if either will do.

    Raises:
        ConfigError: a column is not there.
        DataError: a column is of the wrong type, or the files differ.
    """
    found: list[tuple[str | None, bool, bool, tuple[str, ...] | None]] = []
    for path, schema in zip(tables.paths, tables.schemas, strict=True):
        wanted = _meant(label, LABEL, LABEL_KEYS, schema.names)
        lists = wanted in schema.names and _base(schema.field(wanted).type) in _LISTS
        if lists and label == LABEL and labeled is None:
            found.append((None, True, False, None))
            continue
        name, plain, partition = _label(tables, path, schema, label, labeled)
        classes = None if name is None else _class_names(schema, name)
        found.append((name, plain, partition, classes))
        if found[-1] != found[0]:
            raise DataError(
                f"{str(path)!r} has other labels than {str(tables.paths[0])!r}: {found[-1]}, "
                f"{found[0]}; expected the same in all files. Read them one by one."
            )
    return found[0]


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


def _meant(wanted: str, default: str, known: Sequence[str], names: Sequence[str]) -> str:
    """The column wanted; for the default the first of the known names where there is none."""
    if wanted != default or wanted in names:
        return wanted
    return next((name for name in known if name in names), wanted)


def _present(
    path: PurePath, names: list[str], wanted: str, needed: bool, hint: str = ""
) -> str | None:
    if wanted in names:
        return wanted
    if needed:
        raise ConfigError(f"no column {wanted!r} in {str(path)!r}: {suggest(wanted, names)}{hint}")
    return None


def _pixels(path: PurePath, schema: Any, image: str) -> tuple[str, bool]:
    """The column of images, or the field of it; and whether it holds paths."""
    _present(path, schema.names, image, needed=True, hint=_OTHERS)
    types = arrow().types
    kind = schema.field(image).type
    if types.is_struct(kind):
        fields = [kind.field(i).name for i in range(kind.num_fields)]
        if "bytes" in fields and _holds_bytes(kind.field("bytes").type):
            return f"{image}.bytes", False
    elif _holds_bytes(kind) or _holds_images(kind):
        return image, False
    elif _base(kind) in _TEXTS:
        return image, True
    raise DataError(
        f"the column {image!r} of {str(path)!r} is {kind}; expected binary, or a struct with "
        "binary 'bytes': encoded images such as PNG; or the paths of such. Name another with "
        "image_column."
    )


def _path(schema: Any, pixels: str) -> str | None:
    image, _, field = pixels.rpartition(".")
    if field != "bytes" or image not in schema.names:
        return None
    return f"{image}.path" if schema.field(image).type.get_field_index("path") >= 0 else None


def _label(
    tables: Tables, path: PurePath, schema: Any, label: str, labeled: bool | None
) -> tuple[str | None, bool, bool]:
    """The column of labels, whether it holds whole numbers, and whether it is of folders."""
    wanted = _meant(label, LABEL, LABEL_KEYS, schema.names)
    if wanted not in schema.names:
        partitions = tables.partitions(path)
        of_folders = _meant(label, LABEL, LABEL_KEYS, list(partitions))
        if of_folders in partitions:
            return of_folders, False, True
    need = bool(labeled) or (label != LABEL and labeled is None)
    found = _present(path, schema.names, wanted, need)
    if found is None:
        return None, True, False
    kind = schema.field(found).type
    if arrow().types.is_integer(kind):
        return found, True, False
    base = _base(kind)
    if base in (*_TEXTS, *_LISTS, "bool") or base.removeprefix("u").startswith("int"):
        return found, False, False
    if labeled is False:
        return None, True, False
    raise DataError(
        f"the column {found!r} of {str(path)!r} is {kind}; expected integers, or names of classes. "
        "Number the classes, name another with label_column, or pass labeled=False."
    )


def _base(kind: Any) -> str:
    """The name of a type; of a dictionary, that of its values."""
    values = kind.value_type if arrow().types.is_dictionary(kind) else kind
    return str(values).partition("[")[0].partition("<")[0]


def _holds_bytes(kind: Any) -> bool:
    """Whether a value is bytes, or a list of them as numbers."""
    base = _base(kind)
    if base in _LISTS:
        return str(kind.value_type) in ("uint8", "int8")
    return base in _BYTES


def _holds_images(kind: Any) -> bool:
    """Whether a value is a list of images."""
    if _base(kind) not in _LISTS:
        return False
    inner = kind.value_type
    if arrow().types.is_struct(inner):
        return inner.get_field_index("bytes") >= 0 and _holds_bytes(inner.field("bytes").type)
    return _base(inner) in _BYTES
