"""Optional packages, imported when first used; `gradood.data` loads without them."""

import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from gradood._io.optional import optional_module

__all__ = [
    "arrow",
    "filesystems",
    "heif",
    "parquet",
    "pillow",
    "resampling",
    "soundfile",
    "table_of",
]


def pillow(module: str = "Image") -> Any:
    """A module of Pillow, such as ``PIL.Image``.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    return _load(f"PIL.{module}", "pillow", "decodes images")


@cache
def heif() -> Any:
    """``pillow_heif``, which decodes HEIC; None where it is not installed."""
    try:
        return importlib.import_module("pillow_heif")
    except ImportError:
        return None


@cache
def soundfile() -> Any:
    """``soundfile``, which decodes sound; None where it is not installed."""
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError):  # Its library is not there.
        return None


@cache
def resampling() -> Any:
    """``scipy.signal.resample_poly``; None where SciPy is not installed."""
    try:
        return importlib.import_module("scipy.signal").resample_poly
    except ImportError:
        return None


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


def table_of(source: Any, columns: Sequence[str] | None = None) -> Any:
    """The ``pyarrow.Table`` of a Parquet file, read by this thread alone.

    A thread of Arrow may hold a Python file for a moment after its table is there. Where the
    interpreter ends in that moment, the process aborts (exit code 134; apache/arrow issues 33975
    and 34314).

    Args:
        source: path, or a file object that is open.
        columns: of these; None for all.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    with parquet().ParquetFile(source, pre_buffer=False) as file:
        return file.read(columns=columns, use_threads=False)


def filesystems(module: str = "fsspec") -> Any:
    """A module of fsspec.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    return _load(module, "fsspec", "reads from URLs")


def _load(module: str, package: str, purpose: str) -> Any:
    return optional_module(module, package, purpose, "pip install 'gradood[data]'")
