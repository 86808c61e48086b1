"""Digest of Python objects by content: data, functions with what they close over, classes.

Two objects with one digest behave alike, as far as their content is all that they depend on. What
has no content form, such as a lock or an open file, is refused rather than taken by its name.
"""

import copyreg
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradood._io.hashing import files_digest, update_state
from gradood.errors import DataError

__all__ = ["NoContentError", "content_digest", "contents_digest", "is_library", "source_digest"]

_ATOMS = (bool, int, float, complex, type(None), type(Ellipsis), type(NotImplemented), range, slice)
_TORCH_ATOMS = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.qscheme)
_CLASS_MACHINERY = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "_abc_impl"})
_ONCE = (type, FunctionType, ModuleType)
_WRAPPED = (staticmethod, classmethod, type(cache(len)))


class NoContentError(TypeError):
    """A value has no content that could be hashed.

    Attributes:
        where: its place.
    """

    def __init__(self, where: str, value: Any) -> None:
        kind = type(value)
        super().__init__(f"{where} is a {kind.__module__}.{kind.__qualname__}")
        self.where = where


def contents_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 over the contents of several objects, by their names in messages; see there.

    Raises:
        NoContentError: one, or something in it, has no content; names the place.
    """
    digest = _ContentDigest()
    for where, value in values.items():
        digest.add(where, where)
        digest.add_named(value, where)
    return digest.total.hexdigest()


def content_digest(value: Any, where: str = "it") -> str:
    """SHA-256 over the content of an object.

    Numbers, texts, arrays, tensors, containers and enumerations count by value. An object counts
    by its class and by what a pickle of it would hold. A function counts by its code, defaults,
    what it closes over, and the globals that it names; a class by its attributes. Functions and
    classes of installed libraries count by name and source, and modules by name and version.

    Args:
        value: any object.
        where: its name in messages.

    Raises:
        NoContentError: it, or something in it, has no content; names the place.

    Cost: tensors and arrays are copied to the CPU and hashed, about a gigabyte a second.

    >>> content_digest({"scale": 1.0}) == content_digest({"scale": 1.0})
    True
    >>> content_digest(lambda x: 2 * x) == content_digest(lambda x: 3 * x)
    False
    """
    digest = _ContentDigest()
    digest.add_named(value, where)
    return digest.total.hexdigest()


class _ContentDigest:
    """A hash that objects are added to.

    A function, class or module that comes again counts by its position, and so does an object
    within itself; other objects count in full each time, whether or not they are one.
    """

    def __init__(self) -> None:
        self.total = hashlib.sha256()
        self._positions: dict[int, int] = {}
        self._tensors: dict[int, bytes] = {}
        self._kept: list[Any] = []  # So that no id is used again.

    def add_named(self, value: Any, where: str) -> None:
        """Add an object of the caller."""
        try:
            self.add(value, where)
        except RecursionError as error:
            raise NoContentError(f"a part of {where}, nested too deeply,", value) from error

    def add(self, value: Any, where: str) -> None:
        """Add an object, its type first."""
        kind = type(value)
        if isinstance(value, _TORCH_ATOMS) or kind in _ATOMS:
            self._text(f"{kind.__qualname__} {value!r}")
        elif kind is str:
            self._text("str", value.encode("utf-8", "surrogatepass"))
        elif kind in (bytes, bytearray):
            self._text("bytes", value)
        elif id(value) in self._positions:
            self._text(f"again {self._positions[id(value)]}")
        else:
            self._positions[id(value)] = len(self._positions)
            self._kept.append(value)
            self._add_compound(value, where)
            if not isinstance(value, _ONCE):
                del self._positions[id(value)]

    def _text(self, text: str, content: bytes | bytearray | memoryview = b"") -> None:
        raw = text.encode("utf-8", "surrogatepass")
        self.total.update(b"%d %d\n" % (len(raw), len(content)))
        self.total.update(raw)
        self.total.update(content)

    def _add_compound(self, value: Any, where: str) -> None:
        kind = type(value)
        if isinstance(value, Tensor):
            self._add_tensor(value, where)
        elif isinstance(value, np.ndarray | np.generic):
            if value.dtype.hasobject:
                raise NoContentError(where, value)
            self._text(f"array {value.dtype.str} {value.shape}", value.tobytes())
        elif kind in (list, tuple):
            self._text(f"{kind.__name__} {len(value)}")
            for number, item in enumerate(value):
                self.add(item, f"{where}[{number}]")
        elif kind in (dict, MappingProxyType):
            self._text(f"{kind.__name__} {len(value)}")
            for key, item in value.items():
                self.add(key, f"a key of {where}")
                self.add(item, f"{where}[{key!r}]" if isinstance(key, str | int) else where)
        elif kind in (set, frozenset):
            digests = sorted(content_digest(item, f"an item of {where}") for item in value)
            self._text(f"{kind.__name__} {' '.join(digests)}")
        elif isinstance(value, Enum):
            self.add(kind, where)
            self.add([value.name, value.value], where)
        else:
            self._add_code(value, where)

    def _add_tensor(self, value: Tensor, where: str) -> None:
        if id(value) not in self._tensors:
            own = hashlib.sha256()
            try:
                update_state(own, value, where)
            except (DataError, RuntimeError) as error:
                raise NoContentError(where, value) from error
            self._tensors[id(value)] = own.digest()
        self._text(f"tensor {type(value).__qualname__}", self._tensors[id(value)])

    def _add_code(self, value: Any, where: str) -> None:
        if isinstance(value, ModuleType):
            self._text(f"module {value.__name__} {getattr(value, '__version__', '')}")
            self._text(source_digest(value.__name__))
        elif isinstance(value, type):
            self._add_class(value, where)
        elif isinstance(value, FunctionType):
            self._add_function(value, where)
        elif isinstance(value, MethodType):
            self._text("method")
            self.add(value.__func__, where)
            self.add(value.__self__, f"{where}.__self__")
        elif isinstance(value, BuiltinFunctionType):
            owner = value.__self__
            self._text(f"builtin {value.__module__}.{value.__qualname__}")
            if owner is not None and not isinstance(owner, ModuleType | type):
                self.add(owner, f"{where}.__self__")
        elif isinstance(value, torch.jit.ScriptModule | torch.jit.ScriptFunction):
            self._text("script", str(value.inlined_graph).encode())  # type: ignore[union-attr]
            self.add(dict(getattr(value, "state_dict", dict)()), where)
        elif isinstance(value, property):
            self._text("property")
            self.add([value.fget, value.fset], where)
        elif isinstance(value, _WRAPPED):
            self._text(f"wrapped {type(value).__qualname__}")
            self.add(value.__wrapped__, where)
        else:
            self._add_object(value, where)

    def _add_object(self, value: Any, where: str) -> None:
        """By what a pickle of it would hold."""
        reduce: Any = copyreg.dispatch_table.get(type(value))
        try:
            form: Any = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        except Exception as error:  # Whatever an object of another library raises.
            raise NoContentError(where, value) from error
        self.add(type(value), f"the class of {where}")
        if isinstance(form, str):
            self._text(f"global {form}")
            return
        make, arguments, state, items, pairs = (*tuple(form), None, None, None)[:5]
        self.add(make, where)
        self.add(arguments, where)
        if isinstance(state, dict):
            for key, item in state.items():
                self.add(key, where)
                self.add(item, f"{where}.{key}")
        else:
            self.add(state, where)
        self.add([] if items is None else list(items), where)
        self.add({} if pairs is None else dict(pairs), where)

    def _add_function(self, value: FunctionType, where: str) -> None:
        self._text(f"function {value.__module__}.{value.__qualname__}")
        self.add([value.__defaults__, value.__kwdefaults__], f"a default of {where}")
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # Not filled yet.
                continue
            self.add(content, f"{name!r} in {where}")
        self._add_constants(value.__code__, where)
        if is_library(value.__module__):
            self._text(source_digest(value.__module__))
            return
        for name in sorted(_names(value.__code__)):
            if name in value.__globals__:
                self._text(f"global {name}")
                self.add(value.__globals__[name], f"the global {name!r} of {where}")

    def _add_constants(self, code: CodeType, where: str) -> None:
        self._text(f"code {code.co_names} {code.co_varnames}", code.co_code)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._add_constants(constant, where)
            else:
                self.add(constant, where)

    def _add_class(self, kind: type, where: str) -> None:
        self._text(f"class {kind.__module__}.{kind.__qualname__}")
        if is_library(kind.__module__) and "<locals>" not in kind.__qualname__:
            self._text(source_digest(kind.__module__))
            return
        self.add(list(kind.__bases__), where)
        for name, value in vars(kind).items():
            code = isinstance(value, FunctionType | property | staticmethod | classmethod)
            machinery = name in _CLASS_MACHINERY or name.startswith("__")
            if (not machinery or code) and not hasattr(value, "__objclass__"):
                self.add(name, where)
                self.add(value, f"{where}.{name}")


def _names(code: CodeType) -> set[str]:
    """Names that a code object and those within it look up."""
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*map(_names, inner))


@cache
def is_library(module: str | None) -> bool:
    """Whether a module is of gradood, of the standard library or of an installed package."""
    package = (module or "").partition(".")[0]
    if package in sys.stdlib_module_names or package in ("gradood", "torch", "numpy"):
        return True
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if file is None:
        return False
    return any(Path(file).is_relative_to(folder) for folder in _library_folders())


@cache
def _library_folders() -> tuple[Path, ...]:
    names: Iterable[str] = ("purelib", "platlib", "stdlib", "platstdlib")
    return tuple(Path(sysconfig.get_path(name)) for name in names)


def source_digest(module: str | None) -> str:
    """SHA-256 of the source file of a loaded module; empty where it has none."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return files_digest([Path(file)]) if file is not None and Path(file).is_file() else ""
