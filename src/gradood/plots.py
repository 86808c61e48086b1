"""Pictures of scores and decisions, drawn with matplotlib (``gradood[plots]``).

Every function draws into the axes given, or into a new figure of pyplot, and returns the axes.
Nothing else of matplotlib is changed: no style, no backend, no parameter. The colors are those of
Okabe and Ito, which color-blind readers can tell apart; curves differ in their dashes too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradood._io.arguments import whole
from gradood._io.optional import optional_module
from gradood.attribution import RegionMap
from gradood.calibration.results import Result, Results
from gradood.errors import ConfigError, DataError
from gradood.metrics import auroc
from gradood.metrics._outlines import histogram_edges, roc_points
from gradood.metrics.counts import Counts, Scores, checked

__all__ = ["plot_curve", "plot_regions", "plot_roc", "plot_scores"]

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")
_POINTS = 1000

_One = Scores | Result
_Several = _One | Mapping[str, _One]


def plot_roc(id: _Several, ood: _Several, *, ax: Any = None) -> Any:
    """ROC curves: the share of OOD samples flagged, against that of ID samples, with the AUROC.

    Args:
        id: in-distribution scores (n,) or a `Result`; of several methods a mapping by name, such as
            `Results` or what `Monitor.score` gives.
        ood: out-of-distribution scores (m,), of the same methods.
        ax: matplotlib axes; None for a new figure.

    Returns:
        The axes.

    Raises:
        DataError: no scores, or other methods.
        ModuleNotFoundError: matplotlib is not installed.

    Cost: a sort per method; at most 1,000 points are drawn of each curve.
    """
    known, unknown = _named(id, "id"), _named(ood, "ood")
    if list(known) != list(unknown):
        raise DataError(
            f"id has {', '.join(known)} and ood {', '.join(unknown)}; expected scores of the same "
            "methods in the same order."
        )
    axes = _axes(ax)
    for number, (name, inside) in enumerate(known.items()):
        x, y = roc_points(Counts.of(inside, unknown[name]), _POINTS)
        area = f"AUROC {100 * auroc(inside, unknown[name]):.1f}"
        axes.plot(x, y, **_line(number), label=f"{name}: {area}" if name else area)
    _square(axes, "in-distribution samples flagged", "out-of-distribution samples flagged")
    axes.legend(loc="lower right", fontsize="small")
    return axes


def plot_scores(
    id: _One, ood: _Several, *, threshold: float | None = None, bins: int = 40, ax: Any = None
) -> Any:
    """Histograms of the scores of one method, of the known and the unknown, in the same bins.

    Args:
        id: in-distribution scores (n,), or a `Result`.
        ood: out-of-distribution scores (m,), or a `Result`; of several sets a mapping by name.
        threshold: a line where decisions are made, such as
            ``monitor.summary().detectors[0].threshold``; None for none.
        bins: number of bars, at least 1.
        ax: matplotlib axes; None for a new figure.

    Returns:
        The axes. The outermost bars hold all that lies beyond them, infinite scores too.

    Raises:
        ConfigError: no bin.
        DataError: no scores.
        ModuleNotFoundError: matplotlib is not installed.
    """
    bins = whole(bins, "bins", least=1)
    sets = {"in-distribution": _scores(id, "id")}
    for name, values in _named(ood, "ood").items():
        sets[name or "out-of-distribution"] = values
    edges = histogram_edges(np.concatenate(list(sets.values())), bins)
    axes = _axes(ax)
    for number, (name, values) in enumerate(sets.items()):
        shares = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / values.size
        style = _line(number)
        axes.stairs(100 * shares, edges, fill=True, alpha=0.25, color=style["color"])
        axes.stairs(100 * shares, edges, **style, label=f"{name} ({values.size:,})")
    if threshold is not None:
        axes.axvline(threshold, color="0.3", linewidth=1, label=f"threshold {threshold:.4g}")
    axes.set_xlabel("score (higher = more out-of-distribution)")
    axes.set_ylabel("samples in percent of their set")
    axes.legend(fontsize="small")
    return axes


def plot_curve(results: _Several, *, ax: Any = None) -> Any:
    """The share of samples flagged at every false-alarm rate that could have been promised.

    That is the distribution of the p-values, on logarithmic axes. Of in-distribution data that
    were not calibrated on, the curve should lie on or below the diagonal: that is the promise. Of
    out-of-distribution data, the higher the better.

    Args:
        results: a `Result`, or p-values (N,) in (0, 1]; of several sets or methods a mapping by
            name, such as ``{"new": monitor.predict(a), "photos": monitor.predict(b)}``, or
            `Results`. In a mapping, `Results` of a monitor that combines stand for the combined
            decision.
        ax: matplotlib axes; None for a new figure.

    Returns:
        The axes.

    Raises:
        DataError: no p-values.
        ModuleNotFoundError: matplotlib is not installed.
    """
    named = _named(results, "results", p_values=True)
    for name, p in named.items():
        if not (p.min() > 0 and p.max() <= 1):
            raise DataError(
                f"{name or 'results'} are no p-values; expected (N,) above 0 and at most 1, such "
                "as those of Monitor.predict."
            )
    axes = _axes(ax)
    least = min(float(p.min()) for p in named.values())
    rates = np.geomspace(min(least, 0.01), 1, _POINTS)
    for number, (name, p) in enumerate(named.items()):
        shares = np.searchsorted(np.sort(p), rates, side="right") / p.size
        axes.plot(rates, np.where(shares > 0, shares, np.nan), **_line(number), label=name or None)
    axes.plot([rates[0], 1], [rates[0], 1], color="0.6", linewidth=1, label="the promise")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("false-alarm rate promised")
    axes.set_ylabel("share of samples flagged")
    axes.grid(True, which="major", color="0.9")
    axes.set_axisbelow(True)
    axes.legend(fontsize="small")
    return axes


def plot_regions(found: RegionMap, images: Any, *, row: int = 0, ax: Any = None) -> Any:
    """One image in gray, with where its score comes from over it.

    Orange raises the score, toward out-of-distribution, blue lowers it; the less of either, the
    clearer, from the 99 % quantile of sizes down. A cross marks the largest value.

    Args:
        found: of `gradood.region_map`, of images.
        images: (N, channels, height, width), the same, in any range.
        row: which of them.
        ax: matplotlib axes; None for a new figure.

    Returns:
        The axes.

    Raises:
        DataError: the images are of another number or size, or the map is of sequences.
        ModuleNotFoundError: matplotlib is not installed.
    """
    pixels = found.pixels
    shape: tuple[int, ...] = tuple(getattr(images, "shape", ()))
    if len(shape) != 4 or shape[:1] + shape[2:] != tuple(pixels.shape):
        raise DataError(
            f"images of shape {shape}; expected the {len(pixels)} of the map, (N, channels, "
            f"{pixels.shape[1]}, {pixels.shape[2]})."
        )
    values = pixels[row].nan_to_num(0.0).numpy()
    gray = np.asarray(images[row], dtype=np.float64).mean(0)
    spread = gray.max() - gray.min()
    gray = (gray - gray.min()) / (spread if spread > 0 else 1.0)
    size = np.abs(values)
    strength = np.minimum(size / max(float(np.quantile(size, 0.99)), 1e-300), 1.0)
    colors = np.where(values[..., None] > 0, _rgb(_COLORS[1]), _rgb(_COLORS[0]))
    axes = _axes(ax)
    axes.imshow(gray, cmap="gray", vmin=-0.2, vmax=1.2)
    axes.imshow(np.concatenate([colors, 0.75 * strength[..., None]], 2))
    top, left = (int(place) for place in found.peak[row].unbind())
    axes.plot(left, top, marker="x", color="white", markersize=9, markeredgewidth=3.5)
    axes.plot(left, top, marker="x", color="black", markersize=8, markeredgewidth=1.5)
    axes.set_axis_off()
    return axes


def _rgb(color: str) -> list[float]:
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def _axes(given: Any) -> Any:
    if given is not None:
        if not hasattr(given, "plot") or not hasattr(given, "set_xlabel"):
            raise ConfigError(
                f"ax is {type(given).__name__}; expected matplotlib axes, such as the second of "
                "plt.subplots(), or None for a new figure."
            )
        return given
    install = "pip install matplotlib, or gradood with the extra 'plots'"
    pyplot = optional_module("matplotlib.pyplot", "matplotlib", "draws", install)
    return pyplot.subplots(layout="constrained")[1]


def _line(number: int) -> dict[str, Any]:
    color, dash = _COLORS[number % len(_COLORS)], _DASHES[number % len(_DASHES)]
    return {"color": color, "linestyle": dash, "linewidth": 1.6}


def _square(axes: Any, x: str, y: str) -> None:
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xlabel=x, ylabel=y)
    axes.grid(True, color="0.9")
    axes.set_axisbelow(True)


def _named(given: Any, what: str, *, p_values: bool = False) -> dict[str, np.ndarray]:
    """Scores or p-values by name; one alone under the empty name."""
    if not isinstance(given, Mapping):
        return {"": _scores(given, what, p_values=p_values)}
    if not list(given):
        raise DataError(f"{what} is empty; expected at least one set of scores.")
    named = {
        str(n): _scores(value, f"{what}[{n!r}]", p_values=p_values) for n, value in given.items()
    }
    if isinstance(given, Results) and given.combined is not None:
        named["combined"] = _scores(given.combined, what, p_values=p_values)
    return named


def _scores(given: Any, what: str, *, p_values: bool = False) -> np.ndarray:
    # P-values of a combination compare with those of a detector; its statistic is no such score.
    if p_values and isinstance(given, Results) and given.combined is not None:
        given = given.combined
    if isinstance(given, Mapping):
        raise DataError(
            f"{what} is a mapping of {', '.join(map(str, given))}; expected the scores of one "
            "method: choose one, as in results['energy']."
        )
    if isinstance(given, Result):
        given = given.p_value if p_values else given.score
    return checked(given, what)
