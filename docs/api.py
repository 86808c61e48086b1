"""The pages of the API reference: every public name of every public module, by its docstring."""

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

import gradood
from gradood.registry import built_in

__all__ = ["pages"]

_LEFT_OUT = ("__main__", "cli")
"""Modules of the command line, which `gradood COMMAND --help` describes."""

_FACE = {
    "A guard": ("guard", "Guard"),
    "A monitor and its results": ("Monitor", "load", "Result", "Results", "evaluate", "Table"),
    "Choice": ("choose", "methods", "inspect"),
    "Deployment": ("Watch", "export", "OnnxJudge"),
    "Reasons": ("region_map", "RegionMap"),
    "Zero-shot classifiers": ("zero_shot",),
    "Detectors of one's own": ("Detector", "Learner"),
}
"""The names of `gradood` beside detectors and modules, in the order of a first reading."""


def pages() -> dict[str, str]:
    """Name of a page below ``api/`` → its text; ``.md`` the index, ``.rst`` the rest."""
    homes: dict[int, str] = {}
    made = {"gradood.rst": _face(homes), "detectors.rst": _detectors(homes)}
    modules = [info.name for info in pkgutil.iter_modules(gradood.__path__)]
    names = [n for n in modules if not n.startswith("_") and n not in _LEFT_OUT]
    names.remove("detectors")
    firsts = {}
    for name in names:
        module = importlib.import_module(f"gradood.{name}")
        made[f"{name}.rst"] = _module(module, homes)
        firsts[name] = (module.__doc__ or "").strip().splitlines()[0]
    rows = [f"| [`gradood.{name}`]({name}.rst) | {first} |" for name, first in firsts.items()]
    index = [
        "# API",
        "",
        "Out of the docstrings of the public names. What a module's `__all__` does not name, and",
        "what begins with an underscore, may change without notice.",
        "",
        "| module | what |",
        "|---|---|",
        "| [`gradood`](gradood.rst) | what most programs need: guard, monitor, results, watch |",
        "| [`gradood.detectors`](detectors.rst) | the detectors, all of them in `gradood` too |",
        *rows,
    ]
    return {"index.md": "\n".join(index) + "\n", **made}


def _face(homes: dict[int, str]) -> str:
    shown = [name for names in _FACE.values() for name in names]
    rest = sorted({*gradood.__all__} - {*shown} - {*built_in()})
    other = [n for n in rest if not isinstance(getattr(gradood, n), ModuleType)]
    lines = [*_title("gradood", "="), ".. py:module:: gradood", ""]
    lines += ["``import gradood`` is cheap: torch and all else load at first use.", ""]
    for title, names in {**_FACE, **({"More": tuple(other)} if other else {})}.items():
        lines += _title(title, "-")
        for name in names:
            lines += _entry("gradood", name, getattr(gradood, name), homes)
    return "\n".join(lines)


def _detectors(homes: dict[int, str]) -> str:
    lines = [*_title("gradood.detectors", "="), ".. py:module:: gradood.detectors", ""]
    lines += ["Each is in ``gradood`` too, as in ``gradood.KNN(k=10)``; each has a page of its"]
    lines += ["own among the :doc:`methods </methods/index>`.", ""]
    for name in sorted(built_in(), key=str.lower):
        lines += _entry("gradood", name, getattr(gradood, name), homes, members=False)
    lines += _title("gradood.detectors.base", "-")
    base = importlib.import_module("gradood.detectors.base")
    for name in base.__all__:
        lines += _entry("gradood.detectors.base", name, getattr(base, name), homes)
    return "\n".join(lines)


def _module(module: ModuleType, homes: dict[int, str], mark: str = "=") -> list[str] | str:
    name = module.__name__
    lines = [*_title(name, mark), f".. automodule:: {name}", ""]
    for public in module.__all__:
        value = getattr(module, public)
        if isinstance(value, ModuleType):
            lines += _module(value, homes, "-")
        else:
            lines += _entry(name, public, value, homes)
    return lines if mark == "-" else "\n".join(lines)


def _entry(
    module: str, name: str, value: Any, homes: dict[int, str], *, members: bool = True
) -> list[str]:
    """The directive of one name; of a name that is elsewhere already, where."""
    full = f"{module}.{name}"
    known = inspect.isclass(value) or inspect.isfunction(value)
    if known and id(value) in homes:
        return [f"``{name}``: see :py:obj:`{homes[id(value)]}`.", ""]
    if known:
        homes[id(value)] = full
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        return [f".. {kind}:: {full}", *(["   :members:"] if members else []), ""]
    if callable(value) and hasattr(value, "__name__"):
        return [f".. autofunction:: {full}", ""]
    return [f".. autodata:: {full}", "   :no-value:", ""]


def _title(text: str, mark: str) -> list[str]:
    return [text, mark * len(text), ""]
