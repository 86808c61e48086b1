"""What results depend on besides data: the model's content, and the code that reads it."""

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from gradood.artifact.fingerprint import fingerprint
from gradood.data.extras import pillow
from gradood.detectors.base import Detector
from gradood.io.canonical import encode
from gradood.io.hashing import little_endian
from gradood.taps import unwrap

__all__ = ["detector_version", "model_version", "reading_version", "source_version"]

_READING = ("gradood.taps", "gradood.evidence", "gradood.data")
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


@cache
def reading_version() -> dict[str, str]:
    """What readings depend on: the source of what decodes, taps and reduces, and its libraries."""
    files = sorted(
        path
        for package in _READING
        for path in Path(str(importlib.import_module(package).__file__)).parent.rglob("*.py")
    )
    return {
        "sources": _digest_of_files(files),
        "torch": torch.__version__,
        "pillow": str(pillow().__version__),
    }


@cache
def detector_version(kind: type[Detector]) -> dict[str, str]:
    """What a detector's state and scores depend on besides what it reads: its code.

    Its module, and what that imports of the same package, directly or not; so that a new detector
    leaves the states of the others as they are.

    Args:
        kind: its class.
    """
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "sources": _digest_of_files(sorted(_reached(kind.__module__))),
        "numpy": np.__version__,
    }


@cache
def source_version(module: str) -> str:
    """SHA-256 of the source of one module, by its name."""
    file = _source(module)
    return "" if file is None else _digest_of_files([file])


def model_version(model: nn.Module) -> str:
    """SHA-256 of all that decides what a model computes, as far as can be told from it.

    Its fingerprint; the source files of its own classes; and the plain attributes of these, which
    a fingerprint leaves out. Not what hooks do.

    Args:
        model: as it is.
    """
    found = fingerprint(model)
    total = hashlib.sha256(f"{found.digest}\n{encode(dict(found.modules))}\n".encode("ascii"))
    files: set[Path] = set()
    for name, module in unwrap(model).named_modules():
        kind = type(module)
        if isinstance(module, GraphModule):
            total.update(f"{name}:{module.code}\n".encode())
        if kind.__module__.startswith("torch."):
            continue
        for base in kind.__mro__:  # Of which one may hold the forward.
            file = getattr(sys.modules.get(base.__module__), "__file__", None)
            if file is not None and not base.__module__.startswith("torch."):
                files.add(Path(file))
        total.update(f"{name}:{kind.__module__}.{kind.__qualname__}\n".encode())
        for key in sorted(vars(module).keys() - _OF_EVERY_MODULE):
            total.update(f"{key}=".encode())
            _feed(total, vars(module)[key])
    total.update(_digest_of_files(sorted(files)).encode())
    return total.hexdigest()


def _feed(total: Any, value: Any) -> None:
    """Add an attribute to a hash: tensors, arrays and plain values by content, others by kind."""
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta:
        total.update(f"{value.dtype}{tuple(value.shape)}".encode())
        total.update(little_endian(value))
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        total.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, list | tuple):
        total.update(f"{len(value)}[".encode())
        for item in value:
            _feed(total, item)
    elif isinstance(value, dict):
        for key in value:
            total.update(f"{key!r}:".encode())
            _feed(total, value[key])
    elif value is None or isinstance(value, bool | int | float | str):
        total.update(repr(value).encode("utf-8", "surrogatepass"))
    elif isinstance(value, torch.dtype | complex | bytes):
        total.update(repr(value).encode())
    elif isinstance(value, partial):
        total.update(b"partial")
        for part in (value.func, value.args, value.keywords):
            _feed(total, part)
    elif isinstance(value, type | FunctionType | BuiltinFunctionType):
        total.update(f"{value.__module__}.{value.__qualname__}".encode())
    else:  # Its text may hold an address, which would differ every time.
        total.update(type(value).__qualname__.encode())


def _reached(name: str) -> set[Path]:
    """Source files of a module and of what it imports of gradood or of its own package.

    What reads models has a version of its own, and is left out.
    """
    own = name.partition(".")[0]
    files: set[Path] = set()
    seen: set[str] = set()
    pending = [name]
    while pending:
        module = pending.pop()
        if module in seen or module.startswith(_READING):
            continue
        seen.add(module)
        file = _source(module)
        if file is None:
            continue
        files.add(file)
        pending += [
            imported
            for imported in _imported(module, file)
            if imported.partition(".")[0] in ("gradood", own)
        ]
    return files


def _imported(name: str, file: Path) -> Iterator[str]:
    """Names of modules that a source file imports, wherever in it."""
    package = name.rpartition(".")[0] if file.name != "__init__.py" else name
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # As many parents as there are dots beyond the first.
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(above if node.level else ()), *([node.module] if node.module else ())]
            source = ".".join(parts)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in sys.modules or _is_module(inner) else source


def _is_module(name: str) -> bool:
    parent = sys.modules.get(name.rpartition(".")[0])
    if not isinstance(parent, ModuleType) or not hasattr(parent, "__path__"):
        return False
    return importlib.util.find_spec(name) is not None


def _source(module: str) -> Path | None:
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None) if found is not None else None
    if file is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            return None
        file = None if spec is None else spec.origin
    return Path(file) if file is not None and file.endswith(".py") else None


def _digest_of_files(paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
