"""What is known of how images became a model's inputs."""

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any

from gradood.errors import ConfigError
from gradood.taps import Network

__all__ = ["check_preprocess", "preprocessed"]


def check_preprocess(preprocess: Mapping[str, Any] | None) -> None:
    """Refuse what does not say how inputs were made.

    Raises:
        ConfigError: it is no mapping, or of columns without their kind.
    """
    if preprocess is None:
        return
    if not isinstance(preprocess, Mapping):
        raise ConfigError(
            f"preprocess={preprocess!r}; expected a mapping, such as preprocess.to_dict() gives of "
            "a gradood.data.Preprocess."
        )
    if "kind" not in preprocess and not preprocess.keys().isdisjoint(("column", "numbers")):
        raise ConfigError(
            "preprocess is of columns and does not say of which kind; give what to_dict() of the "
            "input gives, not dataclasses.asdict."
        )


def preprocessed(network: Network, preprocess: Mapping[str, Any] | None) -> Network:
    """The network, with what is known of how images become its inputs.

    Args:
        network: the observed model.
        preprocess: options of `gradood.data.Preprocess`, or other plain values; None if unknown.
    """
    if preprocess is None or "std" not in preprocess:
        return network
    given = preprocess["std"]
    try:
        std = (1.0,) if given is None else tuple(map(float, given))
    except (TypeError, ValueError):  # A user's own words for it.
        return network
    usable = std and all(0 < value and isfinite(value) for value in std)
    return replace(network, input_std=std) if usable else network
