"""Which columns of a Parquet data set hold images, labels and names."""

import json
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from gradood.data.extras import arrow
from gradood.data.tables import Tables
from gradood.errors import ConfigError, DataError, suggest

__all__ = ["Columns", "class_names"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns, a field of a struct as ``struct.field``.

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
    def of(tables: Tables, *, image: str, label: str, name: str, labeled: bool | None) -> "Columns":
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
        found: list[Columns] = []
        for path, schema in zip(tables.paths, tables.schemas, strict=True):
            names = schema.names
            need_label = bool(labeled) or (label != "label" and labeled is None)
            found.append(
                Columns(
                    pixels=_pixels(path, schema, image),
                    label=None if labeled is False else _label(path, schema, label, need_label),
                    name=_present(path, names, name, name != "name") or _path(schema, image),
                )
            )
            if found[-1] != found[0]:
                raise DataError(
                    f"{str(path)!r} has the columns {found[-1]}, but {str(tables.paths[0])!r} has "
                    f"{found[0]}; expected the same in all files. Read them one by one."
                )
        return found[0]


def class_names(schema: Any, label: str) -> tuple[str, ...] | None:
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
