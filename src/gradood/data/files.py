"""Image files of their own, wherever their names come from."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gradood.data.content import digest_of_files
from gradood.data.dataset import ImageDataset

__all__ = ["ImageFiles"]


class ImageFiles(ImageDataset):
    """One file per image.

    Attributes:
        root: the folder that their paths are relative to.
    """

    root: Path
    _paths: list[str]
    _labels: list[int]

    def _encoded(self, row: int) -> Path:
        return self.root / self._paths[row]

    def _label(self, row: int) -> int:
        return self._labels[row]

    def _all_labels(self) -> Tensor:
        return torch.tensor(self._labels, dtype=torch.int64)

    def _name(self, row: int) -> str:
        return self._paths[row]

    def _where(self, row: int) -> str:
        return f"the image {str(self.root / self._paths[row])!r}"

    def _content(self, rows: Sequence[int]) -> str:
        return digest_of_files([self.root / self._paths[row] for row in rows])
