"""Where a run is, beside its tensors."""

import math
from dataclasses import asdict
from typing import Any

from gradood.training.checkpoint import Saved
from gradood.training.meter import Meter
from gradood.training.validation import Scores

__all__ = ["State"]


class State:
    """Steps done, what validation said, and whether to stop.

    Args:
        before: the starting network on held-out data.
    """

    def __init__(self, before: Scores) -> None:
        self.before = before
        self.last = before
        self.step = 0
        self.best = math.inf
        self.worse = 0
        self.stopped = False
        self.meter = Meter()

    @staticmethod
    def of(saved: Saved) -> "State":
        """As a checkpoint has it."""
        document = saved.document
        state = State(Scores(**document["before"]))
        state.last = Scores(**document["last"])
        state.step, state.worse = document["step"], document["worse"]
        state.best = math.inf if document["best"] is None else document["best"]
        state.stopped = document["stopped"]
        state.meter.restore(saved.part("meter"))
        return state

    def judge(self, scores: Scores, *, patience: int | None) -> bool:
        """Take note of a validation; whether it is the best so far.

        The measure is FPR95, and without outliers the error rate.

        Args:
            scores: of the network now.
            patience: validations without a better one before the run stops; None for any number.
        """
        self.last = scores
        value = 1 - scores.accuracy if scores.fpr95 is None else scores.fpr95
        better = value < self.best
        self.best, self.worse = (value, 0) if better else (self.best, self.worse + 1)
        self.stopped = patience is not None and self.worse >= patience
        return better

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "before": asdict(self.before),
            "last": asdict(self.last),
            "step": self.step,
            "best": None if math.isinf(self.best) else self.best,
            "worse": self.worse,
            "stopped": self.stopped,
        }
