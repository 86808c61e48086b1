"""Recipes: the options of a training run, except for the model and the data."""

from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

from gradood._io.records import OMIT
from gradood.detectors.base import require
from gradood.errors import ConfigError
from gradood.training._terms import Loss

__all__ = [
    "Augment",
    "Batch",
    "Checkpoint",
    "Ema",
    "Optimizer",
    "PixMix",
    "Recipe",
    "Sampling",
    "Schedule",
    "Validation",
]

_COUNT = "a whole number ≥ 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One optimizer step.

    Attributes:
        id: known samples, over all processes.
        aux_per_id: outliers for each of them.
        accumulate: parts, per process, in which a step is computed.
        statistics: ``"coupled"``: BatchNorm normalizes by the batch, known samples and outliers
            together, as published; ``"frozen"``: by its running statistics, which stay as they are.
    """

    id: int = 64
    aux_per_id: int = 1
    accumulate: int = 1
    statistics: Literal["coupled", "frozen"] = "coupled"

    def __post_init__(self) -> None:
        for option in ("id", "aux_per_id", "accumulate"):
            _count(getattr(self, option), option)
        require(self.accumulate <= self.id, "accumulate", self.accumulate, f"at most {self.id}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Selection of a step's outliers.

    Attributes:
        kind: ``"random"``, or ``"cluster-energy"``: see `ClusterEnergySampler`.
        candidates_per_id: candidates for each known sample.
        two_way: take both ends of the energy.
    """

    kind: Literal["random", "cluster-energy"] = "random"
    candidates_per_id: int = 6
    two_way: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """SGD or Adam.

    Attributes:
        kind: which.
        lr: at the start.
        momentum: of SGD.
        nesterov: of SGD.
        weight_decay: of all parameters.
        clip: largest norm of the gradient of all parameters, or None.
    """

    kind: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    clip: float | None = None

    def __post_init__(self) -> None:
        require(0 < self.lr and isfinite(self.lr), "lr", self.lr, "a number > 0")
        require(0 <= self.momentum < 1, "momentum", self.momentum, "a number in [0, 1)")
        _weight(self.weight_decay, "weight_decay")
        require(self.clip is None or self.clip > 0, "clip", self.clip, "a number > 0, or none")
        if self.kind == "sgd" and self.nesterov and not self.momentum:
            raise ConfigError(
                "nesterov=True with momentum=0; expected momentum, or nesterov=False."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Length of the run and schedule of the learning rate.

    Attributes:
        epochs: passes over the known data.
        steps: stop after so many steps, and let the schedule end there; None for whole epochs.
        kind: ``"cosine"`` per step, or ``"multi-step"`` per epoch.
        lr_min: at the end of the cosine.
        milestones: epochs after which the rate is multiplied by `gamma`.
        gamma: see `milestones`.
        warmup: steps over which the rate rises linearly to its value.
    """

    epochs: int = 20
    steps: int | None = None
    kind: Literal["cosine", "multi-step"] = "cosine"
    lr_min: float = 1e-6
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        _count(self.epochs, "epochs")
        require(self.steps is None or self.steps >= 1, "steps", self.steps, f"{_COUNT}, or none")
        _weight(self.lr_min, "lr_min")
        require(self.warmup >= 0, "warmup", self.warmup, "a whole number ≥ 0")
        increasing = list(self.milestones) == sorted({m for m in self.milestones if m > 0})
        require(increasing, "milestones", self.milestones, "epochs in increasing order")


@dataclass(frozen=True, kw_only=True, slots=True)
class PixMix:
    """Mixing of known images with changed copies and with pictures [hendrycks2022pixmix].

    Attributes:
        rounds: of mixing, at most; each number from 0 on is as likely.
        strength: β > 0 of the Beta distributions of the weights; a larger one leaves more of the
            image.
        severity: how much an image is changed before it is mixed in, 0.1 to 10.
    """

    rounds: int = 4
    strength: float = 3.0
    severity: float = 3.0

    def __post_init__(self) -> None:
        whole = type(self.rounds) is int and self.rounds >= 0
        require(whole, "rounds", self.rounds, "a whole number ≥ 0")
        strong = 0 < self.strength and isfinite(self.strength)
        require(strong, "strength", self.strength, "a finite number > 0")
        require(0.1 <= self.severity <= 10, "severity", self.severity, "a number from 0.1 to 10")


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Augmentation of each image that is trained on.

    Attributes:
        crop_padding: pixels of black around it before a random crop of its own size.
        flip: mirror it with probability ½.
        pixmix: mixing of the known images, after that; see `PixMix`.
    """

    crop_padding: int = 4
    flip: bool = True
    pixmix: PixMix | None = field(default=None, metadata={OMIT: True})

    def __post_init__(self) -> None:
        require(self.crop_padding >= 0, "crop_padding", self.crop_padding, "pixels ≥ 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ema:
    """An exponential moving average of the weights, which then is the trained network.

    Attributes:
        decay: share that stays at each step, in (0, 1).
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        require(0 < self.decay < 1, "decay", self.decay, "a number in (0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """Validation on data held out of both training sets; never on a test set.

    Attributes:
        id: known samples held out.
        aux: outliers held out.
        every: epochs between validations; the last epoch always has one.
        patience: stop after so many validations without a better FPR95; None never stops.
        keep: ``"last"`` network, or the ``"best"`` by FPR95.
    """

    id: int = 1000
    aux: int = 1000
    every: int = 1
    patience: int | None = None
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        for option in ("id", "aux", "every"):
            _count(getattr(self, option), option)
        require(self.patience is None or self.patience >= 1, "patience", self.patience, _COUNT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Checkpoints within an epoch, beside that at its end.

    Attributes:
        every: steps, or None.
    """

    every: int | None = 500

    def __post_init__(self) -> None:
        require(self.every is None or self.every >= 1, "every", self.every, f"{_COUNT}, or none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A training run, except for the model and the data.

    Attributes:
        name: its own.
        method: such as ``"greg"``.
        summary: one line.
        paper: citation key in `references.bib`, or None.
        deviations: from that paper, each one line.
        start: ``"trained"`` for fine-tuning, ``"scratch"``, or ``"either"``.
        version: of the recipe itself, raised with every change of a value.
        format: of the file.
        seed: of all random numbers.
        precision: ``"bf16"`` computes the model in it; energies and penalties stay in float32.
        batch: see `Batch`.
        loss: see `Loss`.
        sampling: see `Sampling`.
        optimizer: see `Optimizer`.
        schedule: see `Schedule`.
        augment: see `Augment`.
        ema: see `Ema`, or None.
        validation: see `Validation`.
        checkpoint: see `Checkpoint`.
    """

    name: str
    method: str
    summary: str = ""
    paper: str | None = None
    deviations: tuple[str, ...] = ()
    start: Literal["trained", "scratch", "either"] = "either"
    version: int = 1
    format: Literal[1] = 1
    seed: int = 0
    precision: Literal["float32", "bf16"] = "float32"
    batch: Batch = field(default_factory=Batch)
    loss: Loss = field(default_factory=Loss)
    sampling: Sampling = field(default_factory=Sampling)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    augment: Augment = field(default_factory=Augment)
    ema: Ema | None = None
    validation: Validation = field(default_factory=Validation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    def __post_init__(self) -> None:
        clustered = self.sampling.kind == "cluster-energy"
        if clustered and self.batch.aux_per_id != 2:
            raise ConfigError(
                f"aux_per_id is {self.batch.aux_per_id}; the cluster-energy sampler gives exactly "
                "2 outliers for each known sample: set batch.aux_per_id = 2."
            )
        if self.loss.mixing is not None and (clustered or self.batch.aux_per_id != 1):
            raise ConfigError(
                "mixing pairs each known sample with one outlier; expected batch.aux_per_id = 1 "
                "and random sampling."
            )


def _weight(value: float, option: str) -> None:
    require(value >= 0 and isfinite(value), option, value, "a finite number ≥ 0")


def _count(value: int, option: str) -> None:
    require(value >= 1, option, value, _COUNT)
