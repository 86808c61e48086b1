"""One mapping from names to detectors: the built-in ones, and those of installed packages."""

import ast
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gradood.errors import ConfigError, UnknownNameError, suggest

if TYPE_CHECKING:
    from gradood.detectors.base import Detector

__all__ = [
    "Method",
    "built_in",
    "built_in_class",
    "create",
    "detector_class",
    "methods",
    "resolved",
]

_GROUP = "gradood.detectors"
_NOT_IN_A_GRAPH = frozenset(
    {"gradient", "gradient of the input", "Jacobians between layers", "local features"}
)
_AT_THE_HEAD = frozenset(
    {"features", "head", "head of a zero-shot classifier", "labels", "logits", "negative labels"}
)
_BASE = ("gradood", "Detector")
_LISTED = re.compile(r"^__all__ = (\[[^\]]*\])", re.M)


@dataclass(frozen=True, slots=True)
class Method:
    """What to know of a detector before using it.

    Attributes:
        name: kebab-case name for `Monitor` and the command line.
        title: one line on what it measures.
        paper: citation key in `gradood/references.bib`.
        needs: what it reads of the model and the data.
        cost: passes and memory.
        fails_when: where its score means little.
        learns: whether it must be fitted.
        detector: name of the class, exported from `gradood` if built in.
        links: of which outputs of a model its score is defined, by default: ``"softmax"`` over
            classes, ``"sigmoid"`` of each class, ``"none"`` of regressions and embeddings.
        exportable: from where on `gradood.export` makes a graph of it, with default options:
            ``"model"``, from inputs on, and ``"head"``, from features and logits on; empty where
            it needs a backward pass, which a graph does not have. What holds on a model says
            `gradood.onnx.exportable`.
    """

    name: str
    title: str
    paper: str
    needs: tuple[str, ...]
    cost: str
    fails_when: str
    learns: bool
    detector: str
    links: tuple[str, ...] = ("softmax",)
    exportable: tuple[str, ...] = ()


@cache
def built_in() -> Mapping[str, str]:
    """Class → module of every built-in detector, read off the files without importing them.

    Every module of `gradood.detectors` but ``base`` and those with a leading underscore holds a
    detector, which its ``__all__`` names.
    """
    found: dict[str, str] = {}
    for file in files("gradood").joinpath("detectors").iterdir():
        module, dot, suffix = file.name.partition(".")
        if dot and suffix == "py" and module != "base" and not module.startswith("_"):
            listed = _LISTED.search(file.read_text(encoding="utf-8"))
            for name in ast.literal_eval(listed[1]) if listed else ():
                found[name] = f"{_GROUP}.{module}"
    return MappingProxyType(dict(sorted(found.items())))


def built_in_class(name: str) -> type["Detector"]:
    """The class of a built-in detector by its own name, such as ``KNN``."""
    return getattr(importlib.import_module(built_in()[name]), name)


@cache
def _own_classes() -> dict[str, type["Detector"]]:
    return {kind.name: kind for kind in map(built_in_class, built_in())}


@cache
def _classes() -> dict[str, type["Detector"]]:
    found: dict[str, type[Detector]] = {}
    candidates: list[Any] = list(_own_classes().values())
    candidates += map(_loaded, entry_points(group=_GROUP))
    for candidate in candidates:
        if not _is_detector(candidate):
            raise ConfigError(f"{candidate!r} in {_GROUP} is no gradood Detector class.")
        known = found.get(candidate.name)
        if known is not None and known is not candidate:
            raise ConfigError(
                f"two detectors are called {candidate.name!r}: {known.__module__}.{known.__name__} "
                f"and {candidate.__module__}.{candidate.__name__}; rename or uninstall one."
            )
        found[candidate.name] = candidate
    return dict(sorted(found.items()))


def _is_detector(candidate: object) -> bool:
    """Whether it is a class below `Detector`, which is a layer above and so known by name."""
    bases = candidate.__mro__ if isinstance(candidate, type) else ()
    return any((base.__module__, base.__qualname__) == _BASE for base in bases[1:])


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        package = "an installed package" if point.dist is None else f"package {point.dist.name!r}"
        raise ConfigError(
            f"{package} declares the detector {point.value!r}, which cannot be imported "
            f"({type(error).__name__}: {error}); repair or uninstall it."
        ) from error


def detector_class(name: str) -> type["Detector"]:
    """The detector class of that registry name.

    Raises:
        UnknownNameError: there is none; suggests the closest.
    """
    try:
        return _classes()[name]
    except KeyError:
        message = f"no detector {name!r}; {suggest(name, _classes())}"
        raise UnknownNameError(message) from None


def resolved(score: object) -> "Detector":
    """A detector given by name or as an instance, as the option `score` of another one.

    Raises:
        ConfigError: it is neither; suggests the closest name.
    """
    if _is_detector(type(score)):
        return score  # type: ignore[return-value]
    # Built-in ones first, so that no plug-in is imported to make a detector that needs none.
    own = _own_classes()
    known = own if isinstance(score, str) and score in own else _classes()
    if not isinstance(score, str) or score not in known:
        raise ConfigError(
            f"score={score!r}; expected the name of one of the detectors that `gradood methods` "
            f"lists, or an instance: {suggest(str(score), known)}"
        )
    return known[score]()


def create(name: str, **options: Any) -> "Detector":
    """A detector by name, with options.

    Raises:
        UnknownNameError: no such detector.
        ConfigError: no such option, or a wrong value.
    """
    chosen = detector_class(name)
    known = inspect.signature(chosen).parameters
    for option in options:
        if option not in known:
            raise ConfigError(f"{name} has no option {option!r}; {suggest(option, known)}")
    try:
        return chosen(**options)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}") from error


@cache
def _links(kind: type["Detector"]) -> tuple[str, ...]:
    return kind().runs_on


def _exportable(needs: tuple[str, ...]) -> tuple[str, ...]:
    """From where on a graph can hold what a detector reads; see `Method`."""
    if not _NOT_IN_A_GRAPH.isdisjoint(needs):
        return ()
    return ("model", "head") if _AT_THE_HEAD.issuperset(needs) else ("model",)


def methods() -> tuple[Method, ...]:
    """Every detector there is, by name.

    >>> import gradood
    >>> [m.name for m in gradood.methods()][:3]
    ['actsub', 'adascale-a', 'adascale-l']
    """
    return tuple(
        Method(
            *(name, c.title, c.paper, c.needs, c.cost, c.fails_when, c.learns, c.__name__),
            links=_links(c),
            exportable=_exportable(c.needs),
        )
        for name, c in _classes().items()
    )
