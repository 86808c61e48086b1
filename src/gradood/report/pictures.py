"""Images of the sets that a record names, from where they lay when it was made."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from gradood.bench._record_inputs import OutlierSetRecord, SetRecord
from gradood.bench.record import Record
from gradood.data import ImageDataset, Preprocess, open_images
from gradood.data._extras import pillow
from gradood.data._storage import file_digest
from gradood.data.sources import split_slice
from gradood.errors import DataError, GradoodError, GradoodWarning

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Pictures"]


@final
@dataclass(frozen=True, eq=False, slots=True)
class Pictures:
    """What `Report.of` takes as images: gives those of a set at some positions.

    Attributes:
        opened: data sets by name.
        missing: name of a set → why its images are not at hand.
    """

    opened: Mapping[str, ImageDataset]
    missing: Mapping[str, str]

    @staticmethod
    def of(
        record: Record | Mapping[str, Any],
        root: str | Path = ".",
        *,
        folders: Mapping[str, str] | None = None,
        image_column: str = "image",
    ) -> "Pictures":
        """Find the images of a record; a set whose images are gone or have changed is missing.

        Args:
            record: of a run, or what ``arena.json`` holds.
            root: what the paths of the suite are relative to; sets of the user's own are relative
                to the working directory.
            folders: path of a list of images → the folder of these images, relative to the root.
            image_column: of Parquet files.
        """
        suite = Record.of(record).suite
        sets: dict[str, SetRecord | OutlierSetRecord] = {"id": suite.id}
        sets |= {entry.name: entry for entry in suite.ood}
        opened: dict[str, ImageDataset] = {}
        missing: dict[str, str] = {}
        for name, entry in sets.items():
            source = str(Path(root) / entry.path) if entry.rooted else entry.path
            if not split_slice(source)[0].exists():
                source = entry.path
            folder = (folders or {}).get(entry.path) or entry.images
            folder = folder if entry.rooted else None
            try:
                images = open_images(
                    source,
                    Preprocess(),
                    labeled=False,
                    image_column=image_column,
                    root=None if folder is None else Path(root) / folder,
                )
                opened[name] = _same(images, entry, source)
            except GradoodError as error:
                missing[name] = str(error)
        return Pictures(opened, missing)

    def __call__(self, name: str, indices: list[int]) -> "Sequence[Image]":
        """The images at these positions of a set; none if they are not at hand.

        Warns if one of them can be decoded no longer: a page without thumbnails is a page.
        """
        if name not in self.opened:
            return []
        try:
            return [_image(self.opened[name], index) for index in indices]
        except DataError as error:
            warnings.warn(f"no thumbnails of {name}: {error}", GradoodWarning, stacklevel=2)
            return []


def _same(images: ImageDataset, entry: SetRecord | OutlierSetRecord, source: str) -> ImageDataset:
    """The images that were scored, unless these are others."""
    if len(images) < entry.n:
        raise DataError(f"{source!r} holds {len(images)} images, and {entry.n} were scored.")
    file = split_slice(source)[0]
    if entry.sha256 is not None and file.is_file() and file_digest(file) != entry.sha256:
        raise DataError(f"{source!r} has changed since it was scored.")
    return images[: entry.n]


def _image(images: ImageDataset, index: int) -> "Image":
    item = images[index]
    pixels = item[0] if isinstance(item, tuple) else item
    array = (255 * pixels).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return pillow().fromarray(array)
