"""Scores of a batch, and decisions about its samples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gradood.errors import ConfigError, DataError

__all__ = ["BatchScores", "Result", "Results", "Status", "benjamini_hochberg"]


def benjamini_hochberg(p_values: Tensor, fdr: float) -> Tensor:
    """The samples of a batch to report as out-of-distribution [benjamini1995fdr].

    With m p-values in ascending order, those up to the last p₍ᵢ₎ ≤ fdr · i/m. In expectation at
    most `fdr` of the reported samples are in-distribution; this holds for conformal p-values too,
    although they share their calibration samples [bates2023conformal].

    Args:
        p_values: (m,) from 0 to 1.
        fdr: the false discovery rate allowed, between 0 and 1.

    Returns:
        (m,) bool on the CPU.

    Raises:
        ConfigError: `fdr` is out of range.
        DataError: a p-value is not from 0 to 1.

    Example:
        >>> benjamini_hochberg(torch.tensor([0.5, 0.01, 0.03]), 0.1).tolist()
        [False, True, True]
    """
    number = isinstance(fdr, int | float) and not isinstance(fdr, bool)
    if not (number and 0 < fdr < 1):
        raise ConfigError(f"fdr={fdr!r}; expected a number between 0 and 1.")
    p = p_values.detach().to("cpu", torch.float64)
    if p.ndim != 1 or not bool(((p >= 0) & (p <= 1)).all()):
        raise DataError(
            f"p_values of shape {tuple(p.shape)} are no p-values; expected (m,) from 0 to 1."
        )
    ordered = p.sort().values
    places = torch.arange(1, len(p) + 1, dtype=torch.float64, device=p.device)
    below = (ordered <= fdr * places / max(1, len(p))).nonzero()
    if not len(below):
        return torch.zeros(len(p), dtype=torch.bool, device=p.device)
    return p <= ordered[below[-1, 0]]


Status = Literal["ok", "nonfinite_input", "nonfinite_score"]
"""Whether a sample could be scored; what could not is out-of-distribution, with a score of +inf."""


@dataclass(frozen=True, eq=False, slots=True)
class BatchScores:
    """Scores of some samples by every detector, before any decision.

    Attributes:
        scores: detector → (batch,) float64 on the CPU; +inf where there is no finite score.
        label: (batch,) int64 predicted class, −1 where the input or the top logit is not finite.
        nonfinite: (batch,) bool, whether the input holds NaN or infinity.
        keys: (batch,) int64 content keys of the inputs.
    """

    scores: Mapping[str, Tensor]
    label: Tensor
    nonfinite: Tensor
    keys: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, places: Tensor) -> "BatchScores":
        """Some of the samples.

        Args:
            places: (k,) int64.
        """
        return BatchScores(
            {name: scores[places] for name, scores in self.scores.items()},
            self.label[places],
            self.nonfinite[places],
            self.keys[places],
        )

    @staticmethod
    def empty(names: Iterable[str]) -> "BatchScores":
        """Of no sample.

        Args:
            names: of the detectors.
        """
        return BatchScores.lost(names, 0)

    @staticmethod
    def lost(names: Iterable[str], size: int) -> "BatchScores":
        """Of samples none of which is finite.

        Args:
            names: of the detectors.
            size: number of samples.
        """
        score = torch.full((size,), torch.inf, dtype=torch.float64, device="cpu")
        label = torch.full((size,), -1, dtype=torch.int64, device="cpu")
        nonfinite = torch.ones(size, dtype=torch.bool, device="cpu")
        return BatchScores(dict.fromkeys(names, score), label, nonfinite, torch.zeros_like(label))

    @staticmethod
    def joined(parts: Sequence["BatchScores"], names: Iterable[str]) -> "BatchScores":
        """Several batches, at least one, as one.

        Args:
            parts: in order.
            names: of the detectors; all parts have scores of theirs.
        """
        return BatchScores(
            {name: torch.cat([part.scores[name] for part in parts]) for name in names},
            torch.cat([part.label for part in parts]),
            torch.cat([part.nonfinite for part in parts]),
            torch.cat([part.keys for part in parts]),
        )


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Result:
    """What one detector, or a combination of several, says of each sample.

    Attributes:
        score: (N,) float64; higher = more out-of-distribution, +inf where there is none.
        p_value: (N,) float64 in (0, 1]: how often an in-distribution sample scores as high, within
            the rounding of the model; the largest there is where calibration samples are copies.
        is_ood: (N,) bool: whether the score breaks the threshold that `calibrate` promised.
        label: (N,) int64, the class that the model predicts; −1 where its input or logits are not
            finite.
        status: per sample ``"ok"``, ``"nonfinite_input"`` or ``"nonfinite_score"``.
        class_conditional: (N,) bool: whether the promise holds within the predicted class, as the
            calibration had enough samples of it. Rare classes share a threshold, and the promise is
            on them together. False throughout unless calibrated per class.
        overrides: refusals that were overridden on the way here, with their reasons.
    """

    score: Tensor
    p_value: Tensor
    is_ood: Tensor
    label: Tensor
    status: tuple[Status, ...]
    class_conditional: Tensor
    overrides: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.status)

    def __repr__(self) -> str:
        lost = sum(status != "ok" for status in self.status)
        notes = [f"{int(self.is_ood.sum())} out-of-distribution"]
        notes += [f"{lost} without a score"] if lost else []
        notes += [f"{len(self.overrides)} overrides"] if self.overrides else []
        return f"Result({len(self)} samples: {', '.join(notes)})"

    def select(self, fdr: float = 0.1) -> Tensor:
        """Samples of this batch to call out-of-distribution, by Benjamini and Hochberg.

        Where `is_ood` bounds the share of false alarms among in-distribution samples, this bounds
        the expected share of false alarms among the samples selected. Samples without a finite
        score are always selected, which the bound does not cover.

        Args:
            fdr: false discovery rate, between 0 and 1.

        Returns:
            (N,) bool.
        """
        bad = torch.tensor(
            [status != "ok" for status in self.status], dtype=torch.bool, device="cpu"
        )
        return benjamini_hochberg(self.p_value, fdr) | bad


class Results(Mapping[str, Result]):
    """A `Result` per detector, and where the monitor combines them the combined one.

    ``results["line"].is_ood`` is one detector's decision. With ``combine=`` the attributes of
    `combined` are those of the mapping too: ``results.score``, ``.p_value``, ``.is_ood``.

    Attributes:
        combined: the one decision of all detectors, or None without ``combine=``.
        label: (N,) predicted classes.
        status: per sample, the worst over the detectors.
        overrides: refusals that were overridden.
    """

    def __init__(self, each: Mapping[str, Result], combined: Result | None = None) -> None:
        self._each = dict(each)
        self.combined = combined
        first = next(iter(self._each.values()))
        self.label: Tensor = first.label
        self.overrides: tuple[str, ...] = first.overrides
        rows = zip(*(result.status for result in self._each.values()), strict=True)
        self.status: tuple[Status, ...] = tuple(
            next((status for status in row if status != "ok"), "ok") for row in rows
        )

    def __getitem__(self, name: str) -> Result:
        return self._each[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._each)

    def __len__(self) -> int:
        return len(self._each)

    def __repr__(self) -> str:
        combined = "" if self.combined is None else ", combined"
        return f"Results({', '.join(self._each)}{combined}; {len(self.status)} samples)"

    @property
    def score(self) -> Tensor:
        """(N,) the combined statistic."""
        return self._combined("score").score

    @property
    def p_value(self) -> Tensor:
        """(N,) of the combined statistic."""
        return self._combined("p_value").p_value

    @property
    def is_ood(self) -> Tensor:
        """(N,) the combined decision."""
        return self._combined("is_ood").is_ood

    def select(self, fdr: float = 0.1) -> Tensor:
        """`Result.select` on the combined decision."""
        return self._combined("select").select(fdr)

    def _combined(self, name: str) -> Result:
        if self.combined is None:
            raise AttributeError(
                f"these results have no {name!r} of their own, as the detectors were not combined: "
                f"read results['{next(iter(self._each))}'].{name}, or make the monitor with "
                "combine='fisher'."
            )
        return self.combined
