"""Maps of where in an input a score comes from."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, get_args

import torch
from torch import Tensor

from gradood._engine.batches import Data, batches
from gradood._engine.detector_set import DetectorSet
from gradood._engine.rows import Inputs, finite_rows, selected
from gradood._engine.scoring import finite_batches
from gradood.attribution._cuts import default_places, grids_of
from gradood.attribution._grid import image_size, upsampled
from gradood.attribution._known_positions import known_positions
from gradood.attribution._mapped_score import MappedScore, mapped_score
from gradood.attribution._occlusion import occlusion
from gradood.attribution._path import LayerMap, position_contributions
from gradood.attribution._pooled import mean_features, pooled_contributions, pooled_place
from gradood.attribution.known import KnownFeatures
from gradood.detectors.base import Detector
from gradood.errors import ConfigError, DataError, suggest

__all__ = ["Method", "RegionMap", "region_map"]

Method: TypeAlias = Literal["path", "channels", "occlusion", "known"]
"""How a score is led back to places.

``"path"``: Aumann–Shapley values of the positions of some layers, in the mean over these.
The path starts where each position holds half of its own vector and half of the mean over
all positions of that input: what is explained is what the score owes to things being
where they are. Sums to ``score − reference`` at each layer up to `RegionMap.gap`.
``"channels"``: shares of the positions of the last map in the contributions of the units,
from the mean features of known inputs (`known`); exact where the features are a mean over
positions. Coarse.
``"occlusion"``: how much the score falls where a window, or a token, is taken away. Of any
detector; many forwards.
``"known"``: how far the vector at each position of some layers lies from those of known
inputs (`known`), by one Gaussian for each layer; about 1 is ordinary. It points best in
images, and is no part of the score: it tells what is strange, not what the detector saw.
"""
_METHODS: tuple[Method, ...] = get_args(Method)
_WITH_KNOWN = ("known", "channels")
_ROWS = 32
"""Rows that are mapped at once."""


class Monitoring(Protocol):
    """A `gradood.Monitor`, or a `gradood.Guard`, which has one."""

    @property
    def detectors(self) -> dict[str, Detector]:
        """By name."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class RegionMap:
    """Where in each input a score comes from; higher = more out-of-distribution.

    Attributes:
        low: layer → (N, rows, columns) float64 on the CPU, the values as they were computed, at
            the layer's own resolution; of sequences one row of positions. NaN of inputs that are
            not finite.
        score: (N,) float64, the score that is explained.
        reference: layer → (N,) the score where the path starts; NaN where there is no path.
        method: as asked for.
        detector: whose score.
        size: height and width of the images; None of sequences.
    """

    low: dict[str, Tensor]
    score: Tensor
    reference: dict[str, Tensor]
    method: Method
    detector: str
    size: tuple[int, int] | None

    def __repr__(self) -> str:
        grids = ", ".join(
            f"{name or 'input'} {v.shape[1]}×{v.shape[2]}" for name, v in self.low.items()
        )
        return f"RegionMap({len(self.score)} of {self.detector} by {self.method}: {grids})"

    @property
    def gap(self) -> dict[str, Tensor]:
        """Layer → (N,) what the values do not sum to: ``score − reference − Σ low``."""
        return {n: self.score - self.reference[n] - v.sum((1, 2)) for n, v in self.low.items()}

    @property
    def pixels(self) -> Tensor:
        """(N, height, width) float64: the mean over the layers, each interpolated bilinearly.

        A contribution is shared by the pixels of its cell, so that sums agree but for what
        interpolation moves at the border.

        Raises:
            DataError: the inputs are no images.
        """
        if self.size is None:
            raise DataError("the inputs are no images; their map is `tokens`.")
        wide = [upsampled(low, self.size) * self._share(low) for low in self.low.values()]
        return torch.stack(wide).mean(0)

    def _share(self, low: Tensor) -> float:
        """Of a cell's value that a pixel gets."""
        if self.size is None or self.method not in ("path", "channels"):
            return 1.0
        return low.shape[1] * low.shape[2] / (self.size[0] * self.size[1])

    @property
    def tokens(self) -> Tensor:
        """(N, positions) float64: the mean over the layers.

        Raises:
            DataError: the inputs are no sequences.
        """
        if self.size is not None:
            raise DataError("the inputs are images; their map is `pixels`.")
        return torch.stack([low[:, 0] for low in self.low.values()]).mean(0)

    @property
    def peak(self) -> Tensor:
        """(N, 2) int64, row and column of the largest pixel; of sequences (N,), the position."""
        if self.size is None:
            return self.tokens.nan_to_num(-torch.inf).argmax(1)
        flat = self.pixels.nan_to_num(-torch.inf).flatten(1).argmax(1)
        return torch.stack([flat // self.size[1], flat % self.size[1]], 1)


def region_map(
    monitor: Monitoring,
    inputs: Data,
    *,
    method: Method = "path",
    detector: str | None = None,
    layers: Sequence[str] | None = None,
    known: Data | None = None,
) -> RegionMap:
    """Where in each input a score comes from.

    Args:
        monitor: fitted; with several detectors calibrated, or see `detector`. Or a guard.
        inputs: images (N, channels, height, width), or sequences with an attention mask, as one
            batch or several of one shape.
        method: see `gradood.attribution.Method`.
        detector: whose score; None for the only one, or of several the sum of their scores, each
            less its median and divided by what lies between that and its 95 % quantile on the
            calibration data.
        layers: of ``"path"`` and ``"known"``: names of layers that everything passes through; None
            finds them, and takes six, evenly spread.
        known: of ``"known"`` and ``"channels"``: in-distribution inputs; some hundred are enough.
            ``"channels"`` takes those that were remembered (`gradood.Monitor.remember`) without.

    Raises:
        ConfigError: no such method, or several detectors without a calibration.
        NotFittedError: a detector that learns was not fitted.
        TapError: there is no such map of this model or detector; says why, and what to do.
        DataError: the inputs do not fit the model, or differ in shape.

    Cost:
        ``"path"``: for each layer 10 forwards and 8 truncated backwards; to find the layers a
        forward of two inputs for each that is tried. ``"channels"`` and
        ``"known"``: a pass over `known`, and a forward or two. ``"occlusion"``: 64 forwards, or one
        for each token.

    >>> import torch, gradood
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
    ...     torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> found = gradood.region_map(gradood.Monitor(net, "energy"), torch.rand(5, 3, 8, 8))
    >>> found.pixels.shape, float(max(g.abs().max() for g in found.gap.values())) < 1e-3
    (torch.Size([5, 8, 8]), True)
    """
    if method not in _METHODS:
        raise ConfigError(f"method={method!r}; {suggest(str(method), _METHODS)}")
    if method not in _WITH_KNOWN if known is not None else method == "known":
        raise ConfigError(
            'known= are in-distribution inputs for method="known" and "channels", and for no '
            f"other; method={method!r} was given {'none' if known is None else 'some'}."
        )
    return _joined(list(_maps(monitor, inputs, (method, detector, layers), known)))


def _maps(
    monitor: Monitoring,
    inputs: Data,
    how: tuple[Method, str | None, Sequence[str] | None],
    known: Data | None,
) -> Iterator[RegionMap]:
    """Maps of some rows after the other."""
    given: Any = getattr(monitor, "monitor", monitor)
    session, (method, detector, layers) = given._session, how
    state = session._fitted()
    session._compare(state.calibration_model or state.fit_model, "fitted")
    form = session.unbound.form
    bound, work = state.bound, None
    for batch in batches(inputs, form=form):
        if not len(batch.inputs):
            continue
        if bound is None:
            bound = session.unbound.bind(session.unbound.moved(batch.inputs))
        x = bound.reader.ready(batch.inputs)
        what = mapped_score(bound, state.rule, detector)
        if work is None:
            others: Any = state.known
            if known is not None:
                usable = finite_batches(batches(known, form=form), "known")
                others = (other.inputs for other in usable)
            work = _work(bound, x, what, (method, layers), others)
        for rows in x.split(_ROWS):
            yield _mapped(rows, what, method, work)


_Work: TypeAlias = Callable[[Inputs], dict[str, LayerMap]]


def _work(
    bound: DetectorSet,
    x: Inputs,
    what: MappedScore,
    how: tuple[Method, Sequence[str] | None],
    known: Iterable[Inputs] | KnownFeatures | None,
) -> _Work:
    """What maps rows, by layer."""
    network, (method, layers) = bound.binding.network, how
    if layers is not None and method not in ("path", "known"):
        raise ConfigError(f'layers= are those of method="path" and "known", not of {method!r}.')
    if method == "occlusion":
        return lambda rows: {"": occlusion(rows, what)}
    ready: Iterable[Inputs] = ()
    if known is not None and not isinstance(known, KnownFeatures):
        ready = (part for rows in known for part in bound.reader.ready(rows).split(_ROWS))
    if method == "channels":
        what.require_differentiable()
        last = str(pooled_place(network, x)[0])
        if known is None:
            raise ConfigError(
                'method="channels" takes contributions from the mean features of known inputs: '
                "give some as known=, or call monitor.remember(known) first."
            )
        remembered = isinstance(known, KnownFeatures)
        mean = known.mean if remembered else mean_features(network, ready)
        return lambda rows: {last: pooled_contributions(network, rows, what, mean)}
    finite = selected(x, finite_rows(x))
    if layers is None:
        places = default_places(network, finite, pixels=method == "known")
    else:
        places = grids_of(network, layers, x)
    if method == "known":
        gaussians = known_positions(network, places, ready)
        return lambda rows: _with_score(gaussians.distances(rows), what.of_inputs(rows))
    what.require_differentiable()
    return lambda rows: {
        str(place[0]): position_contributions(network, rows, what, place)
        for place in places.items()
    }


def _with_score(found: dict[str, LayerMap], score: Tensor) -> dict[str, LayerMap]:
    return {name: replace(layer, score=score) for name, layer in found.items()}


def _mapped(x: Inputs, what: MappedScore, method: Method, work: _Work) -> RegionMap:
    """The maps of some rows; NaN of those that are not finite."""
    finite = finite_rows(x)
    found = work(x if bool(finite.all()) else selected(x, finite))
    first = next(iter(found.values()))

    def spread(values: Tensor) -> Tensor:
        whole = torch.full((len(x), *values.shape[1:]), torch.nan, dtype=torch.float64)
        whole[finite.cpu()] = values.detach().double().cpu()
        return whole

    return RegionMap(
        {name: spread(layer.values) for name, layer in found.items()},
        spread(first.score),
        {name: spread(layer.reference) for name, layer in found.items()},
        method,
        what.name,
        image_size(x),
    )


def _joined(parts: Sequence[RegionMap]) -> RegionMap:
    if not parts:
        raise DataError("there is no input to map; give at least one.")
    first = parts[0]
    shapes = {tuple((n, v.shape[1:]) for n, v in part.low.items()) for part in parts}
    if len(shapes) > 1 or len({part.size for part in parts}) > 1:
        raise DataError("the inputs differ in shape; map batches of one shape at a time.")
    return RegionMap(
        {name: torch.cat([part.low[name] for part in parts]) for name in first.low},
        torch.cat([part.score for part in parts]),
        {name: torch.cat([part.reference[name] for part in parts]) for name in first.low},
        first.method,
        first.detector,
        first.size,
    )
