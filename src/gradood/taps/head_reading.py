"""What a head takes in a forward, and the features made of it."""

from typing import cast

from torch import Tensor

from gradood.errors import TapError
from gradood.taps.head import Head, deviation, rounding

__all__ = ["HeadReading", "mask_of"]


class HeadReading:
    """What a head takes in one forward, and the features made of it once the logits are known.

    Args:
        head: verified.
        mask: (batch, positions), which positions count; None if all do.
    """

    def __init__(self, head: Head, mask: Tensor | None = None) -> None:
        self.head = head
        self._mask = mask
        self._seen: Tensor | None = None

    def __call__(self, seen: Tensor) -> None:
        """Note what the head's layer takes.

        A copy: models may go on to change it, such as to normalize it.
        """
        self._seen = seen.clone() if seen.ndim == 3 else self.head.features(seen).clone()

    def features(self, logits: Tensor) -> Tensor:
        """(batch, width), with their graph.

        Args:
            logits: (batch, classes), the model's.

        Raises:
            TapError: the head gives logits at every position, and the model's own are not those of
                the positions that it took for the example.
        """
        if self.head.form == "output":
            return logits
        seen = cast("Tensor", self._seen)
        if seen.ndim != 3:
            return seen
        features = self.head.features(seen, logits, mask_of(seen, self._mask))
        if self.head.form == "named":
            return features
        off = deviation(self.head, features, logits)
        if off > 4 * rounding(logits, seen):
            raise TapError(
                f"the features of this batch cannot be told: by {self.head.reduction!r} of what "
                f"{self.head.layer!r} takes, as on the first inputs, the logits are off by "
                f"{off:.1e} of the largest. Let the model pool before its last linear layer, or "
                "give it an attention_mask."
            )
        return features


def mask_of(seen: Tensor, mask: Tensor | None) -> Tensor | None:
    """The mask of a batch, if it is over the positions that a layer takes.

    Args:
        seen: (batch, positions, width), what the layer takes.
        mask: (batch, length), or None.
    """
    alike = mask is not None and seen.ndim == 3 and seen.shape[:2] == mask.shape
    return mask.to(seen.device) if alike and mask is not None else None
