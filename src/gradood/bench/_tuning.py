"""Hyper-parameters chosen on in-distribution data alone: never on a set of outliers that is tested.

For each method with a grid, every value is fitted on the training images but a few, and has to
tell those few from outliers made of them: their patches shuffled, two of them mixed, and noise with
their mean and spread. The value with the best mean AUROC over the three wins, in a tie the default.
"""

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gradood._engine.batches import Batch, Shard
from gradood._engine.readings import ReadingCache
from gradood._io.cache import key_of
from gradood._io.warning_filters import ignored
from gradood.bench._cache_key import source_version
from gradood.bench._data_sets import joined_labels
from gradood.bench.comparison import Comparison, Sets, compare
from gradood.bench.config import Settings
from gradood.bench.entries import LoadedEntry, image_shards
from gradood.bench.method_args import Selection
from gradood.data import RowDataset
from gradood.detectors.base import Detector
from gradood.errors import ConfigError, GradoodWarning
from gradood.taps import Arguments

__all__ = [
    "Choice",
    "FIXED",
    "GRIDS",
    "OUTLIERS",
    "choose",
    "outliers",
]

GRIDS: Mapping[str, tuple[str, tuple[Any, ...]]] = MappingProxyType(
    {
        "ash-b": ("percentile", (65, 75, 80, 85, 90, 95)),
        "ash-p": ("percentile", (65, 75, 80, 85, 90, 95)),
        "ash-s": ("percentile", (65, 75, 80, 85, 90, 95)),
        "dice": ("percentile", (10, 30, 50, 70, 90)),
        "gen": ("gamma", (0.01, 0.05, 0.1, 0.2, 0.5)),
        "knn": ("k", (1, 5, 10, 20, 100, 200)),
        "low-dim-grad": ("k", (1, 5, 10, 20)),
        "lts": ("percentile", (75, 80, 85, 90, 95)),
        "nnguide": ("k", (1, 5, 10, 50, 100)),
        "react": ("percentile", (80, 85, 90, 95, 99)),
        "residual": ("dimension", (8, 16, 32, 64, 128, 256, 512, 1000)),
        "scale": ("percentile", (65, 75, 80, 85, 90, 95)),
        "vim": ("dimension", (8, 16, 32, 64, 128, 256, 512, 1000)),
    }
)
"""Method → option, and the values tried besides its default; those a network has no room for are
left out."""

OUTLIERS = ("shuffled", "mixed", "noise")
"""Kinds of outliers made of in-distribution images."""

FIXED = "by default, or as given with --option"
"""How fixed hyper-parameters were chosen."""

_HELD, _FEWEST, _CELLS = 1000, 20, 4


@dataclass(frozen=True, eq=False, slots=True)
class Choice:
    """Detectors with the options they compete with.

    Attributes:
        detectors: by name.
        how: the options were chosen, in words.
        tried: name → option, the value chosen, and the mean AUROC of every value by its text.
    """

    detectors: Mapping[str, Detector]
    how: str = FIXED
    tried: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def choose(
    opened: LoadedEntry, settings: Settings, selection: Selection, cache: ReadingCache | None = None
) -> Choice:
    """Options for the methods that have a grid, and were given no value for it.

    Held out are the suite's validation images; else the last tenth of the training images, at most
    1,000, which the network itself has seen.

    Args:
        opened: network and data.
        settings: of the run.
        selection: the methods.
        kept: where readings are kept.

    Raises:
        ConfigError: there is no training data to choose on, or too little.

    Cost:
        One pass over the training images, whose readings the fit that follows finds in the cache,
        and four over the held-out ones; every method with a grid is fitted once per value.
    """
    candidates, origin = _candidates(selection)
    if not candidates:
        return Choice(selection.detectors, "in-distribution data; no method here has a grid")
    fit, held, where = _split(opened)
    reading = {"batch_size": settings.batch_size, "workers": settings.workers}
    sharded = partial(image_shards, model=opened.subject.model, link=opened.model.link, **reading)
    shards = sharded(held)
    sets = Sets(
        fit=[shard for images in fit for shard in sharded(images)],
        fit_labels=joined_labels(fit),
        id=shards,
        ood={kind: outliers(shards, kind) for kind in OUTLIERS},
        preprocess=held.preprocess.to_dict(),
    )
    with ignored(GradoodWarning):  # The run itself will say the same.
        comparison = compare(
            opened.subject.model,
            candidates,
            sets,
            opened.example,
            level=None,
            cache=cache,
            output=opened.model.output,
            link=opened.model.link,
        )
    detectors, tried = dict(selection.detectors), {}
    for name in selection.detectors:
        values = {
            label: _mean(comparison, label)
            for label in origin.get(name, {})
            if label in comparison.detectors
        }
        if values:
            best = max(values, key=lambda label: values[label])  # The first of the best.
            detectors[name] = candidates[best]
            tried[name] = _trial(origin[name], values, best)
    data = f"{len(held):,} {where}", f"{sum(map(len, fit)):,} others"
    return Choice(detectors, _how(tried, *data), tried)


def _how(tried: Collection[str], held: str, fit: str) -> str:
    return (
        f"{', '.join(tried) or 'none'}: best mean AUROC of {held} against outliers made of them "
        f"({', '.join(OUTLIERS)}), fitted on {fit}; no test image of any set was looked at. The "
        f"other methods: {FIXED}"
    )


def _trial(
    origin: Mapping[str, tuple[str, Any]], values: Mapping[str, float], best: str
) -> dict[str, Any]:
    """For the record: the option, the value chosen, and what every value gave."""
    option, value = origin[best]
    by_value = {str(origin[label][1]): auroc for label, auroc in values.items()}
    return {"option": option, "value": value, "auroc": by_value}


def outliers(shards: Sequence[Shard], kind: str) -> list[Shard]:
    """Outliers made of in-distribution images, one of each; the same every time.

    Args:
        shards: the images.
        kind: ``"shuffled"``: cut into 4 × 4 cells, and these permuted; ``"mixed"``: the mean of two
            images of a batch; ``"noise"``: normal, with the mean and the spread of each image's
            channels.
    """
    return [
        Shard(partial(_made, shard, kind, number), shard.size, None, _content(shard, kind, number))
        for number, shard in enumerate(shards)
    ]


def _content(shard: Shard, kind: str, number: int) -> Any:
    @cache
    def content() -> str | None:
        digest = shard.content()
        version = source_version(__name__)
        return None if digest is None else key_of(of=digest, kind=kind, seed=number, source=version)

    return content


def _made(shard: Shard, kind: str, number: int) -> Iterator[Batch]:
    generator = torch.Generator("cpu").manual_seed(number)
    for batch in shard.batches():
        images = batch.inputs
        assert isinstance(images, Tensor)  # Of image sets alone.
        yield Batch(_outliers(images, kind, generator), None)


def _outliers(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    if kind == "mixed":
        return (x + x.roll(1, 0)) / 2
    if kind == "noise":
        over = tuple(range(2, x.ndim))
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return x.mean(over, keepdim=True) + x.std(over, keepdim=True) * noise
    height, width = (max(1, side // _CELLS) for side in x.shape[-2:])
    rows, columns = x.shape[-2] // height, x.shape[-1] // width
    inner = x[..., : rows * height, : columns * width]
    cells = inner.reshape(*x.shape[:2], rows, height, columns, width).transpose(3, 4)
    cells = cells.reshape(*x.shape[:2], rows * columns, height, width)
    order = torch.rand(len(x), rows * columns, generator=generator).argsort(1)
    places = order[:, None, :, None, None].expand_as(cells)
    cells = cells.gather(2, places).reshape(*x.shape[:2], rows, columns, height, width)
    made = x.clone()
    made[..., : rows * height, : columns * width] = cells.transpose(3, 4).reshape(inner.shape)
    return made


def _candidates(
    selection: Selection,
) -> tuple[dict[str, Detector], dict[str, dict[str, tuple[str, Any]]]]:
    """Every value of every grid as a detector of its own, the default first."""
    candidates: dict[str, Detector] = {}
    origin: dict[str, dict[str, tuple[str, Any]]] = {}
    for name, detector in selection.detectors.items():
        if detector.name not in GRIDS:
            continue
        option, values = GRIDS[detector.name]
        default = inspect.signature(type(detector)).parameters[option].default
        if detector.options()[option] != default:
            continue
        for value in dict.fromkeys([default, *values]):
            label = f"{name} {option}={value}"
            candidates[label] = type(detector)(**{**detector.options(), option: value})
            origin.setdefault(name, {})[label] = (option, value)
    return candidates, origin


def _split(opened: LoadedEntry) -> tuple[list[RowDataset], RowDataset, str]:
    """Images to fit on, images held out, and what these are."""
    if isinstance(opened.example, Arguments):
        raise ConfigError(
            "hyper-parameters are chosen on outliers made of images, and the inputs are several "
            "tensors, such as token ids and a mask; leave out --hyper-parameters id-only."
        )
    if not opened.fit:
        raise ConfigError(
            "hyper-parameters cannot be chosen on in-distribution data without training images; "
            "give some with --fit, or leave out --hyper-parameters id-only."
        )
    fit = list(opened.fit)
    if opened.val is not None:
        return fit, opened.val, "validation images"
    total = sum(map(len, fit))
    count = min(_HELD, total // 10, len(fit[-1]) - 1)
    if count < _FEWEST:
        raise ConfigError(
            f"{total} training images are too few to choose hyper-parameters on; expected at least "
            f"{10 * _FEWEST}. Leave out --hyper-parameters id-only."
        )
    held = fit[-1][-count:]
    fit[-1] = fit[-1][:-count]
    return fit, held, "training images held out"


def _mean(comparison: Comparison, label: str) -> float:
    """Mean AUROC over the kinds of outliers."""
    return sum(comparison.table[label, kind].auroc for kind in OUTLIERS) / len(OUTLIERS)
