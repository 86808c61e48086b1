"""Reproducibility of scores: how much the score of one input moves with the batch it is in."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gradood._engine.batches import Batch
from gradood._engine.detector_set import DetectorSet
from gradood._engine.rows import Inputs, jittered, row, stacked
from gradood._engine.scoring import score_batch
from gradood.calibration.results import BatchScores
from gradood.errors import DataError, TapError

__all__ = ["RowSample", "tolerances"]

_ROWS = 16
_COUNTERS = 64
_MARGIN = 4
_SPREAD = 1e-5
_ULPS = 4


class RowSample:
    """A bounded sample of a data set: its most frequent contents, then its first rows.

    Any content with more than 1/65 of the rows is among the 64 that are counted, wherever it occurs
    [misra1982repeated]; the 16 with the largest counts are given.

    Cost:
        O(1) per row; memory of at most 80 rows.
    """

    def __init__(self) -> None:
        self._first: dict[int, Inputs] = {}
        self._frequent: dict[int, Inputs] = {}
        self._counts: Counter[int] = Counter()

    def add(self, inputs: Inputs, keys: Tensor) -> None:
        """Look at one batch.

        Args:
            inputs: (batch, …).
            keys: (batch,) int64, their content keys.
        """
        listed = keys.tolist()
        for place, key in enumerate(listed):
            if len(self._first) == _ROWS:
                break
            self._first.setdefault(key, row(inputs, place))
        self._counts.update(listed)
        if len(self._counts) > _COUNTERS:
            # What every counter has beyond the 64 largest is taken from all of them.
            cut = heapq.nlargest(_COUNTERS + 1, self._counts.values())[-1]
            self._counts = Counter({k: n - cut for k, n in self._counts.items() if n > cut})
        known = {key: kept for key, kept in self._frequent.items() if key in self._counts}
        if new := self._counts.keys() - known.keys():
            for place, key in enumerate(listed):
                if key in new and key not in known:
                    known[key] = row(inputs, place)
        self._frequent = known

    def rows(self) -> Iterator[tuple[int, Inputs]]:
        """At most 16 rows of distinct contents (1, …), on the CPU, each with its key."""
        frequent = {key: self._frequent[key] for key, _ in self._counts.most_common(_ROWS)}
        chosen = frequent | {k: kept for k, kept in self._first.items() if k not in frequent}
        yield from list(chosen.items())[:_ROWS]

    def read_by(self, read: Callable[[Inputs], Inputs]) -> "RowSample":
        """The same rows, of a sample that was given something else in the place of its inputs.

        Args:
            read: from what stands for a row (1, …), such as its number, to the row.
        """
        sample = RowSample()
        sample._first = {key: read(kept) for key, kept in self.rows()}
        return sample


def tolerances(
    detectors: DetectorSet, sample: RowSample, calibrated: BatchScores
) -> dict[str, float]:
    """Within what difference two scores of a detector count as equal.

    Four times the largest difference seen between scores of the same content: among its copies in
    the calibration, and for a sample of rows also scored singly, together, and with inputs moved by
    one unit in the last place. The last stands for other instruction sets, which cannot be tried:
    what they round otherwise moves scores as much. The margin is for rows that were not sampled.
    The floor is 1e-5 of the spread, from the 5th to the 95th percentile of the finite scores, and
    four units in the last place of float32.

    Args:
        detectors: that scored.
        sample: of the calibration rows.
        calibrated: scores of all calibration rows, with their keys.

    Cost:
        18 forward passes of at most 16 rows for all detectors; O(n log n) for n scores.
    """
    again = list(_again(detectors, sample))
    keys = torch.cat([calibrated.keys, *(keys for keys, _ in again)])
    contents, of = keys.unique(return_inverse=True)
    return {
        name: _tolerance(
            torch.cat([scores, *(more.scores[name] for _, more in again)]), of, len(contents)
        )
        for name, scores in calibrated.scores.items()
    }


def _again(detectors: DetectorSet, sample: RowSample) -> Iterator[tuple[Tensor, BatchScores]]:
    """The sampled rows scored singly, together, and jittered: their keys and scores."""
    rows = dict(sample.rows())
    single = [(torch.tensor([key], device="cpu"), kept) for key, kept in rows.items()]
    together = stacked(list(rows.values()))
    larger = single if together is None else [(torch.tensor([*rows], device="cpu"), together)]
    moved = [(keys, jittered(inputs)) for keys, inputs in larger]
    for keys, inputs in [*single, *larger, *moved]:
        if inputs is None:
            continue
        try:
            yield keys, score_batch(detectors, Batch(inputs))
        except (DataError, TapError):
            continue  # A model of one batch size is never given another.


def _tolerance(scores: Tensor, of: Tensor, contents: int) -> float:
    """The tolerance of one detector.

    Args:
        scores: (n,) float64.
        of: (n,) int64, which content each row has.
        contents: how many there are.
    """
    finite = scores.isfinite()
    scores, of = scores[finite], of[finite]
    if not len(scores):
        return 0.0
    largest = scores.new_full((contents,), -torch.inf).scatter_reduce(0, of, scores, "amax")
    least = scores.new_full((contents,), torch.inf).scatter_reduce(0, of, scores, "amin")
    moved = float((largest - least).clamp(min=0).max())
    ordered = scores.sort().values
    low, high = (float(ordered[int(share * (len(ordered) - 1))]) for share in (0.05, 0.95))
    spread = high - low or float(ordered[-1] - ordered[0])
    units = _ULPS * torch.finfo(torch.float32).eps * max(abs(low), abs(high))
    found = max(_MARGIN * moved, _SPREAD * spread, units)
    return found if found < float("inf") else 0.0
