"""Objectives and summaries by name: gradood's own, and those that installed packages register.

A saved file names what it reads; it is found again here, or not at all. Nothing that a file says is
imported: a name stands for a part that is built in, was registered by code that is already loaded,
or is declared as an entry point by an installed package.
"""

import re
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from typing import Any, TypeVar

from torch import nn

from gradood.errors import ConfigError, UnknownNameError, suggest
from gradood.evidence.requests import FEATURE_SUM, LOG_SOFTMAX_SUM, MAX_LOGIT, Objective
from gradood.evidence.summaries import (
    MAP,
    MAX_POWER,
    MEAN,
    NONZERO_SHARE,
    POSITIONS,
    POSITIVE_SHARE,
    Summary,
    gram_sums,
    largest_value,
    max_pooled_share,
    standard_deviation,
)

__all__ = ["built_in", "objective", "register", "register_summaries", "same_function", "summary"]

Part = TypeVar("Part", Objective, Summary)
Maker = Callable[..., Summary]

_NAMESPACED = re.compile(r"[a-z0-9][a-z0-9_.-]*/[^/]+")


def _gram(*powers: Any) -> Summary:
    if not powers or any(type(p) is not int or not 0 < p <= MAX_POWER for p in powers):
        raise ValueError(powers)
    if sorted(set(powers)) != list(powers):
        raise ValueError(powers)
    return gram_sums(powers)


def _pooled(*settings: Any) -> Summary:
    kernel_size, stride, padding, dilation, ceil_mode = settings
    pool = nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=bool(ceil_mode))
    return max_pooled_share(pool)


def _rectified(make: Callable[..., Summary], *settings: Any) -> Summary:
    (rectified,) = settings
    return make(rectified=bool(rectified))


def _always(part: Summary, *settings: Any) -> Summary:
    if settings:
        raise ValueError(f"{part.name!r} takes no settings")
    return part


_OWN_OBJECTIVES = {known.name: known for known in (MAX_LOGIT, LOG_SOFTMAX_SUM, FEATURE_SUM)}
_OWN_SUMMARIES: dict[str, Maker] = {
    gram_sums((1,)).name: _gram,
    max_pooled_share(nn.MaxPool2d(2)).name: _pooled,
    **{make().name: partial(_rectified, make) for make in (largest_value, standard_deviation)},
    **{
        known.name: partial(_always, known)
        for known in (MAP, MEAN, NONZERO_SHARE, POSITIONS, POSITIVE_SHARE)
    },
}
_objectives: dict[str, Objective] = {}
_summaries: dict[str, Maker] = {}


def register(part: Part) -> Part:
    """Make an objective or a summary of another package known, so that what reads it can be saved.

    Call it where the part is defined; a file is loaded after the detector's module. A part that
    detectors of several packages share is better declared as an entry point of the group
    ``gradood.objectives`` or ``gradood.summaries``, under the same name.

    Args:
        part: its name is ``package/name``, so that no two packages meet.

    Returns:
        The part.

    Raises:
        ConfigError: the name lacks the package, or is another part's.

    >>> spread = register(Objective("example/spread", lambda logits, _: logits.std(1).sum()))
    >>> objective("example/spread") is spread
    True
    """
    if isinstance(part, Objective):
        _checked(part.name, part.of, _objectives, lambda known: known.of)
        _objectives[part.name] = part
    else:
        _checked(part.name, part.reduce, _summaries, lambda known: known().reduce)
        _summaries[part.name] = partial(_always, part)
    return part


def register_summaries(name: str, make: Maker) -> Maker:
    """Make summaries with settings known: all that `make` gives.

    Args:
        name: of each, ``package/name``.
        make: settings of a `Summary` → that summary; refuses wrong ones with a ValueError.

    Raises:
        ConfigError: the name lacks the package, or is another part's.
    """
    _checked(name, make, _summaries, lambda known: known)
    _summaries[name] = make
    return make


def objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        UnknownNameError: no installed package brings it.
    """
    known = _OWN_OBJECTIVES.get(name) or _objectives.get(name)
    if known is None:
        known = _declared("objective", name, {**_OWN_OBJECTIVES, **_objectives})
    if not isinstance(known, Objective) or known.name != name:
        raise ConfigError(f"the entry point {name!r} of gradood.objectives gives {known!r}.")
    return known


def summary(name: str, settings: tuple[Any, ...] = ()) -> Summary:
    """The summary of that name, with settings as plain values.

    Raises:
        UnknownNameError: no installed package brings it.
        ValueError, TypeError: it has other settings.
    """
    make = _OWN_SUMMARIES.get(name) or _summaries.get(name)
    if make is None:
        found = _declared("summary", name, {**_OWN_SUMMARIES, **_summaries})
        make = partial(_always, found) if isinstance(found, Summary) else found
    made = make(*settings)
    if not isinstance(made, Summary) or made.name != name:
        raise ConfigError(f"the entry point {name!r} of gradood.summaries gives {made!r}.")
    return made


def built_in(part: object) -> bool:
    """Whether an objective or a summary is gradood's own."""
    return getattr(part, "name", None) in {**_OWN_OBJECTIVES, **_OWN_SUMMARIES}


def same_function(a: Any, b: Any) -> bool:
    """Whether two functions do the same: one function, closures of one piece of code, or partials.

    Partials are alike if they give the same arguments to the same function.
    """
    if isinstance(a, partial) and isinstance(b, partial):
        given = a.args == b.args and a.keywords == b.keywords
        return given and same_function(a.func, b.func)
    code = getattr(a, "__code__", None)
    return a is b or (code is not None and code is getattr(b, "__code__", None))


def _checked(
    name: str, function: Any, known: dict[str, Any], function_of: Callable[[Any], Any]
) -> None:
    if not _NAMESPACED.fullmatch(name) or name.startswith("gradood/"):
        raise ConfigError(
            f"the name {name!r} has no package before it; expected package/name, such as "
            f"'my-package/{name.rpartition('/')[2]}'."
        )
    # A module that is loaded again defines the same thing anew.
    if name in known and not same_function(function_of(known[name]), function):
        raise ConfigError(
            f"{name!r} is registered already, for something else; give each its own name."
        )


def _declared(kind: str, name: str, known: dict[str, Any]) -> Any:
    """From the entry point of that very name; no other is loaded."""
    group = {"objective": "gradood.objectives", "summary": "gradood.summaries"}[kind]
    points = list(entry_points(group=group, name=name))
    if not points:
        raise UnknownNameError(
            f"no {kind} {name!r}; install the package that brings it, or {suggest(name, known)}"
        )
    try:
        return points[0].load()
    except Exception as error:
        raise ConfigError(
            f"an installed package declares the {kind} {name!r}, which cannot be imported "
            f"({type(error).__name__}: {error}); repair or uninstall it."
        ) from error
