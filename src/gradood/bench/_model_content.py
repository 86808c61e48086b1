"""Content of a model: weights, structure, attributes, hooks, and the code of its classes."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from gradood._io.canonical import encode
from gradood._io.content import contents_digest
from gradood._io.hashing import files_digest, plain_setting
from gradood.artifact.fingerprint import fingerprint
from gradood.taps import unwrap

__all__ = ["model_version"]

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = tuple(name for name in sorted(_OF_EVERY_MODULE) if name.endswith("_hooks"))
_TRAINING_ONLY = frozenset({"training", "momentum", "inplace"})


def model_version(model: nn.Module) -> str:
    """SHA-256 of all that decides what a model computes, as far as can be told from it.

    Its fingerprint; the sources of its classes, and what they close over; the attributes of its
    modules that a fingerprint leaves out; and hooks.

    Args:
        model: as it is.

    Raises:
        NoContentError: an attribute has no content that could be hashed; names it.
        DataError: a tensor holds no data.
    """
    found = fingerprint(model)
    total = hashlib.sha256(f"{found.digest}\n{encode(dict(found.modules))}\n".encode("ascii"))
    kinds: dict[type, None] = {}
    parts: dict[str, Any] = {}
    module = unwrap(model)
    for name, inner in module.named_modules():
        place = f"{type(module).__name__}.{name}" if name else type(module).__name__
        parts |= {f"{place}.{key}": value for key, value in _attributes(inner)}
        parts[f"the class of {place}"] = type(inner).__qualname__
        kinds |= dict.fromkeys(base for base in type(inner).__mro__ if not _of_torch(base))
    total.update(contents_digest({kind.__qualname__: kind for kind in kinds}).encode())
    total.update(files_digest(sorted(_files(kinds))).encode())
    total.update(contents_digest(parts).encode())
    return total.hexdigest()


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes of one module that its fingerprint leaves out, by name."""
    kind = type(module)
    for name in _HOOKS:
        if hooks := vars(module).get(name):
            yield name, list(hooks.values())
    if isinstance(module, GraphModule):
        yield "code", module.code
    elif isinstance(module, torch.jit.ScriptModule):
        yield "graph", str(module.inlined_graph)
    elif _of_torch(kind):
        for name, value in sorted(vars(module).items()):
            private = name.startswith("_") or name in _TRAINING_ONLY
            if not private and plain_setting(value) is NotImplemented:
                yield name, value
        if "forward" in vars(module):
            yield "forward", vars(module)["forward"]
    else:
        for name in sorted(vars(module).keys() - _OF_EVERY_MODULE):
            yield name, vars(module)[name]


def _of_torch(kind: type) -> bool:
    return kind is object or kind.__module__.partition(".")[0] in ("torch", "typing")


def _files(kinds: dict[type, None]) -> Iterator[Path]:
    """Source files of classes, each once."""
    names = dict.fromkeys(kind.__module__ for kind in kinds)
    for name in names:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and Path(file).is_file():
            yield Path(file)
