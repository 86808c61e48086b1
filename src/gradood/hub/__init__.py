"""Packages of a detector and its model: folders for Hugging Face Hub and MLflow, without pickle.

What is imported here needs neither of the two; they are imported when first used.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from gradood.hub._package import Package, load, open_package, package_of
from gradood.hub._packing import Details, pack
from gradood.hub._remote import from_hub, push_to_hub
from gradood.hub._spec import FileRecord, PackageSpec

if TYPE_CHECKING:
    from gradood.hub import mlflow

__all__ = [
    "Details",
    "FileRecord",
    "Package",
    "PackageSpec",
    "from_hub",
    "load",
    "mlflow",
    "open_package",
    "pack",
    "package_of",
    "push_to_hub",
]


def __getattr__(name: str) -> ModuleType:
    if name != "mlflow":
        raise AttributeError(f"module 'gradood.hub' has no attribute {name!r}")
    return importlib.import_module(f"gradood.hub.{name}")
