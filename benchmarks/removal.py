"""How much scores fall as leading units are removed, and whether by more than another order does.

The curve is over the shares of units in `FRACTIONS`; the area over it (AOPC; Samek et al., 2017,
arXiv:1509.06321) is the mean fall over the first half of the units: the integral from 0 to the last
share by trapezoids, by that share. Orders are compared image by image: the mean of the differences
and its standard error, so that what all orders owe to an image drops out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradood.evidence import FEATURES, LOGITS, Evidence

FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the units that are removed."""
TENTH = FRACTIONS.index(0.1)
DRAWS = 5
"""Random orders, whose mean is taken."""
RIDGE = 1e-6
"""Of the mean variance, added to each."""
ERRORS = 2.0
"""Standard errors by which a mean difference is told from 0."""
REMOVALS = ("mean", "predicted", "class")
"""Removed units are set to their mean, to what the units that stay predict, or to their mean over
the fitted images that were taken for the same class."""
OWN = {"units": "mean of all", "class": "mean of the class"}
"""Contributions, by what they count from."""
ORDERS = {"random": "random", "gradient": "gradient × input"}
Score = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Removal:
    """What takes the place of removed units.

    Attributes:
        mean: (width,) of the fitted features.
        precision: (width, width) inverse of their covariance.
        of_class: (n, width) means of the classes that the unknown images were taken for; None
            where they are not known yet.
    """

    mean: Tensor
    precision: Tensor
    of_class: Tensor | None = None

    @staticmethod
    def of(features: Tensor) -> "Removal":
        """From features (n, width)."""
        spread = torch.cov(features.T)
        ridge = RIDGE * spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype)
        return Removal(features.mean(0), torch.linalg.inv(spread + ridge))

    def without(self, features: Tensor, units: Tensor, how: str) -> Tensor:
        """Features (n, width) without the units (n, count)."""
        away = features - self.mean
        if how != "predicted":
            value = self.mean.expand_as(features) if how == "mean" else self.of_class
            assert value is not None
            return features.scatter(1, units, value.to(features).gather(1, units))
        # Given the others, units S of a Gaussian have the mean h_S − P_SS⁻¹ (P (h − μ))_S.
        among = self.precision[units[:, :, None], units[:, None, :]]
        fall = torch.linalg.solve(among, (away @ self.precision).gather(1, units)[..., None])
        return features.scatter_add(1, units, -fall[..., 0])


def score_of(detector: Any, evidence: Evidence, state: Any) -> Score:
    """The score as a function of features (m, width) of rows (m,)."""
    head = evidence.linear
    weight, bias = head.weight.double(), head.bias
    made = evidence.features.double() @ weight.T + (0.0 if bias is None else bias.double())
    beyond = evidence.logits - made

    def score(points: Tensor, rows: Tensor) -> Tensor:
        logits = points @ weight.T + (0.0 if bias is None else bias.double()) + beyond[rows]
        values = {read: tensor[rows] for read, tensor in evidence._read.items()}
        values |= {FEATURES: points, LOGITS: logits}
        return detector.measure(replace(evidence, size=len(points), _read=values), state)

    return score


def counts(width: int) -> list[int]:
    """Units that are removed, for each share."""
    return [max(1, round(share * width)) for share in FRACTIONS]


def orders_of(score: Score, before: Tensor, own: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """What units (n, width) are ordered by, the largest first: one tensor, or one for each draw."""
    generator = torch.Generator().manual_seed(0)
    draws = [torch.rand(before.shape, generator=generator) for _ in range(DRAWS)]
    orders = {name: [units] for name, units in own.items()} | {"random": draws}
    leaf = before.detach().requires_grad_()
    try:
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(score(leaf, torch.arange(len(leaf))).sum(), leaf)
        orders["gradient"] = [slope.nan_to_num() * before]
    except RuntimeError:  # It has none.
        pass
    return orders


def curves(
    score: Score, evidence: Evidence, removal: Removal, own: Mapping[str, Tensor], spread: float
) -> dict[str, dict[str, Any]]:
    """Falls by how units are removed: by order those of each share, the area, the differences.

    Args:
        score: of the unknown images.
        evidence: theirs.
        removal: what takes the place of units.
        own: (n, width) contributions, by the names of `OWN`.
        spread: of the known images' scores, in which falls are given.
    """
    before, rows = evidence.features.double(), torch.arange(evidence.size)
    start, orders = score(before, rows), orders_of(score, before, own)

    def falls(order: Tensor, how: str) -> Tensor:
        removed = (order.topk(count, 1).indices for count in counts(before.shape[1]))
        each = [start - score(removal.without(before, places, how), rows) for places in removed]
        return torch.stack(each) / spread

    found: dict[str, dict[str, Any]] = {}
    for how in REMOVALS:
        by_order = {
            name: torch.stack([falls(order, how) for order in each]).mean(0)
            for name, each in orders.items()
        }
        areas = {name: area(each) for name, each in by_order.items()}
        found[how] = {
            "curve": {name: each.mean(1).tolist() for name, each in by_order.items()},
            "area": {name: float(each.mean()) for name, each in areas.items()},
            "paired": {
                one: {n: paired(areas[one] - areas[n]) for n in ORDERS if n in areas} for one in own
            },
            "paired tenth": {
                n: paired(by_order["units"][TENTH] - by_order[n][TENTH])
                for n in ORDERS
                if n in areas
            },
        }
    return found


def area(falls: Tensor) -> Tensor:
    """(n,) mean fall over the shares from 0 to the last, of falls (shares, n)."""
    shares = torch.tensor((0.0, *FRACTIONS), dtype=torch.float64)
    whole = torch.cat([torch.zeros_like(falls[:1]), falls])
    return torch.trapezoid(whole, shares, dim=0) / FRACTIONS[-1]


def paired(differences: Tensor) -> list[float]:
    """Mean of differences (n,) and its standard error."""
    error = differences.std() / len(differences) ** 0.5
    return [float(differences.mean()), float(error)]


def told(mean: float, error: float) -> str:
    """Whether a mean difference is more or less than 0, or the same within its error."""
    return "same" if abs(mean) <= ERRORS * error else "more" if mean > 0 else "less"


def summary_lines(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Counts of methods, as a table.

    Args:
        found: network → what was measured.
    """
    lines = ["| network | set to | contributions from | measure | against | more | same | less |"]
    lines += ["|---|---|---|---|---|---:|---:|---:|"]
    for network, record in found.items():
        for how in REMOVALS:
            each = [m["removed"][how] for m in record["methods"].values() if m["removed"]]
            each = [one for one in each if any(one["area"].values())]
            for own, measure in (("units", "a tenth"), ("units", "area"), ("class", "area")):
                pairs = [
                    one["paired tenth"] if measure == "a tenth" else one["paired"].get(own, {})
                    for one in each
                ]
                for order, title in ORDERS.items():
                    words = [told(*pair[order]) for pair in pairs if order in pair]
                    cells = " | ".join(str(words.count(w)) for w in ("more", "same", "less"))
                    lines.append(
                        f"| {network} | {how} | {OWN[own]} | {measure} | {title} | {cells} |"
                    )
    return lines


def fall_cells(found: Mapping[str, Any] | None) -> str:
    """Of one method and way: falls by a tenth, areas, and the difference of areas, as cells."""
    if not found:
        return "– | – | –"
    if not any(found["area"].values()):
        return "reads other features | – | –"
    names = ("units", *ORDERS)
    tenth = [f"{found['curve'][n][TENTH]:.2f}" if n in found["curve"] else "none" for n in names]
    names = (*OWN, *ORDERS)
    areas = [f"{found['area'][n]:.2f}" if n in found["area"] else "none" for n in names]
    apart = [
        f"{mean:+.2f} ± {error:.2f} {told(mean, error)}"
        for mean, error in (
            each["gradient"] for each in found["paired"].values() if "gradient" in each
        )
    ]
    return f"{' / '.join(tenth)} | {' / '.join(areas)} | {'; '.join(apart) or '–'}"
