"""Pillow and PyArrow, imported when first used: `import gradood.data` works without them."""

import importlib
from typing import Any

__all__ = ["arrow", "parquet", "pillow"]


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


def _load(module: str, package: str, does: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{package}, which {does}, is not installed: pip install 'gradood[data]'.",
            name=error.name,
        ) from error
