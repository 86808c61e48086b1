"""The monitor run on images of one size, in smaller pieces where the memory runs out."""

import logging
from collections.abc import Iterator
from typing import Any, final

import torch
from torch import Tensor

from gradood.batch.columns import Judge

__all__ = ["Forward"]

_LOG = logging.getLogger(__name__)
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


@final
class Forward:
    """Predictions of at most `limit` images at once.

    Args:
        monitor: what predicts.
        limit: images at once; halved, for good, when the memory does not suffice.
    """

    def __init__(self, monitor: Judge, limit: int) -> None:
        self._monitor = monitor
        self.limit = limit
        self._told = False

    def __call__(self, x: Tensor) -> Iterator[tuple[int, Any]]:
        """Each piece's length and prediction, in order.

        Args:
            x: (images, channels, height, width).

        Raises:
            MemoryError: or what else says so: not even one image fits.
            DataError: the model cannot take such images.
        """
        start = 0
        while start < len(x):
            piece = x[start : start + self.limit]
            answer = self._tried(piece)
            if answer is None:
                self._halve(len(piece))
                continue
            yield len(piece), answer
            start += len(piece)

    def _tried(self, piece: Tensor) -> Any:
        try:
            return self._monitor.predict(piece)
        except (RuntimeError, MemoryError, ValueError) as error:
            if len(piece) == 1 or not _out_of_memory(error):
                raise
        return None  # Only here is the error, and what its frames hold, let go.

    def _halve(self, tried: int) -> None:
        self.limit = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self._told:
            _LOG.warning(
                "out of memory with %d images at once; going on with %d, and fewer if need be",
                tried,
                self.limit,
            )
            self._told = True


def _out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
            return True
        if any(word in str(error).lower() for word in _WORDS):
            return True
        error = error.__cause__
    return False
