"""A layer that the user names: the head, or one whose output are the features."""

from dataclasses import dataclass

from gradood.errors import ConfigError

__all__ = ["FeatureLayer", "named_layer"]


@dataclass(frozen=True, slots=True)
class FeatureLayer:
    """A layer whose output is to be the features, where no linear layer takes them.

    Attributes:
        name: of the module, as in `named_modules()`.
    """

    name: str


def named_layer(head: str | None, features: str | None) -> str | FeatureLayer | None:
    """The layer that the user names: a head, or one whose output are the features.

    Raises:
        ConfigError: both are given, or one that is no name.
    """
    for option, value, example in (("head", head, "fc"), ("features", features, "pool")):
        if not (value is None or isinstance(value, str)):
            raise ConfigError(
                f"{option}={value!r}; expected the name of a layer, such as {example!r}."
            )
    if head is not None and features is not None:
        raise ConfigError(
            f"head={head!r} and features={features!r}: the head takes the features; name one."
        )
    return head if features is None else FeatureLayer(features)
