"""What a watch is made of: the rule of a monitor, checked options, and warnings about both."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradood._io.arguments import plain, real, type_named
from gradood.artifact import Artifact, read
from gradood.artifact.tensors import to_torch
from gradood.calibration import Calibration
from gradood.calibration._rule import DecisionRule
from gradood.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    ModelMismatchError,
    RepeatedContentWarning,
    UninformativeScoreWarning,
    warn_caller,
)
from gradood.monitor import Monitor
from gradood.rejection import Guard
from gradood.watch._reference import Reference
from gradood.watch._state import WatchOptions, WatchState
from gradood.watch._statistic import Statistic

__all__ = [
    "check_fits",
    "check_options",
    "check_text",
    "rule_of",
    "statistic_of",
    "warn_of_repeats",
    "warn_of_ties",
]

_REPEATS, _REPEATED = 100, 0.01


def rule_of(monitor: Any) -> DecisionRule:
    """The rule that decides for a monitor.

    Args:
        monitor: a `Monitor`, a `Guard`, an artifact that was read, or the path of one.

    Raises:
        CalibrationError: it is not calibrated.
        ConfigError: it is none of these.
        DataError, ArtifactError: the file cannot be read.
    """
    if isinstance(monitor, str | os.PathLike):
        monitor = read(os.fspath(monitor))
    if isinstance(monitor, Artifact):
        rule = _rule_of_artifact(monitor)
    elif isinstance(monitor, Monitor | Guard):
        made = monitor._monitor if isinstance(monitor, Guard) else monitor
        rule = made._session.state.rule
    else:
        raise ConfigError(
            f"monitor is {type_named(monitor)}; expected a gradood.Monitor, a gradood.Guard, or "
            "the file of one."
        )
    if rule is None:
        raise CalibrationError(
            "the monitor is not calibrated, so there is nothing to compare a stream with: call "
            "monitor.calibrate(held_out, fpr=0.05) first."
        )
    return rule


def _rule_of_artifact(artifact: Artifact) -> DecisionRule | None:
    """The rule of a saved monitor; None if it is not calibrated.

    Raises:
        ArtifactError: its record is damaged.
    """
    manifest = artifact.verified.manifest
    if manifest.calibration is None:
        return None
    tensors = {
        name: to_torch(stored).clone()
        for name, stored in artifact.arrays.items()
        if name.startswith("calibration/")
    }
    return DecisionRule.from_plain(manifest.calibration, tensors)


def statistic_of(options: WatchOptions, rule: DecisionRule, source: str) -> Statistic:
    """The statistic that a state is of.

    Args:
        options: of the state.
        rule: of the monitor given.
        source: the file of the state, for messages.

    Raises:
        ModelMismatchError: it is of another calibration.
    """
    found = Statistic.named(rule, options.statistic)
    if found is None or found.digest() != options.calibration:
        raise ModelMismatchError(
            f"{source!r} is of another calibration than the monitor has; give the monitor that it "
            "was made of, or begin a new watch, whose promise begins anew."
        )
    return found


def check_options(alpha: Any, rate: Any, mode: Any, seed: Any) -> None:
    """Refuse options out of range.

    Raises:
        ConfigError: names the option.
    """
    for name, value in (("alpha", alpha), ("rate", rate)):
        if real(value) is None:
            raise ConfigError(f"{name}={plain(value)!r}; expected a number.")
    if not 0 < alpha < 1:
        raise ConfigError(
            f"alpha={alpha!r}; expected a number between 0 and 1: the probability of a false alarm."
        )
    if not 1 < rate <= sys.float_info.max:
        raise ConfigError(
            f"rate={rate!r}; expected a number above 1: items to a false warning, on average."
        )
    if mode not in ("marginal", "pac"):
        raise ConfigError(f"mode={mode!r}; expected 'marginal' or 'pac'.")
    seed = plain(seed)
    if type(seed) is not int or not 0 <= seed < 2**64:
        raise ConfigError(f"seed={seed!r}; expected a whole number from 0 to 2**64 - 1.")


def check_text(value: Any, name: str, what: str) -> str:
    """A text that a file can keep, without white space around it.

    Args:
        value: as it was given.
        name: of the argument.
        what: was expected.

    Raises:
        ConfigError: it is none, it is empty, or it holds half a character, as words do that a shell
            gave in another encoding than UTF-8.
    """
    if not (isinstance(value, str) and value.strip()):
        raise ConfigError(f"{name}={value!r}; expected {what}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{name}={value!r} holds half a character, which the state cannot keep; give it in "
            "UTF-8."
        ) from error
    return value.strip()


def check_fits(state: WatchState, references: Sequence[Reference], bets: int) -> None:
    """Refuse a state whose parts are not of these references.

    Args:
        state: as it was read.
        references: of each track.
        bets: how many there are.

    Raises:
        ArtifactError: they do not fit.
    """
    fits = len(state.tracks) == len(references) and all(
        track.evidence.capital.shape == (2, bets)
        and track.counts.keys() == reference.cells.keys()
        and all(len(track.counts[key]) == len(cells) for key, cells in reference.cells.items())
        for track, reference in zip(state.tracks, references, strict=True)
    )
    if not fits:
        raise ArtifactError(
            "the state of the watch does not fit its calibration, or is of another version of "
            "gradood; begin a new watch, whose promise begins anew."
        )


def warn_of_ties(calibration: Calibration) -> None:
    """Warn where more than half of all scores are equal, so that there is little to see."""
    scores = calibration.scores.numpy()
    reach = np.searchsorted(scores, scores + calibration.tolerance, "right")
    most = int((reach - np.arange(len(scores))).max())
    if 2 * most > len(scores):
        warn_caller(
            f"uninformative scores: {most} of {len(scores)} calibration scores are equal, so that "
            "a change that leaves most of them so is hard to tell; the promise holds. Watch "
            "another detector, or combine several.",
            UninformativeScoreWarning,
        )


def warn_of_repeats(state: WatchState, *, grouped: bool) -> bool:
    """Warn where many items repeat one another; whether it did.

    Args:
        state: of the watch.
        grouped: whether groups were given.
    """
    if state.repeats < _REPEATS or state.repeats < _REPEATED * state.seen:
        return False
    if grouped:
        text = (
            f"{state.repeats:,} of {state.seen:,} items are of groups that came in an earlier "
            "update, and were passed over: give every request, video or camera a name of its own."
        )
    else:
        text = (
            f"{state.repeats:,} of {state.seen:,} items repeat the content of one of the last 64: "
            "the promise does not cover copies. Give groups=, so that what belongs together "
            "counts once."
        )
    warn_caller(text, RepeatedContentWarning)
    return True
