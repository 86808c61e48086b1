"""Pillow, PyArrow and fsspec, imported when first used; `gradood.data` loads without them."""

import importlib
from typing import Any

__all__ = ["arrow", "filesystems", "parquet", "pillow"]


def pillow(module: str = "Image") -> Any:
    """A module of Pillow, such as ``PIL.Image``.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    return _load(f"PIL.{module}", "pillow", "decodes images")


def arrow() -> Any:
    """``pyarrow``.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    return _load("pyarrow", "pyarrow", "reads Parquet")


def parquet() -> Any:
    """``pyarrow.parquet``.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    return _load("pyarrow.parquet", "pyarrow", "reads Parquet")


def filesystems(module: str = "fsspec") -> Any:
    """A module of fsspec.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    return _load(module, "fsspec", "reads from URLs")


def _load(module: str, package: str, does: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{package}, which {does}, is not installed: pip install 'gradood[data]'.",
            name=error.name,
        ) from error
