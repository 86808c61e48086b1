"""Optional packages, imported when first used."""

import importlib
from typing import Any

__all__ = ["optional_module"]


def optional_module(module: str, package: str, purpose: str, install: str) -> Any:
    """A module of a package that need not be installed.

    Args:
        module: dotted name, such as ``PIL.Image``.
        package: its name for the user, such as ``pillow``.
        purpose: what it does, as in ``decodes images``.
        install: what to do where it is missing.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{package}, which {purpose}, is not installed: {install}.", name=error.name
        ) from error
