"""The mean feature of the fit samples, as an origin from which others are seen."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradood.detectors._shared.labels import present
from gradood.errors import DataError
from gradood.functional.moments import ClassMoments, Extremes

__all__ = ["Center"]

_ROUNDING = 1e-6
"""Range, relative to size, that float32 features have where nothing differs."""


@dataclass(frozen=True, eq=False, slots=True)
class Center:
    """Of the features: the mean, and the range of each."""

    mean: ClassMoments
    range: Extremes

    @staticmethod
    def of(features: Tensor) -> "Center":
        """That of one batch."""
        bounds = Extremes(features.amin(0), features.amax(0))
        return Center(ClassMoments.together(features), bounds)

    def origin(self, method: str, use: str | None) -> Tensor:
        """The mean feature (width,).

        Args:
            method: name of the detector.
            use: what it does with the difference from the mean, as in "divides by the distance to
                the mean feature"; None if it does nothing with it.

        Raises:
            DataError: no sample, features that are not finite, or all the same where that matters.
        """
        present(self.mean, method)
        low, high = self.range.low, self.range.high
        size = torch.maximum(low.abs(), high.abs()).amax()
        if use is not None and not bool(((high - low) > _ROUNDING * size).any()):
            raise DataError(
                f"{method} {use}, and all {int(self.mean.count[0])} fit samples have the same "
                "features, which are that mean; give several different samples that the network "
                "responds to."
            )
        return self.mean.mean[0].clone()
