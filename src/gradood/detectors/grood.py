"""GROOD."""

import logging
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors.base import Learner, Partial, Plan, State, require
from gradood.detectors.classes import check_labels, present
from gradood.detectors.outliers import EarlyMixing, find_cut, input_extremes, noise_features
from gradood.errors import DataError
from gradood.evidence import (
    FEATURES,
    INPUT_RANGE,
    KEYS,
    LOGITS,
    MAP,
    Activation,
    Evidence,
    Read,
)
from gradood.functional.grood import ood_gradient, prototype_distances
from gradood.functional.moments import ClassMoments
from gradood.functional.neighbors import Bank, Polar, kth_distance
from gradood.functional.samples import Rows
from gradood.taps import Network

__all__ = ["GROOD"]

_LOG = logging.getLogger(__name__)
_CHUNK = 4096


@final
class GROOD(Learner):
    """Gradient at an OOD prototype, compared with training gradients [elaraby2025grood].

    Reads the features; learns class prototypes, one OOD prototype and the gradients of the fit
    data. Assumes that the gradient of a nearest-prototype loss with respect to the OOD prototype
    separates known from unknown.

    ``g = π_o · (h − p_o)/‖h − p_o‖`` with ``π = softmax(−‖h − p_j‖)``, exact without a backward
    pass; the score is the distance of g to its k-th nearest among the fit gradients.

    Args:
        ood_prototype: ``"synthetic"`` averages features of training images mixed, at an early
            layer, with the mean activation of their second most likely class; ``"noise"`` those of
            blurred noise; ``"class-mean"`` the class prototypes; a tensor is taken as it is, one
            (width,) or several (n, width) to be averaged.
        mix: share of the image's own activation in a synthetic outlier, 0 to 1.
        n_synthetic: how many synthetic outliers (a tenth of the noise images drawn).
        early_layer: where to mix; None takes the first stage's output.
        score: ``"neighbour"``, or ``"norm"`` for π_o alone, which needs no bank.
        bank: gradients of ``"correct"``ly classified fit samples or of ``"all"``.
        k: which neighbor.

    Cost: the forward pass and an exact search of the bank; keeps all fit features, and for
    synthetic outliers the early means of as many classes as fit in 512 MB.

    >>> GROOD(ood_prototype="class-mean")
    GROOD(ood_prototype='class-mean')
    """

    name: ClassVar[str] = "grood"
    title: ClassVar[str] = "Distance of the gradient at an OOD prototype to the fit data's."
    paper: ClassVar[str] = "elaraby2025grood"
    needs: ClassVar[tuple[str, ...]] = ("features", "head", "labels", "early layer (fit)")
    cost: ClassVar[str] = (
        "one forward; one fit pass; keeps all fit features and searches them exactly"
    )
    fails_when: ClassVar[str] = (
        "The OOD prototype falls among the class prototypes (their mean, on networks whose unknown "
        "inputs do not gather there), or features are so long that π_o vanishes for every input."
    )

    def __init__(
        self,
        *,
        ood_prototype: Literal["synthetic", "noise", "class-mean"] | Tensor = "synthetic",
        mix: float = 0.5,
        n_synthetic: int = 100,
        early_layer: str | None = None,
        score: Literal["neighbour", "norm"] = "neighbour",
        bank: Literal["correct", "all"] = "correct",
        k: int = 1,
    ) -> None:
        named = ("synthetic", "noise", "class-mean")
        if isinstance(ood_prototype, Tensor):
            require(
                ood_prototype.ndim in (1, 2) and bool(ood_prototype.isfinite().all()),
                "ood_prototype",
                tuple(ood_prototype.shape),
                "a finite tensor (width,) or (n, width)",
            )
        else:
            require(ood_prototype in named, "ood_prototype", ood_prototype, f"{named} or a tensor")
        require(0 <= mix <= 1, "mix", mix, "a number from 0 to 1")
        require(isinstance(n_synthetic, int) and n_synthetic > 0, "n_synthetic", n_synthetic, "> 0")
        require(score in ("neighbour", "norm"), "score", score, "'neighbour' or 'norm'")
        require(bank in ("correct", "all"), "bank", bank, "'correct' or 'all'")
        require(isinstance(k, int) and k > 0, "k", k, "a whole number > 0")
        self.ood_prototype = ood_prototype
        self.mix = mix
        self.n_synthetic = n_synthetic
        self.early_layer = early_layer
        self.score = score
        self.bank = bank
        self.k = k

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Features; in a fit also what the OOD prototype is made from."""
        reads: tuple[Read, ...] = (FEATURES, LOGITS, KEYS)
        notes: tuple[str, ...] = ()
        if self.ood_prototype == "noise":
            reads = (*reads, INPUT_RANGE)
        elif self.ood_prototype == "synthetic":
            site = find_cut(network, probe, self.early_layer)
            reads = (*reads, Activation(site, MAP))
            notes = (f"outliers mixed at {site}",)
        return Plan((FEATURES,), fit_reads=reads, notes=notes)

    def accumulate(self, evidence: Evidence) -> Partial:
        """Class means, features, and what the OOD prototype is made from."""
        labels = check_labels(evidence, self.name)
        keys = evidence[KEYS]
        seen: dict[str, object] = {
            "prototypes": ClassMoments.of(evidence.features, labels, evidence.classes)
        }
        if self.score == "neighbour":
            right = evidence.logits.argmax(1) == labels
            chosen = right if self.bank == "correct" else torch.ones_like(right)
            seen["bank"] = Rows.of(key=keys[chosen], features=evidence.features[chosen])
        if self.ood_prototype == "noise":
            seen["inputs"] = input_extremes(evidence[INPUT_RANGE])
        elif self.ood_prototype == "synthetic":
            early = evidence.readings[3]
            mixing = EarlyMixing.of(early, evidence.logits, labels, keys, self.n_synthetic)
            seen["mixing"] = mixing
        return seen

    def finish(self, partial: Partial, network: Network, plan: Plan) -> State:
        """Prototypes, and the bank of gradients."""
        moments: ClassMoments = partial["prototypes"]
        prototypes = moments.mean[present(moments, self.name)]
        ood = self._ood_prototype(prototypes, partial, network, plan)
        gaps = prototype_distances(ood[None], prototypes)[0]
        _LOG.info(
            "grood: OOD prototype %.3g to %.3g from the class prototypes",
            float(gaps.min()),
            float(gaps.max()),
        )
        state = {"prototypes": prototypes, "ood": ood}
        if self.score == "norm":
            return state
        features = partial["bank"].tensors()["features"]
        if len(features) < self.k:
            raise DataError(
                f"grood with k={self.k}, bank={self.bank!r} has {len(features)} fit samples in its "
                "bank; give more, or bank='all'."
            )
        parts = [ood_gradient(rows, prototypes, ood) for rows in features.split(_CHUNK)]
        vectors = Bank.of(
            Polar(torch.cat([p.unit for p in parts]), torch.cat([p.log_length for p in parts]))
        ).vectors
        return {**state, "unit": vectors.unit, "log_length": vectors.log_length}

    def _ood_prototype(
        self, prototypes: Tensor, partial: Partial, network: Network, plan: Plan
    ) -> Tensor:
        kind = self.ood_prototype
        if isinstance(kind, Tensor):
            given = kind.to(prototypes).reshape(-1, kind.shape[-1]).mean(0)
            if given.shape != prototypes.shape[1:]:
                raise DataError(
                    f"ood_prototype has width {given.shape[0]}; the features have "
                    f"{prototypes.shape[1]}."
                )
            return given
        if kind == "class-mean":
            return prototypes.mean(0)
        if kind == "noise":
            features = noise_features(network, partial["inputs"], self.n_synthetic)
        else:
            read = plan.fit_reads[3]
            assert isinstance(read, Activation)
            features = network.replay(read.site, partial["mixing"].outliers(self.mix))
        return features.to(prototypes).mean(0)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        gradient = ood_gradient(evidence.features, state["prototypes"], state["ood"])
        if self.score == "norm":
            return gradient.log_length.exp()
        bank = Bank(Polar(state["unit"], state["log_length"]))
        return kth_distance(gradient, bank, self.k)
