"""Image files of their own, wherever their names come from."""

import os
from collections.abc import Iterator, Sequence
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

    def _origins(self, rows: Sequence[int]) -> Iterator[str]:
        folders: dict[str, str] = {}  # Few, where resolving takes a look at each folder above.
        for row in rows:
            path = os.path.join(self.root, self._paths[row])
            if os.path.islink(path):
                yield os.path.realpath(path)
                continue
            above, name = os.path.split(path)
            if above not in folders:
                folders[above] = os.path.realpath(above)
            yield os.path.join(folders[above], name)
