"""Where the positions of a layer's output lie in an image or a sequence."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from gradood.errors import DataError
from gradood.taps import Inputs

__all__ = ["Grid", "grid_of", "image_size", "upsampled"]

_MOST_TOKENS = 16
"""Tokens before the patches at most: a class token, a distillation token, registers."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How the positions of a tensor (batch, …) lie over the input.

    Attributes:
        channels: dimension of the channels, batch included.
        first: positions before those of the grid, such as a class token.
        rows: of the grid; 1 for a sequence.
        columns: of the grid; the length of a sequence.
    """

    channels: int
    first: int
    rows: int
    columns: int

    def over(self, tensor: Tensor, image: tuple[int, int] | None) -> "Grid":
        """The grid of a tensor of the same layer, of inputs of another size.

        Args:
            tensor: (batch, …).
            image: height and width of these inputs, or None for sequences.

        Raises:
            DataError: its positions do not lie over them.
        """
        found = grid_of(tuple(tensor.shape[1:]), self.channels, image)
        if found is not None:
            return found
        count = tensor[0].numel() // tensor.shape[self.channels] - self.first
        if count == self.size:
            return self
        if count != 1:
            raise DataError(
                f"inputs of this size leave {count} positions at a layer, which do not lie over "
                "them as a grid; map inputs of the size that the model was fitted on."
            )
        return replace(self, rows=1, columns=1)

    @property
    def size(self) -> int:
        """Positions in the grid."""
        return self.rows * self.columns

    def positions(self, tensor: Tensor) -> Tensor:
        """(batch, positions, channels), those before the grid included."""
        return torch.movedim(tensor, self.channels, -1).flatten(1, -2)

    def restored(self, values: Tensor, like: Tensor) -> Tensor:
        """The opposite of `positions`, in the shape of a tensor."""
        moved = torch.movedim(like, self.channels, -1)
        return torch.movedim(values.reshape(moved.shape), -1, self.channels)

    def folded(self, values: Tensor) -> Tensor:
        """(batch, rows, columns) of (batch, positions)."""
        return values[:, self.first :].unflatten(1, (self.rows, self.columns))


def grid_of(shape: tuple[int, ...], channels: int, image: tuple[int, int] | None) -> Grid | None:
    """The grid of a tensor; None where its positions do not lie over the input.

    Args:
        shape: without the batch.
        channels: dimension of the channels, batch included.
        image: height and width of the input, or None for a sequence.
    """
    if len(shape) == 3 and image is not None:
        spatial = [size for dim, size in enumerate(shape, 1) if dim != channels]
        return Grid(channels, 0, *spatial) if spatial[0] * spatial[1] > 1 else None
    if len(shape) != 2:
        return None
    if image is None:
        length = shape[2 - channels]
        return Grid(channels, 0, 1, length) if length > 1 else None
    for dim in (channels, 3 - channels):
        for first in range(_MOST_TOKENS + 1):
            rows = _rows(shape[2 - dim] - first, image)
            if rows:
                return Grid(dim, first, rows, (shape[2 - dim] - first) // rows)
    return None


def _rows(count: int, image: tuple[int, int]) -> int:
    """Rows of a grid of so many square patches over an image; 0 if there is none."""
    height, width = image
    for rows in range(2, height + 1):
        if rows * rows * width > count * height:
            break
        if count % rows == 0 and rows * width == (count // rows) * height:
            return rows
    return 0


def image_size(x: Inputs) -> tuple[int, int] | None:
    """Height and width of a batch of images; None of anything else."""
    images = isinstance(x, Tensor) and x.ndim == 4 and x.is_floating_point()
    return (x.shape[2], x.shape[3]) if images and isinstance(x, Tensor) else None


def upsampled(low: Tensor, size: tuple[int, int]) -> Tensor:
    """(batch, height, width), interpolated bilinearly between the centers of the cells.

    Args:
        low: (batch, rows, columns).
        size: height and width.
    """
    return F.interpolate(low[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
