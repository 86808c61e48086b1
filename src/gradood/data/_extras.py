"""Optional packages, imported when first used; `gradood.data` loads without them."""

import importlib
from functools import cache
from typing import Any

from gradood._io.optional import optional_module

__all__ = ["arrow", "filesystems", "heif", "parquet", "pillow", "resampling", "soundfile"]


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


def filesystems(module: str = "fsspec") -> Any:
    """A module of fsspec.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    return _load(module, "fsspec", "reads from URLs")


def _load(module: str, package: str, purpose: str) -> Any:
    return optional_module(module, package, purpose, "pip install 'gradood[data]'")
