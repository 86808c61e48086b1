"""A benchmark from files: a model, data sets, methods, and the record of what came out."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gradood.bench.comparison import Comparison, Sets, compare
from gradood.bench.provenance import provenance
from gradood.bench.record import Record
from gradood.bench.selection import Selection, select
from gradood.data import ImageDataset, loader, open_images
from gradood.errors import ConfigError, DataError, GradoodWarning
from gradood.subject import Subject, load_subject

__all__ = ["Settings", "example_of", "run"]

_EXAMPLE = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What to compare on what. Paths are those of `gradood.data.open_images`, slices included.

    Attributes:
        model: as `gradood.models.open_model` takes it.
        weights: file of its weights, or None where the factory loads its own.
        num_classes: passed to the factory if given.
        pretrained: let timm or torchvision fetch its weights.
        id: in-distribution test data.
        ood: out-of-distribution sets by name.
        fit: in-distribution training data, or None for methods that learn nothing.
        methods: see `gradood.bench.select`.
        options: see `gradood.bench.select`.
        preprocess: options of `Preprocess` that differ from the model's own.
        image_column: of Parquet files.
        label_column: of Parquet files.
        batch_size: images at once.
        workers: processes that decode.
        device: where the model runs.
    """

    model: str
    id: str
    ood: Mapping[str, str]
    fit: str | None = None
    weights: Path | None = None
    num_classes: int | None = None
    pretrained: bool = False
    methods: str = "all"
    options: tuple[str, ...] = ()
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    image_column: str = "image"
    label_column: str = "label"
    batch_size: int = 128
    workers: int = 0
    device: str = "cpu"


def run(settings: Settings, *, command: str = "") -> Record:
    """Compare the methods, in one pass over each data set.

    Everything that can be wrong with the settings is found before the first pass.

    Args:
        settings: what to compare on what.
        command: how to do the same again, for the record.

    Raises:
        ConfigError, UnknownNameError: a setting is wrong.
        DataError: data is absent, broken, or has labels the model does not know.
        TapError: the model cannot be read.
    """
    selection = select(settings.methods, settings.options)
    if not settings.ood:
        raise ConfigError("no out-of-distribution set was given; name at least one.")
    if settings.fit == settings.id:
        warnings.warn(
            "the fit and the ID data are the same: methods that keep the fit data, such as knn, "
            "will look better than they are.",
            GradoodWarning,
            stacklevel=2,
        )
    opened = _opened(settings, _subject(settings))
    comparison = _compared(settings, opened, selection)
    samples: dict[str, Any] = {
        "fit": None if opened.fit is None else _sample(settings.fit, opened.fit),
        "id": _sample(settings.id, opened.id),
        "ood": {name: _sample(settings.ood[name], data) for name, data in opened.ood.items()},
    }
    return Record(
        command=command,
        provenance=provenance(),
        subject=opened.subject.to_dict(),
        samples=samples,
        settings={
            "batch_size": settings.batch_size,
            "workers": settings.workers,
            "device": settings.device,
        },
        comparison=comparison,
    )


def example_of(dataset: ImageDataset) -> Tensor:
    """The first images of a data set, at most 32, as one batch (batch, …)."""
    batch = next(iter(loader(dataset[:_EXAMPLE], batch_size=_EXAMPLE)))
    return batch[0] if dataset.labeled else batch


@dataclass(frozen=True, eq=False, slots=True)
class _Opened:
    """The model and the data sets."""

    subject: Subject
    fit: ImageDataset | None
    id: ImageDataset
    ood: dict[str, ImageDataset]


def _subject(settings: Settings) -> Subject:
    return load_subject(
        settings.model,
        settings.weights,
        num_classes=settings.num_classes,
        preprocess=settings.preprocess,
        device=settings.device,
        pretrained=settings.pretrained,
    )


def _opened(settings: Settings, subject: Subject) -> _Opened:
    def images(name: str, source: str, *, labeled: bool | None) -> ImageDataset:
        try:
            return open_images(
                source,
                subject.preprocess,
                labeled=labeled,
                image_column=settings.image_column,
                label_column=settings.label_column,
            )
        except DataError as error:
            raise DataError(f"the {name} data: {error}") from error

    return _Opened(
        subject=subject,
        fit=None if settings.fit is None else images("fit", settings.fit, labeled=None),
        id=images("ID", settings.id, labeled=None),
        ood={n: images(f"OOD {n}", path, labeled=False) for n, path in settings.ood.items()},
    )


def _compared(settings: Settings, opened: _Opened, selection: Selection) -> Comparison:
    def batches(dataset: ImageDataset) -> Any:
        return loader(dataset, batch_size=settings.batch_size, workers=settings.workers)

    fit = opened.fit
    sets = Sets(
        id=batches(opened.id),
        ood={name: batches(dataset) for name, dataset in opened.ood.items()},
        fit=None if fit is None else batches(fit),
        id_labels=opened.id.labels,
        fit_labels=None if fit is None else fit.labels,
    )
    example = example_of(opened.id if fit is None else fit)
    return compare(
        opened.subject.model,
        selection.detectors,
        sets,
        example,
        required=selection.required,
    )


def _sample(path: str | None, dataset: ImageDataset) -> dict[str, Any]:
    return {"path": path, "n": len(dataset)}
