"""Data of a run: its split into training and validation samples, and its fingerprint."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)

from gradood._engine.forms import ModelInput
from gradood.data import ImageDataset, ParquetImages
from gradood.errors import ConfigError, DataError
from gradood.taps import Inputs, Link
from gradood.training._class_overlap import class_names
from gradood.training._inputs import Sample, described, fills_of, mean_of, sample_of
from gradood.training._outputs import Outputs
from gradood.training._pixmix import Mixer
from gradood.training._randomness import generator_for
from gradood.training._sample_form import SampleForm
from gradood.training._samples import Samples, reads_alike
from gradood.training._validation import HeldOut
from gradood.training.recipe import Recipe

__all__ = ["DataSplit", "TrainingData", "different_data"]

_PROBES = 32


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TrainingData:
    """Data sets of a run, as the user gives them.

    Attributes:
        id: map-style data set of known samples, (image, label) each.
        aux: of auxiliary outliers, whose labels are not used; None for methods without. It must
            hold no test set, and should hold no known class.
        black: value per channel of a black pixel, for the padding of random crops; None for 0.
        white: of a white pixel, which PixMix needs beside it; None for 1.
        mixing_set: pictures to mix in by PixMix, (channels, height, width) from 0 to 1 and not
            normalized, of any size; None draws fractals.
        id_classes: names of the known classes; None for those of the data set, if it has any.
        aux_classes: names of the outliers' classes, likewise.
        link: ``"softmax"``: each known sample is of one class, and a network of one output has two;
            ``"sigmoid"``: its label is 0 or 1 for each class, of which several may hold. None for a
            softmax.
        model_input: a function from a batch without labels, as `torch.utils.data.default_collate`
            makes it of the items, to what the model takes; None where the items say it.

    Raises:
        ConfigError: the link is none that can be trained.
    """

    id: Dataset[Any]
    aux: Dataset[Any] | None = None
    black: Tensor | None = None
    white: Tensor | None = None
    mixing_set: Dataset[Any] | None = None
    id_classes: Sequence[str] | None = None
    aux_classes: Sequence[str] | None = None
    link: Link | None = None
    model_input: ModelInput | None = None

    def __post_init__(self) -> None:
        _ = self.form

    @property
    def form(self) -> SampleForm:
        """How items become inputs and labels."""
        outputs = Outputs(self.link or "softmax")
        return SampleForm(outputs, self.model_input, self.black)

    def names(self) -> tuple[Sequence[str] | None, Sequence[str] | None]:
        """Names of the in-distribution and of the auxiliary classes; None if they have none."""
        id_names = self.id_classes if self.id_classes is not None else class_names(self.id)
        aux_names = self.aux_classes if self.aux_classes is not None else class_names(self.aux)
        return id_names, aux_names


class DataSplit:
    """Samples to train on, and samples held out of the same sets, split by the recipe's seed.

    Args:
        data: see `TrainingData`.
        recipe: its seed, augmentation, batch and validation.
        left_out: how many images of each kind were left out before, for the record.

    Raises:
        DataError: a set is missing, has no length, or is too small.
    """

    def __init__(
        self, data: TrainingData, recipe: Recipe, left_out: Mapping[str, int] | None = None
    ) -> None:
        if recipe.loss.outliers and data.aux is None:
            raise DataError(
                f"method {recipe.method!r} needs auxiliary outliers, and none were given; give "
                "them (--aux), or choose plain, pixmix, logit-norm, ish or vos."
            )
        self._recipe = recipe
        self._left_out = dict(left_out or {})
        self._data = data
        self._mixer = _mixer(data, recipe)
        self.known, known_held = self._split(data.id, "id", recipe.validation.id)
        self.outliers: Samples | None = None
        aux_held = None
        if data.aux is not None:
            self.outliers, aux_held = self._split(data.aux, "aux", recipe.validation.aux)
        self.held = HeldOut(known_held, aux_held)
        if self._mixer is not None:
            self._mixer.check(self.known.item(0)[0])
        data.form.outputs.check(recipe.loss)

    @property
    def counts(self) -> dict[str, int]:
        """How many samples of each kind, for the record."""
        counts = {"id": len(self.known), "id_held_out": len(self.held.id)}
        if self.outliers is not None and self.held.aux is not None:
            counts |= {"aux": len(self.outliers), "aux_held_out": len(self.held.aux)}
        return counts | self._left_out

    def fingerprint(self) -> dict[str, Any]:
        """Plain values by which a resumed run knows its data again; see `different_data`.

        ``labels``: SHA-256 of the in-distribution labels, and of the paths below the folder where
        there are such. ``id``, ``aux``: the means of 32 images spread over the set, or None where a
        data set may transform its images at random.

        Cost: 32 images of each set; the labels of other data sets than this library's and torch's
        are taken from attributes `labels` or `targets`, else from 32 items.
        """
        labels = _labels(self._data.id, self._data.form)
        digest = hashlib.sha256(repr(labels).encode()).hexdigest()
        outliers = None if self._data.aux is None else _image_means(self._data.aux)
        found = {"labels": digest, "id": _image_means(self._data.id), "aux": outliers}
        if self._data.mixing_set is not None:
            found["mixing"] = _image_means(self._data.mixing_set)
        return found | ({} if self._data.link is None else {"link": self._data.link})

    def example(self) -> Inputs:
        """The first inputs of the known samples, at most 2, (n, …)."""
        return self.known.plain(range(min(2, len(self.known))))[0]

    def check_shapes(self) -> None:
        """Check that outliers have the shape and the type of in-distribution images.

        Raises:
            DataError: they have not.
        """
        if self.outliers is None:
            return
        known, outlier = self.known.item(0)[0], self.outliers.item(0)[0]
        if self._data.model_input is not None:  # They are compared as the model takes them.
            return
        pair = [described(sample) for sample in (known, outlier)]
        lengths_vary = fills_of(self._data.id) is not None
        if pair[0] != pair[1] and not (lengths_vary and _types(known) == _types(outlier)):
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
            form=self._data.form,
            mixer=self._mixer if purpose == "id" else None,
        )
        seed = self._recipe.seed
        held_out = sorted(order[:held])
        form = self._data.form
        return train, Samples(dataset, held_out, purpose=purpose, seed=seed, form=form)


def _mixer(data: TrainingData, recipe: Recipe) -> Mixer | None:
    """What mixes the known images, if the recipe says so.

    Raises:
        ConfigError: pictures are given, and the recipe does not mix.
    """
    options = recipe.augment.pixmix
    if options is None:
        if data.mixing_set is not None:
            raise ConfigError(
                f"pictures to mix in were given, and recipe {recipe.name!r} does not mix; choose "
                "method pixmix, or set augment.pixmix.rounds=4, or leave the pictures out."
            )
        return None
    return Mixer(options, data.mixing_set, black=data.black, white=data.white, seed=recipe.seed)


def _types(sample: Sample) -> list[torch.dtype]:
    return [leaf.dtype for leaf in (sample.values() if isinstance(sample, dict) else [sample])]


def _size(dataset: Any, purpose: str) -> int:
    if isinstance(dataset, DataLoader):
        raise DataError(
            f"the {purpose} data is a DataLoader; expected its data set (loader.dataset), as "
            "training makes batches of its own."
        )
    pair = isinstance(dataset, list | tuple) and len(dataset) == 2
    if isinstance(dataset, Tensor) or (pair and all(isinstance(t, Tensor) for t in dataset)):
        raise DataError(
            f"the {purpose} data is made of whole tensors; expected a data set of them: "
            "torch.utils.data.TensorDataset(images, labels)."
        )
    try:
        size = len(dataset)
    except TypeError:
        size = None
    if size is None or isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        without = "a length" if size is None else "access by index"
        raise DataError(
            f"the {purpose} data is a {type(dataset).__name__} without {without}; expected a "
            "map-style data set, as samples are drawn from it at random."
        )
    return size


def different_data(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, in words; what either lacks is not compared.

    Means of images may differ by 0.1 %, as decoders of two machines may round differently.
    """
    differences = []
    if before.get("labels") != now["labels"]:
        differences.append("other in-distribution labels or file names")
    if (before.get("link") or "softmax") != (now.get("link") or "softmax"):
        differences.append("another link")
    for kind, name in (("id", "in-distribution"), ("aux", "auxiliary"), ("mixing", "mixing")):
        means = zip(before.get(kind) or (), now.get(kind) or (), strict=False)
        pairs = [pair for pair in means if None not in pair]
        if not all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-3) for a, b in pairs):
            differences.append(f"other {name} images")
    return differences


def _probes(dataset: Any) -> list[int]:
    """Indices spread over a data set."""
    size = len(dataset)
    return sorted({size * i // _PROBES for i in range(_PROBES)})


def _image_means(dataset: Any) -> list[float | None] | None:
    """Means of some images; None if a second read may give other images."""
    if not reads_alike(dataset):
        return None
    means: list[float | None] = []
    for index in _probes(dataset):
        try:
            mean = mean_of(sample_of(dataset[index]))
        except DataError:  # Refused by name if the run comes to it.
            mean = math.nan
        means.append(mean if math.isfinite(mean) else None)
    return means


def _labels(dataset: Any, form: SampleForm) -> list[Any]:
    """All labels of a data set where they can be had without its images, else those of 32."""
    if isinstance(dataset, ConcatDataset):
        return [label for part in dataset.datasets for label in _labels(part, form)]
    if isinstance(dataset, Subset):
        labels = _labels(dataset.dataset, form)
        whole = len(labels) == len(dataset.dataset)  # type: ignore[arg-type]
        return [labels[index] for index in dataset.indices] if whole else labels
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[1].tolist() if len(dataset.tensors) > 1 else []
    try:
        if isinstance(dataset, ImageDataset) and not isinstance(dataset, ParquetImages):
            # Exchanged between two folders of classes, images leave the labels as they are.
            labels = () if dataset.labels is None else dataset.labels.tolist()
            return [(dataset.name(index), label) for index, label in enumerate(labels)]
        for attribute in ("labels", "targets"):
            labels = getattr(dataset, attribute, None)
            if labels is not None and len(labels) == len(dataset):
                return torch.as_tensor(labels).tolist()
        items = range(len(dataset)) if isinstance(dataset, list | tuple) else _probes(dataset)
        found = [form.label(dataset[index]) for index in items]
        return [label.tolist() if isinstance(label, Tensor) else label for label in found]
    except (DataError, TypeError, ValueError):  # Refused by name if the run comes to it.
        return []
