"""The detectors of a monitor, by name."""

from collections.abc import Mapping, Sequence
from typing import get_args

from gradood.calibration.curve import How
from gradood.detectors.base import Detector
from gradood.errors import ConfigError, suggest
from gradood.registry import create

__all__ = ["Detectors", "combination", "roster"]

Detectors = str | Detector | Sequence[str | Detector] | Mapping[str, str | Detector]


def roster(detectors: Detectors) -> tuple[dict[str, Detector], bool]:
    """The detectors by name, and whether one was given bare.

    Raises:
        UnknownNameError: no detector of that name.
        ConfigError: no detector, or two of one name.
    """
    if isinstance(detectors, str | Detector):
        detector = _detector(detectors)
        return {detector.name: detector}, True
    if isinstance(detectors, Mapping):
        found = {str(name): _detector(given) for name, given in detectors.items()}
    else:
        found = {}
        for detector in map(_detector, detectors):
            if detector.name in found:
                raise ConfigError(
                    f"two detectors are called {detector.name!r}; give a mapping "
                    f"{{'{detector.name}': …, '{detector.name}-2': …}} to name them."
                )
            found[detector.name] = detector
    if not found:
        raise ConfigError("no detector was given; name at least one, such as 'energy'.")
    return found, False


def combination(given: How | None, detectors: int) -> How | None:
    """How so many detectors are combined.

    Raises:
        ConfigError: there is no such way, or too few detectors.
    """
    if given is None:
        return None
    if given not in get_args(How):
        raise ConfigError(f"combine={given!r}; {suggest(str(given), get_args(How))}")
    if detectors < 2:
        raise ConfigError(f"combine={given!r} with one detector; give several, or None.")
    return given


def _detector(given: object) -> Detector:
    if isinstance(given, str):
        return create(given)
    if isinstance(given, Detector):
        return given
    raise ConfigError(f"{given!r} is no detector; give a registry name or an instance.")
