"""One mapping from names to detectors: the built-in ones, and those of installed packages."""

import importlib
import inspect
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from gradood.errors import ConfigError, UnknownNameError, suggest

if TYPE_CHECKING:
    from gradood.detectors.base import Detector

__all__ = ["Method", "create", "detector_class", "methods"]

_GROUP = "gradood.detectors"


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
    """

    name: str
    title: str
    paper: str
    needs: tuple[str, ...]
    cost: str
    fails_when: str
    learns: bool
    detector: str


@cache
def _classes() -> dict[str, type["Detector"]]:
    detectors = importlib.import_module("gradood.detectors")
    base = importlib.import_module("gradood.detectors.base").Detector
    found: dict[str, type[Detector]] = {}
    candidates: list[Any] = [getattr(detectors, name) for name in detectors.__all__]
    candidates += map(_loaded, entry_points(group=_GROUP))
    for candidate in candidates:
        if not (isinstance(candidate, type) and issubclass(candidate, base)):
            raise ConfigError(f"{candidate!r} in {_GROUP} is no gradood Detector class.")
        known = found.get(candidate.name)
        if known is not None and known is not candidate:
            raise ConfigError(
                f"two detectors are called {candidate.name!r}: {known.__module__}.{known.__name__} "
                f"and {candidate.__module__}.{candidate.__name__}; rename or uninstall one."
            )
        found[candidate.name] = candidate
    return dict(sorted(found.items()))


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


def methods() -> tuple[Method, ...]:
    """Every detector there is, by name.

    >>> import gradood
    >>> [m.name for m in gradood.methods()][:3]
    ['adascale-a', 'adascale-l', 'ash-b']
    """
    return tuple(
        Method(name, c.title, c.paper, c.needs, c.cost, c.fails_when, c.learns, c.__name__)
        for name, c in _classes().items()
    )
