"""Entries of a benchmark run: networks and their data sets, opened and checked beforehand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from gradood._engine.batches import Batch, Data, Shard, batches, first_inputs
from gradood._engine.forms import InputForm
from gradood._engine.readings import ReadingCache
from gradood._engine.rows import Inputs
from gradood._io.cache import Cache, key_of
from gradood.bench._cache_key import detector_key, model_key
from gradood.bench._unusable import without_unusable
from gradood.bench.comparison import Sets
from gradood.bench.config import ModelEntry, Settings
from gradood.bench.inventory import Inventory, take_inventory
from gradood.data import ColumnInput, Preprocess, RowDataset, loader
from gradood.data._storage import joined
from gradood.data.row_dataset import joint_sample
from gradood.data.sources import open_inputs
from gradood.errors import ConfigError, DataError
from gradood.models._load import Subject, load_subject

__all__ = [
    "LoadedEntry",
    "example_of",
    "image_shards",
    "inventory_of",
    "joined_labels",
    "open_all",
    "open_entry",
]

_EXAMPLE = 32
_ROWS = 2048
"""Of a shard, about: the next multiple of the batch size, so that no batch crosses its end."""


@dataclass(frozen=True, eq=False, slots=True)
class LoadedEntry:
    """A network, and the data sets as it takes them.

    Attributes:
        model: which.
        subject: the network.
        fit: the training images; none if there are none.
        val: held-out images, which the network has not seen, or None.
        id: the test images.
        ood: the outliers by name.
        shifted: the test images under covariate shift by name.
    """

    model: ModelEntry
    subject: Subject
    fit: tuple[RowDataset, ...]
    val: RowDataset | None
    id: RowDataset
    ood: dict[str, RowDataset]
    shifted: dict[str, RowDataset] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, tuple[RowDataset, ...]]:
        """Name of a set → its data sets."""
        beside = {name: (one,) for name, one in (*self.shifted.items(), *self.ood.items())}
        val = {} if self.val is None else {"held-out": (self.val,)}
        return {"ID": (self.id,), "fit": self.fit, **val, **beside}

    @property
    def example(self) -> Inputs:
        """A few in-distribution inputs as one batch."""
        found = next((fit for fit in self.fit if len(fit)), self.id)
        return first_inputs(example_of(found), InputForm(self.subject.model))

    @property
    def fit_labels(self) -> Tensor | None:
        """Of all training images together; None if some have none."""
        return joined_labels(self.fit)

    def kept(self, settings: Settings, example: Inputs) -> ReadingCache | None:
        """Where what is read of it is kept, and what that depends on; None if nothing is kept.

        Args:
            settings: of the run.
            example: (batch ≥ 1, …), see `example`.
        """
        if settings.cache is None:
            return None
        cache = Cache(settings.cache)
        key = model_key(self.subject.model, example, cache, output=self.model.output)
        if key is None:
            return None
        options = self.id.preprocess.to_dict()
        preprocess = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
        own = {"preprocess": preprocess, "batch_size": settings.batch_size}
        return ReadingCache(cache, {**key, **own}, detector_key)

    def sets(self, settings: Settings) -> Sets:
        """The data of a comparison."""

        def shards(*datasets: RowDataset) -> list[Shard]:
            return [
                shard
                for one in datasets
                for shard in image_shards(
                    one,
                    self.subject.model,
                    batch_size=settings.batch_size,
                    workers=settings.workers,
                    variant="" if one.preprocess == own else "sized",
                )
            ]

        own = self.id.preprocess

        return Sets(
            fit=shards(*self.fit) if self.fit else None,
            fit_labels=self.fit_labels,
            held_out=None if self.val is None else shards(self.val),
            held_out_labels=None if self.val is None else self.val.labels,
            id=shards(self.id),
            id_labels=self.id.labels,
            ood={name: shards(dataset) for name, dataset in self.ood.items()},
            shifted={name: shards(dataset) for name, dataset in self.shifted.items()},
            shifted_labels={name: dataset.labels for name, dataset in self.shifted.items()},
            preprocess=own.to_dict(),
        )


def example_of(dataset: RowDataset) -> Any:
    """The first inputs of a data set, at most 32, as one batch: a tensor, or a mapping of such."""
    batch = next(iter(loader(dataset[:_EXAMPLE], batch_size=_EXAMPLE)))
    return batch[0] if dataset.labeled else batch


def joined_labels(datasets: Sequence[RowDataset]) -> Tensor | None:
    """Labels of several data sets one after another; None if there are none, or not of all."""
    found = [dataset.labels for dataset in datasets]
    known = [labels for labels in found if labels is not None]
    return torch.cat(known) if known and len(known) == len(found) else None


def open_all(settings: Settings) -> list[LoadedEntry]:
    """Every network of a run, with its data sets.

    Raises:
        ConfigError: a setting is wrong.
        DataError: data is absent, or cannot be read; of a suite that is checked, everything that
            is not as it should be.
    """
    try:
        return [open_entry(model, settings) for model in settings.contenders]
    except DataError:
        if settings.check:  # Says all that is missing, and not only what came first.
            inventory_of(settings).require(settings.suite)
        raise


def open_entry(model: ModelEntry, settings: Settings) -> LoadedEntry:
    """A network, and the data sets of the suite as it takes them; no image is decoded yet.

    Raises:
        ConfigError: a setting is wrong.
        DataError: data is absent, or cannot be read; says which.
    """
    subject = _subject(model, settings)
    suite = settings.suite
    test = _images("ID", suite.id.test, settings, subject.preprocess, limit=settings.limit)
    # What the first table says, as its columns of numbers, holds for all sets.
    own = test.preprocess
    every = replace(settings, max_bad_fraction=None)  # Looked at once it is known which are taken.
    fit = [_images("fit", path, every, own) for path in suite.id.fit]
    val = suite.id.val
    return LoadedEntry(
        model=model,
        subject=subject,
        fit=tuple(
            without_unusable("fit", part, settings)
            for part in joint_sample(fit, settings.fit_limit, first=settings.first_rows)
        ),
        val=None if val is None else _images("validation", val, settings, own),
        id=test,
        ood={
            one.name: _images(
                f"OOD {one.name}",
                one.path,
                settings,
                own,
                labeled=False,
                rooted=one.rooted,
                limit=settings.limit,
            )
            for one in suite.ood
        },
        shifted={
            one.name: _images(
                f"shifted ID {one.name}",
                one.path,
                settings,
                replace(own, resize=None, crop=None)
                if one.sized and isinstance(own, Preprocess)
                else own,
                rooted=one.rooted,
                limit=settings.limit,
            )
            for one in suite.shifted
        },
    )


def inventory_of(settings: Settings) -> Inventory:
    """What the suite of a run reads, held against the files that are there."""
    return take_inventory(settings.suite, settings.root, image_column=settings.image_column)


def _subject(model: ModelEntry, settings: Settings) -> Subject:
    """The network; where it says nothing of its inputs, the suite does."""
    subject = load_subject(
        model.model,
        model.weights,
        num_classes=settings.num_classes,
        preprocess=settings.preprocess,
        columns=settings.columns,
        device=settings.device,
        pretrained=settings.pretrained,
    )
    suite = settings.suite
    if subject.columns.given or subject.opened.encoder is not None:
        return subject
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
    preprocess: Preprocess | ColumnInput,
    *,
    labeled: bool | None = None,
    rooted: bool = True,
    limit: int | None = None,
) -> RowDataset:
    folder = settings.suite.images(path) if rooted else None
    try:
        found = open_inputs(
            joined(settings.root, path) if rooted else path,
            preprocess,
            labeled=labeled,
            image_column=settings.image_column,
            label_column=settings.label_column,
            root=None if folder is None else settings.root / folder,
        )
    except DataError as error:
        raise DataError(f"the {what} data: {error}") from error
    if limit is not None and limit < len(found):
        found = found[:limit] if settings.first_rows else found.sample(limit)
    return without_unusable(what, found, settings)


def image_shards(
    dataset: RowDataset,
    model: nn.Module,
    *,
    batch_size: int,
    workers: int,
    variant: str = "",
) -> list[Shard]:
    """The shards of a data set of images; batches lie the same in each, whatever is read of it.

    Args:
        dataset: at least one image, or row.
        model: which takes them.
        batch_size: images at once.
        workers: processes that decode.
        variant: what tells inputs from others made of the same images, for the cache; or empty.
    """
    rows = -(-_ROWS // batch_size) * batch_size
    labels, form = dataset.labels, InputForm(model)
    shards: list[Shard] = []
    for start in range(0, len(dataset), rows):
        part = dataset[start : start + rows]
        classes = None if labels is None else labels[start : start + rows]
        load = partial(loader, part, batch_size=batch_size, workers=workers)
        content = partial(_content, part, variant) if variant else part.content
        shards.append(Shard(partial(_passed, load, form), len(part), classes, cache(content)))
    return shards


def _content(dataset: RowDataset, variant: str) -> str:
    """What tells images that another preprocessing makes inputs of."""
    return key_of(of=dataset.content(), variant=variant)


def _passed(load: Callable[[], Data], form: InputForm) -> Iterator[Batch]:
    return batches(load(), form=form)
