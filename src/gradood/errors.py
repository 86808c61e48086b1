"""The exception tree; each error is also the built-in it resembles.

```text
GradoodError
├── TapError            (RuntimeError)    a layer, head or gradient cannot be read from this model
├── NotFittedError      (RuntimeError)    a detector that learns was asked to score before `fit`
├── DataError           (ValueError)      the images, labels or scores given are unusable
│   └── BadRowError     (ValueError)      one row of many is unusable; its status says how
│       └── BadImageError  (ValueError)   one image of many is
├── ConfigError         (ValueError)      an option has a wrong value
│   └── OptionError     (TypeError)       a detector has no such option
├── UnknownNameError    (LookupError)     no detector, layer or option of that name
├── CalibrationError    (ValueError)      the promise asked for cannot be kept
├── ArtifactError       (ValueError)      a saved detector is damaged or refused
├── ExportError         (RuntimeError)    a detector cannot be exported
│   └── ParityError     (RuntimeError)    a graph does not decide as the monitor does
└── ModelMismatchError  (RuntimeError)    a saved detector meets another model
GradoodWarning          (UserWarning)
├── CacheWarning                          what was kept could not be used; results are the same
├── CoverageWarning                       data lacks classes that other data has
├── InputRangeWarning                     inputs are scaled otherwise than those of the fit
├── MeaninglessScoreWarning               the method says little on this model
├── LabelMismatchWarning                  labels and model disagree
├── ModelChangedWarning                   the model is not as it was fitted or calibrated on
├── RepeatedContentWarning                items of a stream repeat one another
├── TrainingDataWarning                   held-out data looks as if the network was trained on it
├── UninformativeScoreWarning             too many equal scores to tell inputs apart
└── UnpinnedRevisionWarning               a package was taken by a name that may mean another later
```

Every message says what was given, what was expected, and what to do.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches

__all__ = [
    "ArtifactError",
    "BadImageError",
    "BadRowError",
    "CacheWarning",
    "CalibrationError",
    "ConfigError",
    "CoverageWarning",
    "DataError",
    "ExportError",
    "GradoodError",
    "GradoodWarning",
    "InputRangeWarning",
    "LabelMismatchWarning",
    "MeaninglessScoreWarning",
    "ModelChangedWarning",
    "ModelMismatchError",
    "NotFittedError",
    "OptionError",
    "ParityError",
    "RepeatedContentWarning",
    "TapError",
    "TrainingDataWarning",
    "UninformativeScoreWarning",
    "UnknownNameError",
    "UnpinnedRevisionWarning",
    "suggest",
    "warn_caller",
]


class GradoodError(Exception):
    """Root of every error this library raises on purpose."""


class TapError(GradoodError, RuntimeError):
    """A layer, head or gradient cannot be read from this model."""


class NotFittedError(GradoodError, RuntimeError):
    """A detector that learns was asked to score before `fit`."""


class DataError(GradoodError, ValueError):
    """The images, labels or scores given are unusable."""


class BadRowError(DataError):
    """One row of many is unusable.

    Args:
        reason: why, in a sentence about "it": the caller knows its name.
        status: the same in a word, see `gradood.data._decode` and `gradood.data.column_input`.
    """

    def __init__(self, reason: str, status: str = "broken") -> None:
        super().__init__(reason)
        self.status = status


class BadImageError(BadRowError):
    """One image of many is unusable."""


class ConfigError(GradoodError, ValueError):
    """An option has a wrong value."""


class OptionError(ConfigError, TypeError):
    """A detector has no such option, or takes none without its name."""


class UnknownNameError(GradoodError, LookupError):
    """No detector, layer or option of that name."""


class CalibrationError(GradoodError, ValueError):
    """The false-alarm promise asked for cannot be kept with the data given."""


class ArtifactError(GradoodError, ValueError):
    """A saved detector is damaged, unknown or refused."""


class ExportError(GradoodError, RuntimeError):
    """A detector is in no graph, or a graph is of another monitor."""


class ParityError(ExportError):
    """A graph does not decide as the monitor does that it was made of."""


class ModelMismatchError(GradoodError, RuntimeError):
    """A saved detector meets a model other than the one it was fitted on."""


class GradoodWarning(UserWarning):
    """Root of the warnings of this library."""


class BoundedFitWarning(GradoodWarning):
    """A detector keeps its fit samples in fewer bits, or a part of them, as all take over 1 GiB."""


class CacheWarning(GradoodWarning):
    """Something kept is damaged, or cannot be kept: it is computed again, with the same result."""


class CoverageWarning(GradoodWarning):
    """Data lacks classes that the data it stands for, or is compared with, has."""


class InputRangeWarning(GradoodWarning):
    """Images lie far above the range of those fitted on: 0..255 instead of 0..1, say."""


class MeaninglessScoreWarning(GradoodWarning):
    """The method runs, but says little about this model."""


class LabelMismatchWarning(GradoodWarning):
    """The labels of known data are not what the model predicts: another order, or other data."""


class ModelChangedWarning(GradoodWarning):
    """Weights, layers or numerical settings are not those of the fit or the calibration."""


class RepeatedContentWarning(GradoodWarning):
    """Items of a stream repeat one another, which a promise for independent ones does not cover."""


class TrainingDataWarning(GradoodWarning):
    """Data that should be held out looks as if the network was trained on it."""


class UninformativeScoreWarning(GradoodWarning):
    """So many calibration scores are equal that the promise is kept by flagging next to nothing."""


class UnpinnedRevisionWarning(GradoodWarning):
    """A package was taken from a hub by a branch or a tag, which may be another one tomorrow."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """Wording for a miss: the closest choices first, else all of them.

    Args:
        name: what was given.
        choices: what exists.

    Returns:
        A sentence such as ``did you mean 'gaia-z'?`` or ``choose from a, b, c.``
    """
    known = sorted(choices)
    spelt: dict[str, str] = {}
    for choice in known:
        spelt.setdefault(_plainly(choice), choice)
    alike = spelt.get(_plainly(name))
    if alike is not None:
        return f"did you mean {alike!r}?"
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    if not close:
        found = get_close_matches(_plainly(name), spelt, n=3, cutoff=0.6)
        close = [spelt[match] for match in found]
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    shown = ", ".join(known[:40])
    rest = f", … ({len(known) - 40} more)" if len(known) > 40 else ""
    return f"choose from {shown}{rest}." if known else "there are none."


_NOTES: ContextVar[list[tuple[str, type[GradoodWarning]]] | None] = ContextVar(
    "_NOTES", default=None
)


@contextmanager
def noted_warnings() -> Iterator[list[tuple[str, type[GradoodWarning]]]]:
    """The warnings that this thread gives inside, as (message, kind); they are given all the same.

    What is computed once and kept must warn each time that it is used.
    """
    notes: list[tuple[str, type[GradoodWarning]]] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def warn_caller(message: str, kind: type[GradoodWarning]) -> None:
    """A warning at the line that called into this package.

    Args:
        message: what may be wrong, and what to do.
        kind: of the warning.
    """
    notes = _NOTES.get()
    if notes is not None:
        notes.append((message, kind))
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("gradood."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, kind, stacklevel=level)


def _plainly(name: str) -> str:
    """A name without case and separators, in which people differ."""
    return "".join(letter for letter in name.casefold() if letter not in "-_ ")
