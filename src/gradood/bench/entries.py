"""The models and images of an arena run, opened and checked before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradood.bench.cache_key import model_version, reading_version
from gradood.bench.comparison import Kept, Sets
from gradood.bench.config import Contender, Settings
from gradood.bench.inventory import Inventory, take_inventory
from gradood.bench.shards import Shard, image_shards
from gradood.data import ImageDataset, Preprocess, loader, open_images
from gradood.data.content import file_digest
from gradood.data.source import split_slice
from gradood.errors import ConfigError, DataError
from gradood.io.cache import Cache
from gradood.models.load import Subject, load_subject

__all__ = [
    "Opened",
    "example_of",
    "joined_labels",
    "open_all",
    "open_contender",
    "opened_sets",
]

_EXAMPLE = 32


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """A network, and the data sets as it takes them.

    Attributes:
        contender: which.
        subject: the network.
        fit: the training images; none if there are none.
        val: held-out images, or None.
        id: the test images.
        ood: the outliers by name.
    """

    contender: Contender
    subject: Subject
    fit: tuple[ImageDataset, ...]
    val: ImageDataset | None
    id: ImageDataset
    ood: dict[str, ImageDataset]

    @property
    def example(self) -> Tensor:
        """A few in-distribution images as one batch."""
        return example_of(self.fit[0] if self.fit else self.id)

    @property
    def fit_labels(self) -> Tensor | None:
        """Of all training images together; None if some have none."""
        return joined_labels(self.fit)

    def kept(self, settings: Settings) -> Kept | None:
        """Where what is read of it is kept, and what that depends on."""
        if settings.cache is None:
            return None
        identity = {
            "model": model_version(self.subject.model),
            "preprocess": _plain(asdict(self.subject.preprocess)),
            "batch_size": settings.batch_size,
            "device": torch.device(settings.device).type,
            **reading_version(),
        }
        return Kept(Cache(settings.cache), identity)

    def sets(self, settings: Settings) -> Sets:
        """The data of a comparison."""

        def shards(*datasets: ImageDataset) -> list[Shard]:
            return [
                shard
                for one in datasets
                for shard in image_shards(
                    one, batch_size=settings.batch_size, workers=settings.workers
                )
            ]

        return Sets(
            fit=shards(*self.fit) if self.fit else None,
            fit_labels=self.fit_labels,
            id=shards(self.id),
            id_labels=self.id.labels,
            ood={name: shards(dataset) for name, dataset in self.ood.items()},
        )


def example_of(dataset: ImageDataset) -> Tensor:
    """The first images of a data set, at most 32, as one batch (batch, …)."""
    batch = next(iter(loader(dataset[:_EXAMPLE], batch_size=_EXAMPLE)))
    return batch[0] if dataset.labeled else batch


def joined_labels(datasets: Sequence[ImageDataset]) -> Tensor | None:
    """Labels of several data sets one after another; None if there are none, or not of all."""
    found = [dataset.labels for dataset in datasets]
    known = [labels for labels in found if labels is not None]
    return torch.cat(known) if known and len(known) == len(found) else None


def open_all(settings: Settings) -> list[Opened]:
    """Every network of a run, with its data sets.

    Raises:
        ConfigError: a setting is wrong.
        DataError: data is absent, or cannot be read; of a suite that is checked, everything that
            is not as it should be.
    """
    try:
        return [open_contender(contender, settings) for contender in settings.contenders]
    except DataError:
        if settings.check:  # Says all that is missing, and not only what came first.
            _inventory(settings).require(settings.suite)
        raise


def open_contender(contender: Contender, settings: Settings) -> Opened:
    """A network, and the data sets of the suite as it takes them; no image is decoded yet.

    Raises:
        ConfigError: a setting is wrong.
        DataError: data is absent, or cannot be read; says which.
    """
    subject = _subject(contender, settings)
    suite = settings.suite
    fit: list[ImageDataset] = []
    left = settings.fit_limit
    for path in suite.id.fit:
        if left is None or left > 0:
            fit.append(_images("fit", path, settings, subject.preprocess, limit=left))
            left = None if left is None else left - len(fit[-1])
    val = suite.id.val
    return Opened(
        contender=contender,
        subject=subject,
        fit=tuple(fit),
        val=None if val is None else _images("validation", val, settings, subject.preprocess),
        id=_images("ID", suite.id.test, settings, subject.preprocess, limit=settings.limit),
        ood={
            one.name: _images(
                f"OOD {one.name}",
                one.path,
                settings,
                subject.preprocess,
                labeled=False,
                rooted=one.rooted,
                limit=settings.limit,
            )
            for one in suite.ood
        },
    )


def opened_sets(settings: Settings, opened: Opened) -> dict[str, Any]:
    """The suite as a record tells it: sets with their sizes and hashes.

    Raises:
        DataError: the suite's files are not as it says.
    """
    suite = settings.suite
    inventory = Inventory(settings.root, {}, {}, ())
    if settings.check:
        inventory = _inventory(settings)
        inventory.require(suite)

    def told(path: str, *, n: int, rooted: bool = True) -> dict[str, Any]:
        digest = inventory.digests.get(path) if rooted else None
        file = split_slice(settings.root / path if rooted else path)[0]
        if digest is None and file.is_file():
            digest = file_digest(file)
        images = suite.images(path) if rooted else None
        folder = {} if images is None else {"images": images}
        return {"path": path, "rooted": rooted, "n": n, "sha256": digest, **folder}

    test = told(suite.id.test, n=len(opened.id))
    fit = [told(p, n=len(d)) for p, d in zip(suite.id.fit, opened.fit, strict=False)]
    return {
        "name": suite.name,
        "version": suite.version,
        "title": suite.title,
        "id": {**test, "fit": fit, "classes": suite.id.classes},
        "ood": [
            {"name": one.name, "group": one.group}
            | told(one.path, n=len(opened.ood[one.name]), rooted=one.rooted)
            for one in suite.ood
        ],
        "preprocess": dict(suite.preprocess),
        "checked": settings.check,
    }


def _inventory(settings: Settings) -> Inventory:
    return take_inventory(settings.suite, settings.root, image_column=settings.image_column)


def _subject(contender: Contender, settings: Settings) -> Subject:
    """The network; where it says nothing of its inputs, the suite does."""
    subject = load_subject(
        contender.model,
        contender.weights,
        num_classes=settings.num_classes,
        preprocess=settings.preprocess,
        device=settings.device,
        pretrained=settings.pretrained,
    )
    suite = settings.suite
    try:
        own = subject.opened.inputs(settings.preprocess.keys())
    except ConfigError:
        if not suite.preprocess:
            raise
        own = {}
    if not own and suite.preprocess:
        subject = replace(subject, options={**suite.preprocess, **settings.preprocess})
    return subject


def _images(
    what: str,
    path: str,
    settings: Settings,
    preprocess: Preprocess,
    *,
    labeled: bool | None = None,
    rooted: bool = True,
    limit: int | None = None,
) -> ImageDataset:
    folder = settings.suite.images(path) if rooted else None
    try:
        found = open_images(
            settings.root / path if rooted else path,
            preprocess,
            labeled=labeled,
            image_column=settings.image_column,
            label_column=settings.label_column,
            root=None if folder is None else settings.root / folder,
        )
    except DataError as error:
        raise DataError(f"the {what} data: {error}") from error
    return found[:limit]


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
