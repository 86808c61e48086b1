"""Maps of where in an input a score comes from."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias, get_args

import torch
from torch import Tensor

from gradood._engine.batches import Data, batches
from gradood._engine.detector_set import DetectorSet
from gradood._engine.rows import Inputs, finite_rows, selected
from gradood._engine.scoring import finite_batches
from gradood._io.arguments import described, type_named
from gradood.attribution._cuts import default_places, grids_of
from gradood.attribution._grid import image_size
from gradood.attribution._known_positions import known_positions
from gradood.attribution._mapped_score import MappedScore, mapped_score
from gradood.attribution._occlusion import occlusion
from gradood.attribution._passes import answered
from gradood.attribution._path import LayerMap, position_contributions
from gradood.attribution._pooled import mean_features, pooled_contributions, pooled_place
from gradood.attribution._region_values import Method, RegionMap, blank, joined
from gradood.attribution.known import KnownFeatures
from gradood.detectors.base import Detector
from gradood.errors import ConfigError, suggest

__all__ = ["region_map"]

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
        raise ConfigError(f"method={described(method)}; {suggest(str(method)[:80], _METHODS)}")
    if method not in _WITH_KNOWN if known is not None else method == "known":
        raise ConfigError(
            'known= are in-distribution inputs for method="known" and "channels", and for no '
            f"other; method={method!r} was given {'none' if known is None else 'some'}."
        )
    how = method, detector, None if layers is None else _layer_names(layers)
    return joined(list(_maps(_monitor(monitor), inputs, how, known)))


def _layer_names(layers: object) -> tuple[str, ...]:
    """Names of layers, as they were given."""
    names: Any = layers if isinstance(layers, Iterable) and not isinstance(layers, str) else None
    found = () if names is None else tuple(names)
    if not found or not all(isinstance(name, str) for name in found):
        raise ConfigError(
            f"layers={described(layers)}; expected one or more names of layers, such as "
            "['layer2', 'layer3'], or None, which finds some."
        )
    return found


def _monitor(given: object) -> Any:
    """The monitor that was given, or that of a guard."""
    found = getattr(given, "monitor", given)
    if isinstance(found, type) or getattr(found, "_session", None) is None:
        raise ConfigError(
            f"monitor is {type_named(given)}; expected a monitor or a guard, such as "
            "gradood.Monitor(model, 'energy')."
        )
    return found


def _maps(
    monitor: Any,
    inputs: Data,
    how: tuple[Method, str | None, Sequence[str] | None],
    known: Data | None,
) -> Iterator[RegionMap]:
    """Maps of some rows after the other."""
    session, (method, detector, layers) = monitor._session, how
    state = session._fitted()
    session._compare(state.calibration_model or state.fit_model, "fitted")
    form = session.unbound.form
    bound, work = state.bound, None
    for batch in batches(inputs, form=form):
        if not len(batch.inputs):
            continue
        finite = finite_rows(batch.inputs)
        nothing = blank(len(finite), method, image_size(batch.inputs))
        if not bool(finite.any()):
            yield nothing
            continue
        if bound is None:
            bound = session.unbound.bind(session.unbound.moved(batch.inputs))
        x = bound.reader.ready(batch.inputs)
        what = mapped_score(bound, state.rule, detector)
        if work is None:
            some = answered(bound.binding.network, selected(x, finite_rows(x)), _ROWS)
            if some is None:
                yield nothing
                continue
            others: Any = state.known
            if known is not None:
                usable = finite_batches(batches(known, form=form), "known")
                others = (other.inputs for other in usable)
            work = _work(bound, some, what, (method, layers), others)
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
    if layers is None:
        places = default_places(network, x, pixels=method == "known")
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
    """The maps of some rows; NaN of those that are not finite, or have no finite score."""
    finite = finite_rows(x)
    if not bool(finite.any()):
        return blank(len(finite), method, image_size(x))
    found = work(x if bool(finite.all()) else selected(x, finite))
    first = next(iter(found.values()))

    def spread(values: Tensor) -> Tensor:
        whole = torch.full((len(x), *values.shape[1:]), torch.nan, dtype=torch.float64)
        whole[finite.cpu()] = values.detach().double().cpu()
        return whole

    score = spread(first.score)
    sound = score.isfinite()[:, None, None]
    return RegionMap(
        {n: spread(layer.values).where(sound, torch.nan) for n, layer in found.items()},
        score,
        {name: spread(layer.reference) for name, layer in found.items()},
        method,
        what.name,
        image_size(x),
    )
