"""Warnings of a monitor: the model changed, or data lacks classes that the fit has."""

from typing import Literal

from gradood._engine.coverage import class_counts, rare_classes, warn_of_rare
from gradood.calibration.results import BatchScores
from gradood.errors import ModelChangedWarning, warn_caller
from gradood.monitor._state import MonitorState

__all__ = ["Stage", "warn_of_change", "warn_of_missing_classes"]

Stage = Literal["fitted", "calibrated"]
"""What was made on the model as it was."""
_ADVICE: dict[Stage, str] = {
    "fitted": "Fit and calibrate again, or give the model back what it had.",
    "calibrated": "Calibrate again, or give the model back what it had.",
}


def warn_of_change(finding: str, stage: Stage) -> None:
    """A `ModelChangedWarning` at the line that called into this package.

    Args:
        finding: what changed, a sentence without its period.
        stage: which has to be repeated.
    """
    warn_caller(f"{finding}. {_ADVICE[stage]}", ModelChangedWarning)


def warn_of_missing_classes(
    state: MonitorState, scores: BatchScores, data: str, effect: str
) -> None:
    """Warn where hardly any sample is predicted to be of classes that the fit data has.

    Args:
        state: whose fit counted the classes that the model predicted.
        scores: of the data, with predicted classes.
        data: its name, such as ``the calibration data``.
        effect: the beginning of a sentence that ends in "others alone".
    """
    expected = None if state.fitted is None else state.fitted.predicted
    if expected is None:
        return
    rare = rare_classes(expected, class_counts(scores.label, len(expected)))
    effect += "others alone."
    warn_of_rare(rare, len(expected), data=data, other="the fit data", effect=effect)
