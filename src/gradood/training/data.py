"""The data of a run: what is trained on, and what is held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gradood.errors import DataError
from gradood.training.class_overlap import class_names
from gradood.training.recipe import Recipe
from gradood.training.samples import Samples
from gradood.training.seeds import generator_for
from gradood.training.validation import HeldOut

__all__ = ["Material", "TrainingData"]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TrainingData:
    """What a user gives to train on.

    Attributes:
        id: map-style data set of known samples, (image, label) each.
        aux: of auxiliary outliers, whose labels are not used; None for methods without. It must
            hold no test set, and should hold no known class.
        black: value per channel of a black pixel, for the padding of random crops; None for 0.
        id_classes: names of the known classes; None for those of the data set, if it has any.
        aux_classes: names of the outliers' classes, likewise.
    """

    id: Dataset[Any]
    aux: Dataset[Any] | None = None
    black: Tensor | None = None
    id_classes: Sequence[str] | None = None
    aux_classes: Sequence[str] | None = None

    def names(self) -> tuple[Sequence[str] | None, Sequence[str] | None]:
        """Of the known and of the auxiliary classes, as far as they are known."""
        ours = self.id_classes if self.id_classes is not None else class_names(self.id)
        theirs = self.aux_classes if self.aux_classes is not None else class_names(self.aux)
        return ours, theirs


class Material:
    """Samples to train on, and samples held out of the same sets, chosen by the recipe's seed.

    Args:
        data: see `TrainingData`.
        recipe: its seed, augmentation, batch and validation.

    Raises:
        DataError: a set is missing, has no length, or is too small.
    """

    def __init__(self, data: TrainingData, recipe: Recipe) -> None:
        if recipe.loss.outliers and data.aux is None:
            raise DataError(
                f"method {recipe.method!r} needs auxiliary outliers, and none were given; give "
                "them (--aux), or choose plain, logit-norm or vos."
            )
        self._recipe = recipe
        self._data = data
        self.known, known_held = self._split(data.id, "id", recipe.validation.id)
        self.outliers: Samples | None = None
        aux_held = None
        if data.aux is not None:
            self.outliers, aux_held = self._split(data.aux, "aux", recipe.validation.aux)
        self.held = HeldOut(known_held, aux_held)

    @property
    def counts(self) -> dict[str, int]:
        """How many samples of each kind, for the record."""
        found = {"id": len(self.known), "id_held_out": len(self.held.id)}
        if self.outliers is not None and self.held.aux is not None:
            found |= {"aux": len(self.outliers), "aux_held_out": len(self.held.aux)}
        return found

    def example(self) -> Tensor:
        """The first images of the known samples, at most 2, (n, …)."""
        return self.known.plain(range(min(2, len(self.known))))[0]

    def check_alike(self) -> None:
        """Whether outliers have the shape and the type of known images.

        Raises:
            DataError: they have not.
        """
        if self.outliers is None:
            return
        known, outlier = self.known.item(0)[0], self.outliers.item(0)[0]
        if known.shape != outlier.shape or known.dtype != outlier.dtype:
            pair = [f"{tuple(image.shape)} {image.dtype}" for image in (known, outlier)]
            raise DataError(
                f"known images are {pair[0]}, outliers {pair[1]}; expected one shape and one "
                "type, as they make up one batch. Preprocess both alike."
            )

    def _split(self, dataset: Dataset[Any], purpose: str, held: int) -> tuple[Samples, Samples]:
        size = _size(dataset, purpose)
        if size < 2 * held:
            raise DataError(
                f"{size} {purpose} samples, of which {held} are to be held out for validation; "
                f"expected at least {2 * held}. Give more, or set validation.{purpose} lower."
            )
        generator = generator_for(self._recipe.seed, "hold out", purpose)
        order = torch.randperm(size, generator=generator).tolist()
        train = Samples(
            dataset,
            order[held:],
            purpose=purpose,
            seed=self._recipe.seed,
            augment=self._recipe.augment,
            black=self._data.black,
        )
        seed = self._recipe.seed
        return train, Samples(dataset, sorted(order[:held]), purpose=purpose, seed=seed)


def _size(dataset: Any, purpose: str) -> int:
    try:
        return len(dataset)
    except TypeError:
        raise DataError(
            f"the {purpose} data is a {type(dataset).__name__} without a length; expected a "
            "map-style data set, as samples are drawn from it at random."
        ) from None
