"""P-values, decisions and fusion as tensor operations that a graph can hold.

A count of sorted values below each score takes two comparisons: with the last value of each block
of about √n, and with the values of the one block that is left.
"""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from gradood.calibration import Calibration, Fusion
from gradood.calibration._curve import Curve
from gradood.calibration._mondrian import Groups
from gradood.calibration._rule import DecisionRule
from gradood.calibration._vectors import PRECISIONS

__all__ = ["Decided", "RuleLookup"]


class Decided(NamedTuple):
    """Of a batch, by one part: all (batch,).

    Attributes:
        p_value: float64.
        is_ood: bool.
        class_conditional: bool.
    """

    p_value: Tensor
    is_ood: Tensor
    class_conditional: Tensor


class _Counts:
    """How many of a group's sorted values are below each value.

    Args:
        groups: ascending float64 vectors, one per group.
    """

    def __init__(self, groups: Sequence[Tensor]) -> None:
        longest = max(len(group) for group in groups)
        self._size = max(1, ceil(sqrt(longest)))
        blocks = ceil(longest / self._size)
        padded = torch.full((len(groups), blocks * self._size), torch.inf, dtype=torch.float64)
        for row, group in zip(padded, groups, strict=True):
            row[: len(group)] = group
        self._blocks = padded.view(len(groups), blocks, self._size)
        self._last = self._blocks[..., -1].contiguous()

    def below(self, values: Tensor, group: Tensor) -> Tensor:
        """(batch,) int64.

        Args:
            values: (batch,) float64 without NaN.
            group: (batch,) int64.
        """
        last = self._last[group]
        whole = (last < values[:, None]).long().sum(1).clamp_max(last.shape[1] - 1)
        part = self._blocks.flatten(0, 1)[group * last.shape[1] + whole]
        return whole * self._size + (part < values[:, None]).long().sum(1)


def _number(value: float) -> Tensor:
    """In float64: a number that is an option of an operation may be rounded to float32."""
    return torch.tensor(value, dtype=torch.float64, device="cpu")


class _GroupedCounts:
    """How many calibration samples of its class are not below each score.

    Args:
        groups: of a calibration.
        kind: what scores are rounded to.
        tolerance: see `Calibration`.
        classes: number of logits.
    """

    def __init__(self, groups: Groups, kind: torch.dtype, tolerance: float, classes: int) -> None:
        self._kind, self._tolerance = kind, _number(tolerance)
        ordered = [group.scores.to(kind).double() for group in groups.members]
        self._counts = _Counts(ordered)
        self._samples = torch.tensor([len(values) for values in ordered])
        self._infinite = torch.tensor([int(g.scores.isinf().sum()) for g in groups.members])
        self._ranks = torch.tensor([group.rank for group in groups.members])
        # The first place is that of a row without a label.
        labels = torch.arange(-1, classes)
        self._of = groups.rows(labels)
        self.own = groups.own(labels)

    def compared(self, scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Samples not below, samples, and deciding rank, as `Calibration` counts them."""
        values = scores if self._kind == torch.float64 else scores.to(self._kind).double()
        group = self._of[label + 1]
        samples = self._samples[group]
        above = samples - self._counts.below(values - self._tolerance, group)
        above = torch.where(values == torch.inf, self._infinite[group], above)
        return above, samples, self._ranks[group]


class _CalibrationLookup:
    """One calibration.

    Args:
        made: the calibration.
        classes: number of logits.
    """

    def __init__(self, made: Calibration, classes: int) -> None:
        kind, per_class = PRECISIONS[made.precision], made.per_class
        self._ranking = _GroupedCounts(made._ranking, kind, made.tolerance, classes)
        same = made._deciding is made._ranking
        self._deciding = (
            None if same else _GroupedCounts(made._deciding, kind, made.tolerance, classes)
        )
        own = (self._deciding or self._ranking).own
        self._own = own if per_class else torch.zeros_like(own)

    def decided(self, scores: Tensor, label: Tensor) -> Decided:
        """As `Calibration.decided`."""
        above, samples, rank = self._ranking.compared(scores, label)
        p_value = (above + 1).double() / (samples + 1).double()
        if self._deciding is not None:
            above, _, rank = self._deciding.compared(scores, label)
        return Decided(p_value, above < rank, self._own[label + 1])


class _CurveLookup:
    """One curve of a fusion.

    Args:
        curve: from a score to its summand.
        how: the combination.
    """

    def __init__(self, curve: Curve, how: str) -> None:
        self._curve, self._how = curve, how
        self._counts = _Counts([curve.knots])
        self._ends = curve.knots[0].clone(), curve.knots[-1].clone()
        self._scale, self._far = _number(curve.scale), _number(1e17)

    def __call__(self, scores: Tensor) -> Tensor:
        """As `Curve`."""
        curve = self._curve
        knots, values = curve.knots, curve.values
        first, last = self._ends
        excess = torch.minimum(((scores - last) / self._scale).clamp_min(0), self._far)
        inside = torch.minimum(torch.maximum(scores, first), last)
        group = torch.zeros_like(scores, dtype=torch.int64)
        right = self._counts.below(inside, group).clamp(min=1).clamp(max=len(knots) - 1)
        left = (right - 1).clamp(min=0)
        share = (inside - knots[left]) / (knots[right] - knots[left])
        low, high = values[left], values[right]
        between = torch.where(share < 1, torch.minimum(low + share * (high - low), high), high)
        return torch.where(scores > last, curve._beyond(excess, self._how), between)  # type: ignore[arg-type]


class _FusionLookup:
    """One fusion.

    Args:
        fusion: of several scores.
    """

    def __init__(self, fusion: Fusion) -> None:
        self._fusion = fusion
        self._curves = [_CurveLookup(curve, fusion.how) for curve in fusion.curves]

    def statistic(self, scores: Mapping[str, Tensor]) -> Tensor:
        """As `Fusion.statistic`, of scores that are finite or +inf."""
        total: Tensor | None = None
        bad: Tensor | None = None
        for name, curve in zip(self._fusion.names, self._curves, strict=True):
            own = scores[name]
            lost = own == torch.inf
            bad = lost if bad is None else bad | lost
            new = curve(torch.where(lost, 0.0, own))
            if total is None:
                total = new
            else:
                total = torch.maximum(total, new) if self._fusion.how == "min" else total + new
        assert total is not None
        assert bad is not None
        return torch.where(bad, torch.inf, total)


class RuleLookup:
    """A decision rule.

    Args:
        rule: that decides.
        classes: number of logits.
    """

    def __init__(self, rule: DecisionRule, classes: int) -> None:
        self._each = {name: _CalibrationLookup(c, classes) for name, c in rule.each.items()}
        self._tolerances = {name: _number(c.tolerance) for name, c in rule.each.items()}
        self._fusion = None if rule.fusion is None else _FusionLookup(rule.fusion)
        self._fused = None if rule.fused is None else _CalibrationLookup(rule.fused, classes)
        self._fewer = [RuleLookup(fewer, classes) for fewer in rule.fewer_copies]

    def statistic(self, scores: Mapping[str, Tensor]) -> Tensor | None:
        """(batch,) of the combination, or None."""
        return None if self._fusion is None else self._fusion.statistic(scores)

    def decided(self, name: str | None, scores: Mapping[str, Tensor], label: Tensor) -> Decided:
        """By one detector, or by the combination where the name is None.

        Args:
            name: of the detector.
            scores: of all of them.
            label: (batch,) int64, −1 where a row has none.
        """
        decision = self._own(name, scores, label)
        for rule in self._fewer:
            other = rule._own(name, scores, label)
            decision = Decided(
                torch.maximum(decision.p_value, other.p_value),
                decision.is_ood & other.is_ood,
                decision.class_conditional & other.class_conditional,
            )
        return decision

    def _own(self, name: str | None, scores: Mapping[str, Tensor], label: Tensor) -> Decided:
        if name is not None:
            return self._each[name].decided(scores[name], label)
        assert self._fusion is not None
        assert self._fused is not None
        least = {key: scores[key] - self._tolerances[key] for key in self._each}
        return self._fused.decided(self._fusion.statistic(least), label)
