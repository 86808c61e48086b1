"""Options of the terms of a training loss."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from gradood.detectors.base import require
from gradood.errors import ConfigError

__all__ = ["Exposure", "Gradient", "Loss", "Margin", "Mixing", "Shaping", "Virtual"]

Auto = Literal["auto"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Margin:
    """Energy fine-tuning; see `EnergyMarginLoss`.

    Attributes:
        weight: λ_S.
        m_in: energy below which known samples should lie, or ``"auto"``: the mean of known samples
            under the starting network.
        m_out: energy above which outliers should lie, or ``"auto"``: the mean of theirs.
    """

    weight: float = 0.1
    m_in: float | Auto = "auto"
    m_out: float | Auto = "auto"

    def __post_init__(self) -> None:
        _weight(self.weight)
        _margins(self.m_in, self.m_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradient:
    """The gradient penalty; see `InputGradientPenalty`.

    Attributes:
        weight: λ_G.
        m_in: score at or below which known samples are active, or ``"auto"``.
        m_out: score at or above which outliers are active, or ``"auto"``.
        reduction: ``"released"`` or ``"paper"``.
        score: whose gradient is penalized; higher on outliers.
    """

    weight: float = 1.0
    m_in: float | Auto = "auto"
    m_out: float | Auto = "auto"
    reduction: Literal["released", "paper"] = "released"
    score: Literal["energy", "msp", "max-logit"] = "energy"

    def __post_init__(self) -> None:
        _weight(self.weight)
        _margins(self.m_in, self.m_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """Outlier exposure, times its weight; see `OutlierExposure`."""

    weight: float = 0.5

    def __post_init__(self) -> None:
        _weight(self.weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing:
    """MixOE; see `mix`.

    Attributes:
        weight: of the loss on mixed inputs.
        kind: how they are mixed.
        alpha: of the Beta distribution of the share.
    """

    weight: float = 5.0
    kind: Literal["linear", "cut"] = "linear"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _weight(self.weight)
        require(0 < self.alpha and isfinite(self.alpha), "alpha", self.alpha, "a number > 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Virtual:
    """VOS; see `VirtualOutliers`.

    Attributes:
        weight: of the loss.
        start: share of the run before it begins, 0 to below 1; queues fill from the start.
        queue: features kept per class.
        drawn: samples of which one outlier is kept.
    """

    weight: float = 0.1
    start: float = 0.4
    queue: int = 1000
    drawn: int = 10_000

    def __post_init__(self) -> None:
        _weight(self.weight)
        require(0 <= self.start < 1, "start", self.start, "a share in [0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shaping:
    """ISH; see `with_shaped_gradient`.

    Attributes:
        percentile: share of units that are not among the largest, 0 to below 100.
        pruned: whether the gradient of the others' weights is left out, as released.
    """

    percentile: float = 85
    pruned: bool = True

    def __post_init__(self) -> None:
        allowed = 0 <= self.percentile < 100
        require(allowed, "percentile", self.percentile, "a number from 0 to below 100")


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """Terms of the loss, which are added up; those that are None are left out.

    Attributes:
        classification: of known samples.
        label_smoothing: of the cross-entropy.
        temperature: of LogitNorm.
        margin: energy margins.
        gradient: gradient penalty.
        exposure: outlier exposure.
        mixing: mixtures in place of outliers.
        virtual: virtual outliers.
        shaping: of the features by which the head's weight learns.
    """

    classification: Literal["cross-entropy", "logit-norm"] = "cross-entropy"
    label_smoothing: float = 0.0
    temperature: float = 0.04
    margin: Margin | None = None
    gradient: Gradient | None = None
    exposure: Exposure | None = None
    mixing: Mixing | None = None
    virtual: Virtual | None = None
    shaping: Shaping | None = None

    def __post_init__(self) -> None:
        if self.mixing is not None and (self.margin or self.gradient or self.exposure):
            raise ConfigError(
                "mixing puts mixtures in the place of outliers, which margin, gradient and "
                "exposure need; expected it without them."
            )
        if self.shaping is not None and self.gradient is not None:
            raise ConfigError(
                "shaping changes the first derivative of the head's weight alone, and the gradient "
                "penalty takes a second one; expected one of the two."
            )

    @property
    def outliers(self) -> bool:
        """Whether auxiliary data is needed."""
        return any((self.margin, self.gradient, self.exposure, self.mixing))


def _weight(value: float) -> None:
    require(value >= 0 and isfinite(value), "weight", value, "a finite number ≥ 0")


def _margins(m_in: float | str, m_out: float | str) -> None:
    if isinstance(m_in, str) != isinstance(m_out, str):
        raise ConfigError(f"m_in={m_in!r}, m_out={m_out!r}; expected two numbers, or 'auto' twice.")
