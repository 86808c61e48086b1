"""Detectors by name: what a user gives, which names are allowed, and how scores are combined."""

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from torch import Tensor, nn

from gradood._engine.mistakes import type_named
from gradood.calibration._curve import How
from gradood.detectors.base import Detector
from gradood.errors import ConfigError, UnknownNameError, suggest
from gradood.registry import create, methods

__all__ = ["Detectors", "SeveralDetectors", "USABLE", "combination", "roster", "usable_name"]

SeveralDetectors = Sequence[str | Detector] | Mapping[str, str | Detector]
"""Several detectors, or several by names of their own."""

Detectors = str | Detector | SeveralDetectors
"""A registry name or a detector, several of them, or several by names of their own."""

USABLE = "a printable name without a slash or a bar"
"""What detectors and data sets may be called: a name is part of the names of tensors in files, a
key of records, a column, and a cell of tables."""


def usable_name(name: object) -> bool:
    """Whether a detector or a data set may be called so; see `USABLE`."""
    if not isinstance(name, str):
        return False
    return name.isprintable() and bool(name.strip()) and not {"/", "|"} & set(name)


def roster(detectors: Detectors) -> tuple[dict[str, Detector], bool]:
    """The detectors by name, and whether a single one was given without a list or mapping.

    Raises:
        UnknownNameError: no detector of that name; ``"all"`` stands for every method.
        ConfigError: no detector, two of one name, or a name that files cannot hold.
    """
    if isinstance(detectors, str) and detectors == "all":
        return {method.name: create(method.name) for method in methods()}, False
    if isinstance(detectors, str | Detector):
        detector = _detector(detectors)
        return _checked({detector.name: detector}), True
    if isinstance(detectors, Mapping):
        return _checked({name: _detector(value) for name, value in detectors.items()}), False
    if not isinstance(detectors, Iterable) or isinstance(detectors, nn.Module | Tensor | type):
        raise _no_detector(detectors)
    named: dict[str, Detector] = {}
    for detector in map(_detector, detectors):
        if detector.name in named:
            raise ConfigError(
                f"two detectors are called {detector.name!r}; give a mapping "
                f"{{'{detector.name}': …, '{detector.name}-2': …}} to name them."
            )
        named[detector.name] = detector
    return _checked(named), False


def combination(how: How | None, detectors: int) -> How | None:
    """How so many detectors are combined.

    Raises:
        ConfigError: there is no such way, or too few detectors.
    """
    if how is None:
        return None
    if how not in get_args(How):
        raise ConfigError(f"combine={how!r}; {suggest(str(how), get_args(How))}")
    if detectors < 2:
        raise ConfigError(f"combine={how!r} with one detector; give several, or None.")
    return how


def _checked(named: dict[str, Detector]) -> dict[str, Detector]:
    if not named:
        raise ConfigError("no detector was given; name at least one, such as 'energy'.")
    unusable = [name for name in named if not usable_name(name)]
    if unusable:
        raise ConfigError(f"a detector is called {unusable[0]!r}; expected {USABLE}.")
    return named


def _detector(value: object) -> Detector:
    if isinstance(value, str):
        if value.count(","):
            names = [name.strip() for name in value.split(",")]
            raise UnknownNameError(f"no detector {value!r}; give a list: {names!r}.")
        return create(value)
    if isinstance(value, Detector):
        return value
    raise _no_detector(value)


def _no_detector(value: object) -> ConfigError:
    """The error for what is no detector, with what to type instead."""
    if isinstance(value, type) and issubclass(value, Detector):
        own = getattr(value, "name", "")
        return ConfigError(
            f"the class {value.__name__} is no detector; give a registry name or an instance: "
            f"{own!r}, or gradood.{value.__name__}()."
        )
    shown = f"{value!r}" if not isinstance(value, nn.Module | Tensor) else type_named(value)
    hint = (
        " The model comes first: Monitor(model, 'energy')." if isinstance(value, nn.Module) else ""
    )
    return ConfigError(f"{shown[:80]} is no detector; give a registry name or an instance.{hint}")
