"""Random order, augmentation and collation of the samples of a data set, each by position."""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard

from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from gradood.data import ColumnDataset, ImageDataset, Preprocess
from gradood.data._workers import in_worker
from gradood.data.dataloader import decoded_batches
from gradood.errors import DataError
from gradood.taps import Inputs
from gradood.training._inputs import sample_of, size_of
from gradood.training._pixmix import Mixer
from gradood.training._randomness import Order, seed_for, seeded
from gradood.training._sample_form import Label, SampleForm
from gradood.training.recipe import Augment

__all__ = ["Samples", "augmented", "decodes_alike", "image_of", "reads_alike"]

_CACHE_BYTES = 2**31


class Samples(Dataset[Any]):
    """A part of a data set in an endless random order, one permutation after another.

    The sample at a position, and how it is augmented, depend on the seed and that position alone:
    also where the data set draws from the global generators, which are seeded for each read.
    Decoded images are cached if all of them take no more than 2 GiB, and if they are known to be
    the same at every read: of this library's own data sets with its own preprocessing. Other data
    sets, which may have random transforms, are read anew every time.

    Args:
        dataset: map-style; items are images, or pairs or mappings of image and label.
        indices: the part of it.
        purpose: ``"id"``, whose items must have labels, or another name.
        seed: of the run.
        augment: see `Augment`.
        form: from items to inputs and labels; None for a single class of each.
        mixer: of PixMix, which comes last, or None.

    Raises:
        DataError: the part is empty.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        indices: Sequence[int],
        *,
        purpose: str,
        seed: int,
        augment: Augment | None = None,
        form: SampleForm | None = None,
        mixer: Mixer | None = None,
    ) -> None:
        if not len(indices):
            raise DataError(f"no {purpose} samples are left to train on; give more.")
        self.dataset = dataset
        self.indices = indices
        self.purpose = purpose
        self.order = Order(len(indices), seed=seed, purpose=purpose)
        self._seed = seed
        self._augment = augment
        self._mixer = mixer
        self.form = SampleForm() if form is None else form
        self._reads_alike = reads_alike(dataset)
        self._cacheable = decodes_alike(dataset)
        self._cache: dict[int, tuple[Any, Label]] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Any, Label]:
        """The input and label (−1 without one) at a position of the endless order."""
        place = self.order[position]
        if self._reads_alike:
            image, label = self.item(place)
        else:
            with seeded(self._seed, self.purpose, "read", position):
                image, label = self.item(place)
        if self._augment is not None and self._is_picture(image):
            rng = random.Random(seed_for(self._seed, self.purpose, "augment", position))
            image = augmented(image, self._augment, rng, self.form.black)
        if self._mixer is not None:
            image = self._mixer(image, position)
        return image, label

    def batch(self, positions: Iterable[int]) -> tuple[Inputs, Tensor]:
        """Inputs (n, …) and labels (n,) at some positions, decoded in this process."""
        return self._made(self._collate([self[position] for position in positions]))

    def batches(
        self, positions: Iterable[Sequence[int]], *, workers: int = 0
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """Batches at given positions, decoded ahead by worker processes if there are any."""
        # As they come: a long run has millions of positions.
        found = decoded_batches(self, positions, workers=workers, collate=self._collate)
        # Here, as a function of the user's need not pickle.
        return map(self._made, found)

    def where(self, position: int) -> str:
        """The image at a position, as an error message names it."""
        return f"image {self.indices[self.order[position]]} of the {self.purpose} data"

    def plain(self, places: Iterable[int]) -> tuple[Inputs, Tensor]:
        """Inputs (n, …) and labels (n,) at some places of the part, not augmented."""
        return self._made(self._collate([self.item(place) for place in places]))

    def _collate(self, items: list[tuple[Any, Label]]) -> tuple[Any, Tensor]:
        batch = self.form.collated([image for image, _ in items], self.dataset)
        return batch, self.form.stacked([label for _, label in items])

    def _made(self, batch: tuple[Any, Tensor]) -> tuple[Inputs, Tensor]:
        return self.form.inputs(batch[0]), batch[1]

    def _is_picture(self, image: Any) -> TypeGuard[Tensor]:
        """Whether a flipped copy is still an input of its class: never of columns or ids."""
        if not isinstance(image, Tensor) or not image.is_floating_point() or image.ndim < 2:
            return False
        return not _of_columns(self.dataset)

    def item(self, place: int) -> tuple[Any, Label]:
        """The input and label at a place of the part, not augmented.

        Raises:
            DataError: the image is none, or holds NaN or infinity; or it has no label.
        """
        if self._cache is not None and place in self._cache:
            return self._cache[place]
        item = self.dataset[self.indices[place]]
        image, label = self.form.sample(item), -1
        if not self.form.finite(image):
            # Here, as it would be in the statistics of batch norm before any loss shows it.
            raise DataError(
                f"image {self.indices[place]} of the {self.purpose} data holds NaN or infinity; "
                "expected numbers. Repair it, or leave it out."
            )
        if self.purpose == "id":
            label = self.form.label(item)
        # Only of this library's own data sets, whose samples are tensors.
        if self._cacheable and self._cache is None and not in_worker():
            self._cacheable = size_of(image) * len(self.indices) <= _CACHE_BYTES
            self._cache = {} if self._cacheable else None
        if self._cache is not None:
            self._cache[place] = image, label
        return image, label


def reads_alike(dataset: Any) -> bool:
    """Whether every read of an item is known to give the same.

    Args:
        dataset: of any kind; others than this library's and torch's plain ones may draw at random.
    """
    if isinstance(dataset, ConcatDataset):
        return all(map(reads_alike, dataset.datasets))
    if isinstance(dataset, Subset):
        return reads_alike(dataset.dataset)
    return decodes_alike(dataset) or isinstance(dataset, TensorDataset | list | tuple)


def decodes_alike(dataset: Any) -> bool:
    """Whether an image file is decoded at each read, with the same result every time.

    Args:
        dataset: of any kind; only this library's own, and parts of them, are known to do so.
    """
    if isinstance(dataset, ConcatDataset):
        return all(map(decodes_alike, dataset.datasets))
    if isinstance(dataset, Subset):
        return decodes_alike(dataset.dataset)
    own = isinstance(dataset, ImageDataset) and isinstance(dataset.preprocess, Preprocess)
    return own or isinstance(dataset, ColumnDataset)


def _of_columns(dataset: Any) -> bool:
    """Whether samples are rows of a table."""
    if isinstance(dataset, ConcatDataset):
        return any(map(_of_columns, dataset.datasets))
    if isinstance(dataset, Subset):
        return _of_columns(dataset.dataset)
    return isinstance(dataset, ColumnDataset)


def image_of(item: Any) -> Tensor:
    """The image in an item of a data set.

    Raises:
        DataError: there is none.
    """
    image = sample_of(item)
    if not isinstance(image, Tensor):
        raise DataError(
            f"an item of the data holds {', '.join(image)}, without an image tensor; expected one, "
            "named 'image'."
        )
    return image


def augmented(image: Tensor, augment: Augment, rng: random.Random, black: Tensor | None) -> Tensor:
    """A random crop of the padded image, then a flip; (channels, height, width) as before."""
    pad = augment.crop_padding
    top, left, flip = rng.randint(0, 2 * pad), rng.randint(0, 2 * pad), rng.random() < 0.5
    if pad and image.ndim == 3:
        height, width = image.shape[1:]
        padded = image.new_zeros(len(image), height + 2 * pad, width + 2 * pad)
        if black is not None:
            padded += black.to(image).view(-1, 1, 1)
        padded[:, pad : pad + height, pad : pad + width] = image
        image = padded[:, top : top + height, left : left + width]
    return image.flip(-1) if augment.flip and flip else image
