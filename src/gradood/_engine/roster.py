"""Detectors by name: what a user gives, which names are allowed, and how scores are combined."""

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

from torch import Tensor, nn

from gradood._io.arguments import type_named
from gradood.calibration._curve import How
from gradood.detectors.base import Detector, Plan
from gradood.errors import (
    ConfigError,
    MeaninglessScoreWarning,
    TapError,
    UnknownNameError,
    suggest,
    warn_caller,
)
from gradood.evidence import of_outputs
from gradood.registry import create, methods
from gradood.taps import Link, Network

__all__ = [
    "Detectors",
    "SeveralDetectors",
    "USABLE",
    "combination",
    "require_head",
    "require_link",
    "require_reads",
    "roster",
    "usable_name",
    "warn_of_one_output",
]

SeveralDetectors = Sequence[str | Detector] | Mapping[str, str | Detector]
"""Several detectors, or several by names of their own."""

Detectors = str | Detector | SeveralDetectors
"""A registry name or a detector, several of them, or several by names of their own."""

USABLE = "a printable name without a slash or a bar"
"""What detectors and data sets may be called: a name is part of the names of tensors in files, a
key of records, a column, and a cell of tables."""


def usable_name(name: object) -> bool:
    """Whether a detector or a data set may be called so; see `USABLE`."""
    if not isinstance(name, str):
        return False
    return name.isprintable() and bool(name.strip()) and not {"/", "|"} & set(name)


def roster(detectors: Detectors) -> tuple[dict[str, Detector], bool]:
    """The detectors by name, and whether a single one was given without a list or mapping.

    Raises:
        UnknownNameError: no detector of that name; ``"all"`` stands for every method.
        ConfigError: no detector, two of one name, or a name that files cannot hold.
    """
    if isinstance(detectors, str) and detectors == "all":
        return {method.name: create(method.name) for method in methods()}, False
    if isinstance(detectors, str | Detector):
        detector = _detector(detectors)
        return _checked({detector.name: detector}), True
    if isinstance(detectors, Mapping):
        return _checked({name: _detector(value) for name, value in detectors.items()}), False
    if not isinstance(detectors, Iterable) or isinstance(detectors, nn.Module | Tensor | type):
        raise _no_detector(detectors)
    named: dict[str, Detector] = {}
    for detector in map(_detector, detectors):
        if detector.name in named:
            raise ConfigError(
                f"two detectors are called {detector.name!r}; give a mapping "
                f"{{'{detector.name}': …, '{detector.name}-2': …}} to name them."
            )
        named[detector.name] = detector
    return _checked(named), False


def require_link(detector: Detector, link: Link) -> None:
    """Refuse a detector whose score is not defined for the outputs of a model.

    Args:
        detector: any.
        link: what makes probabilities of the outputs.

    Raises:
        TapError: says what it reads, and what runs instead.
    """
    if link in detector.runs_on:
        return
    name = detector.name
    if link == "none":
        needs = [need for need in _needs(detector) if need in ("head", "labels", "logits")]
        reads = " and ".join(needs or ["gradients of the largest logit"])
        raise TapError(
            f"{name} reads {reads} of classes, and with link='none' the model has none. Methods of "
            f"the features run: {_running_on(link)}. Leave {name} out."
        )
    advice = f"Those that run: {_running_on(link)}. Leave {name} out."
    if detector.rescores:
        advice = f"Name one that is defined, such as score='joint-energy'. {advice}"
    raise TapError(
        f"{name} is defined for classes that exclude one another, as under a softmax; with "
        f"link='sigmoid' several may hold at once. {advice}"
    )


def require_head(detector: Detector, network: Network) -> None:
    """Refuse a detector that reads the head's weights of a model whose features alone are named.

    Args:
        detector: any.
        network: the observed model.

    Raises:
        TapError: says what runs instead.
    """
    if network.head_found or not network.features_found or "head" not in _needs(detector):
        return
    raise TapError(
        f"{detector.name} reads the weights of a last linear layer, and of this model the features "
        f"alone are named (features={network.head.layer!r}). Methods of features and logits run, "
        f"such as knn, mahalanobis++ and relation. Leave {detector.name} out."
    )


def _needs(detector: Detector) -> tuple[str, ...]:
    return getattr(detector, "needs", ())


def require_reads(detector: Detector, plan: Plan, link: Link) -> None:
    """Refuse a detector that would read class logits of a model that has none.

    Args:
        detector: any.
        plan: what it reads.
        link: what makes probabilities of the outputs.

    Raises:
        TapError: it reads logits, or gradients of them.
    """
    if link == "none" and any(map(of_outputs, (*plan.reads, *plan.fit_reads))):
        raise TapError(
            f"{detector.name} would read class logits, or gradients of them, and with link='none' "
            f"the model's outputs are none. Leave {detector.name} out."
        )


def _running_on(link: Link) -> str:
    return ", ".join(method.name for method in methods() if link in method.links)


def warn_of_one_output(network: Network, labels: Tensor | None) -> None:
    """Warn that a single output is read as two classes, where no label says that it is such.

    Args:
        network: the observed model.
        labels: (batch,) of the first batch, or None.
    """
    if not network.paired or (labels is not None and set(labels.unique().tolist()) <= {0, 1}):
        return
    warn_caller(
        "the model has one output z, which is read as the logits (0, z) of two classes; nothing "
        "says that it is such. Name link='softmax' if it is, 'sigmoid' if it is one label that may "
        "hold or not, or 'none' if it is a regression.",
        MeaninglessScoreWarning,
    )


def combination(how: How | None, detectors: int) -> How | None:
    """How so many detectors are combined.

    Raises:
        ConfigError: there is no such way, or too few detectors.
    """
    if how is None:
        return None
    if how not in get_args(How):
        raise ConfigError(f"combine={how!r}; {suggest(str(how), get_args(How))}")
    if detectors < 2:
        raise ConfigError(f"combine={how!r} with one detector; give several, or None.")
    return how


def _checked(named: dict[str, Detector]) -> dict[str, Detector]:
    if not named:
        raise ConfigError("no detector was given; name at least one, such as 'energy'.")
    unusable = [name for name in named if not usable_name(name)]
    if unusable:
        raise ConfigError(f"a detector is called {unusable[0]!r}; expected {USABLE}.")
    return named


def _detector(value: object) -> Detector:
    if isinstance(value, str):
        if value.count(","):
            names = [name.strip() for name in value.split(",")]
            raise UnknownNameError(f"no detector {value!r}; give a list: {names!r}.")
        return create(value)
    if isinstance(value, Detector):
        return value
    raise _no_detector(value)


def _no_detector(value: object) -> ConfigError:
    """The error for what is no detector, with what to type instead."""
    if isinstance(value, type) and issubclass(value, Detector):
        own = getattr(value, "name", "")
        return ConfigError(
            f"the class {value.__name__} is no detector; give a registry name or an instance: "
            f"{own!r}, or gradood.{value.__name__}()."
        )
    shown = f"{value!r}" if not isinstance(value, nn.Module | Tensor) else type_named(value)
    hint = (
        " The model comes first: Monitor(model, 'energy')." if isinstance(value, nn.Module) else ""
    )
    return ConfigError(f"{shown[:80]} is no detector; give a registry name or an instance.{hint}")
