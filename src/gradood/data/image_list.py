"""Images named line by line in a text file, as OpenOOD's benchmarks list theirs."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, final

from torch import Tensor

from gradood.data.files import ImageFiles
from gradood.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageList", "read_list"]

_BLANK = " \t\r"
_LABEL = re.compile(r"[+-]?[0-9]{1,9}")


def read_list(path: str | Path) -> list[tuple[str, int]]:
    """The lines of an image list: paths, and labels.

    A line is a path, a space, and a label; the path may hold spaces itself. Outliers have the label
    −1. Empty lines are passed over. Only a line feed ends a line, also after a carriage return: a
    path may hold the other characters that Unicode breaks lines at.

    Args:
        path: the list, UTF-8, with or without a byte order mark.

    Raises:
        DataError: it cannot be read, or a line is none of these; says which.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(
            f"the image list {str(path)!r} cannot be read: {why}; expected lines of a path and a "
            "label."
        ) from error
    found: list[tuple[str, int]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        given = line.strip(_BLANK)
        if not given:
            continue
        name, _, label = given.rpartition(" ")
        name = name.strip(_BLANK)
        if not (_LABEL.fullmatch(label) and _is_inside(name)):
            raise DataError(
                f"line {number} of {str(path)!r} is {given[:80]!r}; expected a path inside the "
                "folder of images, a space, and a whole number: 'cifar10/test/cat/0001.png 3'."
            )
        found.append((name, int(label)))
    return found


def _is_inside(name: str) -> bool:
    """Whether a path is one, and leads nowhere else."""
    usable = bool(name) and "\0" not in name
    return usable and not os.path.isabs(name) and ".." not in Path(name).parts


@final
class ImageList(ImageFiles):
    """Image files named in a list, in its order.

    Args:
        path: the list, see `read_list`.
        preprocess: from a Pillow image to a tensor; None for ``Preprocess()``.
        labeled: True to insist on labels ≥ 0, False to leave them, None to use them if all are.
        root: the folder that the paths are relative to; None for the list's own.

    Raises:
        DataError: the list cannot be read, is empty, or has no labels where they are needed.

    Cost: reads the list; whether the images are there is seen when they are read.
    """

    def __init__(
        self,
        path: str | Path,
        preprocess: Callable[["Image"], Tensor] | None = None,
        *,
        labeled: bool | None = None,
        root: str | Path | None = None,
    ) -> None:
        lines = read_list(path)
        self.root = Path(path).parent if root is None else Path(root)
        self._paths = [name for name, _ in lines]
        self._labels = [label for _, label in lines]
        known = bool(lines) and min(self._labels) >= 0
        if labeled and not known:
            raise DataError(
                f"the image list {str(path)!r} has no label, or negative ones; expected classes "
                "from 0. Without labels, pass labeled=False."
            )
        labeled = known if labeled is None else labeled
        super().__init__(len(lines), preprocess=preprocess, classes=None, labeled=labeled)
