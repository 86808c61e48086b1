"""Low-dimensional gradients."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, feature_terms
from gradood.detectors._shared.fit_data import (
    auto_neighbors,
    check_finite,
    check_neighbors,
    warn_of_fit,
)
from gradood.detectors._shared.labels import check_labels
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import DataError, TapError
from gradood.evidence import FEATURES, KEYS, Evidence, Linear
from gradood.functional.directions import directions
from gradood.functional.gradnorm import linear_logits
from gradood.functional.low_dim_grad import gradient_products, mean_directions
from gradood.functional.neighbors import Bank, Polar, kth_distance
from gradood.functional.samples import Selection
from gradood.functional.score_terms import kth_neighbor
from gradood.taps import Network

__all__ = ["LowDimGrad"]

_FLAT = 1e-12
"""Mean square, of coordinates at unit length, that rounding leaves off a line."""
_BLOCK = 1024
_MOST = 5
_OUTSIDE = 0.1
"""Of the fit samples, predicted to be of classes without any, above which a warning is given."""


@final
class LowDimGrad(Learner[Selection]):
    """Distance to the k-th nearest gradient, after reduction to a few directions [wu2023lowdim].

    Reads the features and the head; keeps a seeded part of the fit data. The gradient is that of
    ``logsumexp(z)``; the directions are the classes' mean gradients, the paper's choice for large
    networks; the score is that of nearest neighbors, one of those the paper puts on the reduced
    gradients. Restricted here to the head's gradient, whose rank is one, so that products of
    gradients are products of numbers; the paper takes all parameters, each scaled by its
    deviation, which has no closed form. Directions and neighbors come from the same samples.

    ``score = ‖r/‖r‖ − r_(k)/‖r_(k)‖‖₂`` with ``r_c = ⟨p hᵀ − ḡ, ḡ_c − ḡ⟩ / ‖ḡ_c − ḡ‖``, ḡ_c the
    mean gradient of class c and ḡ that of all; where the head has a bias, so has the gradient.

    Args:
        k: which neighbor; ``"auto"`` is the root of the kept samples per class, from 1 to the 5 of
            the paper on CIFAR-10 (10 on ImageNet).
        samples: fit samples kept, chosen by content; some of every class are needed.

    Cost: the forward pass; samples · (width + classes) multiplications per image.

    >>> LowDimGrad(k=10)
    LowDimGrad(k=10)
    """

    name = "low-dim-grad"
    title = "Distance to the k-th nearest gradient in the classes' mean directions."
    needs = ("features", "head", "labels")
    cost = (
        "one forward (closed form); one fit pass; keeps features and probabilities of 5,000 fit "
        "samples (samples)"
    )
    fails_when = (
        "There are fewer than three classes (refused: two leave one direction), the kept samples "
        "are few per class (raise samples with the classes), the model takes many of them for "
        "classes of which there are none (warned of above a tenth), or what tells unknown inputs "
        "apart is not in the head's gradient: the paper's results are of all layers."
    )
    attribution = (
        "terms: the path of the features from the reference, of the distance to the neighbor "
        "that answers; the reference value is its distance to that neighbor"
    )
    state_shapes = (
        "p: float samples classes",
        "features: float samples features",
        "coefficients: float samples rank",
        "offset: float rank",
        "unit: float samples rank",
        "log_length: float samples",
        "k?: int",
    )
    published: ClassVar[Mapping[str, Any]] = {"k": 5}

    def __init__(self, *, k: int | Literal["auto"] = "auto", samples: int = 5000) -> None:
        whole = isinstance(k, int) and k > 0
        require(k == "auto" or whole, "k", k, "a whole number > 0, or 'auto'")
        least = 1 if k == "auto" else k
        require(
            isinstance(samples, int) and samples >= least, "samples", samples, f"at least {least}"
        )
        self.k: int | Literal["auto"] = k
        self.samples = samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; content keys in a fit, to choose samples by."""
        if network.classes < 3:
            raise TapError(
                f"low-dim-grad compares directions of gradients in the classes' mean directions, "
                f"and this model has {network.classes} classes, which leave one direction or none; "
                "expected three or more. Leave low-dim-grad out."
            )
        return Plan((FEATURES,), fit_reads=(FEATURES, KEYS))

    def accumulate(self, evidence: Evidence) -> Selection:
        """Features and labels of the samples with the smallest keys."""
        labels = check_labels(evidence, self.name)
        columns = {"key": evidence[KEYS], "features": evidence.features, "labels": labels}
        return Selection.of(self.samples, **columns)

    def finish(self, samples: Selection, network: Network, plan: Plan) -> State:
        """The kept samples, the directions as combinations of them, and their coordinates."""
        features, labels = samples.columns["features"], samples.columns["labels"]
        if self.k != "auto":
            check_neighbors(len(features), self.k, self.name, network.classes)
        check_finite(features, self.name)
        weight, bias = network.head.weight, network.head.bias
        head = Linear(
            weight.to(features.device), None if bias is None else bias.to(features.device)
        )
        state = _directions(features, labels, head)
        _warn_of_outside(state["p"], labels)
        units = torch.cat([_coordinates(part, head, state) for part in features.split(_BLOCK)])
        # Two classes' mean directions are opposite: at unit length, only a sign would be left.
        if not bool(torch.linalg.eigvalsh(units.T @ units)[-2:-1].gt(_FLAT * len(units)).any()):
            raise DataError(
                f"low-dim-grad was fitted on {len(units)} samples whose gradients lie on one "
                "line in the classes' mean directions, so that distances say nothing; give samples "
                "of three classes or more."
            )
        bank = Bank.of(_polar(units)).vectors
        state = {**state, "unit": bank.unit, "log_length": bank.log_length}
        if self.k == "auto":
            k = auto_neighbors(len(features), network.classes, _MOST)
            state["k"] = torch.tensor(k, device=features.device)
        return state

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        units = _coordinates(evidence.features, evidence.linear, state)
        bank = Bank(Polar(state["unit"], state["log_length"]))
        k = int(state["k"]) if self.k == "auto" else self.k
        return kth_distance(_polar(units), bank, k)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        bank = Bank(Polar(state["unit"], state["log_length"]))
        k = int(state["k"]) if self.k == "auto" else self.k
        units = _polar(_coordinates(evidence.features, evidence.linear, state))
        near = bank.vectors.unit[kth_neighbor(units, bank, k)].double()
        exact = _coordinates(evidence.features, evidence.linear, state)
        # Of the bank's own type.
        rounding = kth_distance(units, bank, k) - torch.linalg.vector_norm(exact - near, dim=1)

        def distance(points: Tensor, rows: Tensor) -> Tensor:
            own = _coordinates(points, evidence.linear, state)
            return torch.linalg.vector_norm(own - near[rows], dim=1) + rounding[rows]

        return feature_terms(distance, reference.features, evidence.features)


def _directions(features: Tensor, labels: Tensor, head: Linear) -> dict[str, Tensor]:
    """The classes' mean gradients, as combinations of the samples that are kept with them.

    Raises:
        DataError: no class has a mean gradient of its own.
    """
    p = _prediction(features, head)
    coefficients, offset = mean_directions(p, features, labels, bias=head.bias is not None)
    if len(offset) == 0:
        raise DataError(
            "low-dim-grad needs classes whose mean gradients differ; the fit data has one "
            "class, or the same features for all; give samples of several classes."
        )
    return {
        "p": p,
        "features": features.clone(memory_format=torch.contiguous_format),
        "coefficients": coefficients.contiguous(),
        "offset": offset,
    }


def _warn_of_outside(p: Tensor, labels: Tensor) -> None:
    """Warn where the model takes fit samples for classes that have no direction of their own.

    Such samples lie together near the mean of all, and so do unknown inputs, which are then near
    to them. Nothing is lost where fit samples are of few classes that the model tells well.

    Args:
        p: (samples, classes) softmax of the fit samples.
        labels: (samples,) their classes.
    """
    present = torch.zeros(p.shape[1], dtype=torch.bool, device=p.device)
    present[labels] = True
    outside = float((~present[p.argmax(1)]).double().mean())
    if outside > _OUTSIDE:
        warn_of_fit(
            f"low-dim-grad says little here: the model takes {outside:.0%} of the fit samples for "
            f"one of the {int((~present).sum())} classes of which there are none, whose gradients "
            "lie together with those of unknown inputs, so that these look known. Fit on samples "
            "of every class, or leave low-dim-grad out."
        )


def _prediction(features: Tensor, head: Linear) -> Tensor:
    return torch.softmax(linear_logits(features, head.weight, head.bias), 1)


def _coordinates(features: Tensor, head: Linear, state: State) -> Tensor:
    """(batch, dims) reduced gradients, at unit length."""
    products = gradient_products(
        _prediction(features, head),
        features,
        state["p"],
        state["features"],
        bias=head.bias is not None,
    )
    return directions(products @ state["coefficients"] - state["offset"])


def _polar(units: Tensor) -> Polar:
    # Of length one to the last bit, so that rounding does not sort the bank; zero stays zero.
    zero = units.abs().amax(1) == 0
    return Polar(units.float(), torch.where(zero, -1e5, 0.0).double())
