"""A model as it was opened, and how its inputs are made."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from gradood.errors import ConfigError
from gradood.models.zoo import Reference

__all__ = ["OVERRIDING", "OpenedModel"]

OVERRIDING = ("resize", "crop", "mean", "std", "interpolation")
"""Options of `gradood.data.Preprocess` which, all given, make a configuration unnecessary."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class OpenedModel:
    """A model and what its source says of it.

    Attributes:
        model: as it was made; its mode and device are the maker's.
        inputs: given the names of the options that are settled already, what the model's own
            configuration says of the others, as keyword arguments of `gradood.data.Preprocess`.
        shape: channels, height and width of one input, if known.
        trained: whether it has its weights already; None for a factory of one's own, of which
            nobody knows.
        weights: the files these came from.
        reference: its record, if it is one of the library's own.
    """

    model: nn.Module
    inputs: Callable[[Collection[str]], Mapping[str, Any]] = field(default=lambda given: {})
    shape: tuple[int, int, int] | None = None
    trained: bool | None = None
    weights: tuple[Path, ...] = ()
    reference: Reference | None = None

    def preprocess(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options of `gradood.data.Preprocess`: those given, the others as it was trained.

        Raises:
            ConfigError: its configuration asks for what `Preprocess` cannot do, or leaves a choice
                open, and `given` does not settle it.
        """
        if given.keys() >= set(OVERRIDING):
            return dict(given)
        try:
            return {**self.inputs(given.keys()), **given}
        except ConfigError as error:
            flags = ", ".join(f"--{name}" for name in OVERRIDING)
            raise ConfigError(f"{error} Or give {flags} yourself.") from error
