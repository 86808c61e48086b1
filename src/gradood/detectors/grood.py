"""GROOD."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms, feature_terms
from gradood.detectors._shared.banks import (
    Bits,
    KeptVectors,
    check_bits,
    check_samples,
    coded_bank_state,
    codes_note,
    sample_state,
    samples_note,
    scaled_neighbor,
    search_in,
)
from gradood.detectors._shared.fit_data import check_neighbors
from gradood.detectors._shared.labels import check_labels, present
from gradood.detectors._shared.outliers import EarlyMixing, find_cut, input_extremes, noise_features
from gradood.detectors.base import Learner, Plan, State, require
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
from gradood.functional.codes import CodedVectors, Codes
from gradood.functional.grood import (
    coded_gradients,
    gradient_bank,
    ood_gradient,
    prototype_distances,
)
from gradood.functional.moments import ClassMoments, Extremes
from gradood.functional.neighbors import AnyBank, CodedPolar, Polar, kth_distance
from gradood.functional.score_terms import followed_distance, neighbor_terms
from gradood.taps import Network

__all__ = ["GROOD"]

_LOG = logging.getLogger(__name__)


_Kind = Literal["synthetic", "noise", "class-mean"] | Tensor


@dataclass(frozen=True, eq=False, slots=True)
class _Statistics:
    """Class means; features for the bank; and what the OOD prototype is made from.

    Attributes:
        prototypes: means of the classes.
        bank: features, unless the score is the norm.
        inputs: ranges of the inputs, for noise.
        mixing: early activations, for synthetic outliers.
    """

    prototypes: ClassMoments
    bank: KeptVectors | None
    inputs: Extremes | None
    mixing: EarlyMixing | None


@final
class GROOD(Learner[_Statistics]):
    """Gradient at an OOD prototype, compared with training gradients [elaraby2025grood].

    Reads the features; learns class prototypes, one OOD prototype and the gradients of the fit
    data. Assumes that the gradient of a nearest-prototype loss with respect to the OOD prototype
    separates known from unknown.

    ``g = π_o · (h − p_o)/‖h − p_o‖`` with ``π = softmax(−‖h − p_j‖)``, exact without a backward
    pass; the score is the distance of g to its k-th nearest among the fit gradients.

    Figures on OpenOOD's leaderboard are of a prototype made of real unknown images
    (``use_val_ood``), for which `ood_prototype` takes a tensor: with 100 of Tiny ImageNet, the
    AUROC on CIFAR-100 was 91 in place of 85 on a ResNet-20.

    Args:
        ood_prototype: ``"synthetic"`` averages features of training images mixed, at an early
            layer, with the mean activation of their second most likely class; ``"noise"`` those of
            blurred noise; ``"class-mean"`` the class prototypes; a tensor is taken as it is, one
            (width,) or several (n, width) to be averaged.
        mix: share of the image's own activation in a synthetic outlier, 0 to 1.
        n_synthetic: how many synthetic outliers (a tenth of the noise images drawn); which
            they are moves the AUROC by 2 points at 100, and less at 1,000.
        early_layer: where to mix; None takes the first stage's output.
        score: ``"neighbour"``, or ``"norm"`` for π_o alone, which needs no bank.
        bank: gradients of ``"correct"``ly classified fit samples or of ``"all"``.
        k: which neighbor.
        samples: fit features kept for the bank at most, chosen by content; None for all. The
            neighbor compared with becomes k · kept / seen.
        bits: of each number in the bank: 32; 8 or 4, in a quarter or an eighth of the memory, of
            features and then of gradients; or ``"auto"``, which is 32 up to 1 GiB, and above that
            4 (8 for features of fewer than 128 units), with a warning.

    Cost: the forward pass and a search of the whole bank; keeps fit features, and for synthetic
    outliers the early means of as many classes as fit in 512 MB.

    >>> GROOD(ood_prototype="class-mean")
    GROOD(ood_prototype='class-mean')
    """

    name = "grood"
    title = "Distance of the gradient at an OOD prototype to the fit data's."
    needs = ("features", "head", "labels", "early layer (fit)")
    cost = (
        "one forward; one fit pass; keeps all fit features and searches them exactly, above 1 GiB "
        "in 4 or 8 bits per number (bits, samples)"
    )
    fails_when = (
        "The OOD prototype falls among the class prototypes (their mean, on networks whose unknown "
        "inputs do not gather there), or features are so long that π_o vanishes for every input."
    )
    attribution = (
        "terms: (g_d − n_d)² / ‖g − n‖ of the gradient g and its k-th nearest n of the bank; "
        "the reference value is 0, at n. With score='norm', the path of the features from "
        "the reference"
    )
    state_shapes = (
        "prototypes: float seen features",
        "ood: float features",
        "unit?: float bank features",
        "codes?: byte bank _",
        "bits?: int",
        "log_length?: float bank",
        "k?: int",
        "kept?: int",
        "seen?: int",
    )
    later: ClassVar[Mapping[str, Any]] = {"bits": "auto", "samples": None}

    def __init__(
        self,
        *,
        ood_prototype: _Kind = "synthetic",
        mix: float = 0.5,
        n_synthetic: int = 100,
        early_layer: str | None = None,
        score: Literal["neighbour", "norm"] = "neighbour",
        bank: Literal["correct", "all"] = "correct",
        k: int = 1,
        samples: int | None = None,
        bits: Bits = "auto",
    ) -> None:
        _check_kind(ood_prototype)
        require(0 <= mix <= 1, "mix", mix, "a number from 0 to 1")
        require(isinstance(n_synthetic, int) and n_synthetic > 0, "n_synthetic", n_synthetic, "> 0")
        require(score in ("neighbour", "norm"), "score", score, "'neighbour' or 'norm'")
        require(bank in ("correct", "all"), "bank", bank, "'correct' or 'all'")
        require(isinstance(k, int) and k > 0, "k", k, "a whole number > 0")
        named = early_layer is None or isinstance(early_layer, str)
        require(named, "early_layer", early_layer, "a module name, or None")
        check_samples(samples)
        check_bits(bits)
        self.samples = samples
        self.bits: Bits = bits
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

    def accumulate(self, evidence: Evidence) -> _Statistics:
        """Class means, features, and what the OOD prototype is made from."""
        labels, keys = check_labels(evidence, self.name), evidence[KEYS]
        features, logits = evidence.features, evidence.logits
        bank = mixing = None
        if self.score == "neighbour":
            right = logits.argmax(1) == labels
            chosen = right if self.bank == "correct" else torch.ones_like(right)
            bank = KeptVectors.of(keys[chosen], features[chosen], self.samples, self.bits)
        if "maps" in evidence:
            mixing = EarlyMixing.of(evidence["maps"], logits, labels, keys, self.n_synthetic)
        return _Statistics(
            prototypes=ClassMoments.of(features, labels, evidence.classes),
            bank=bank,
            inputs=input_extremes(evidence[INPUT_RANGE]) if INPUT_RANGE in evidence else None,
            mixing=mixing,
        )

    def finish(self, seen: _Statistics, network: Network, plan: Plan) -> State:
        """Prototypes, and the bank of gradients."""
        prototypes = seen.prototypes.mean[present(seen.prototypes, self.name)]
        ood = self._ood_features(prototypes, seen, network, plan).mean(0)
        gaps = prototype_distances(ood[None], prototypes)[0]
        closest, farthest = float(gaps.min()), float(gaps.max())
        _LOG.info("grood: OOD prototype %.3g to %.3g from class prototypes", closest, farthest)
        state = {"prototypes": prototypes, "ood": ood}
        if seen.bank is None:
            return state
        rows, table = seen.bank.rows, seen.bank.rows.table()
        size = len(table["key"])
        if rows.seen < self.k:
            raise DataError(
                f"grood with k={self.k}, bank={self.bank!r} has {size} fit samples in its "
                "bank; give more, or bank='all'."
            )
        state |= sample_state(rows, self.name, self.samples, "samples")
        k = self.k
        if "seen" in state:
            k = scaled_neighbor(k, size, rows.seen)
            state["k"] = torch.tensor(k, device=ood.device)
        check_neighbors(size, k, self.name, network.classes)
        if seen.bank.coded:
            codes = Codes(table["codes"], len(ood), seen.bank.bits)
            coded = CodedVectors(codes, table["log_length"].exp().float())
            gradients = coded_gradients(coded, prototypes, ood)
            kept = gradients.unit.packed, gradients.log_length
            return state | coded_bank_state(*kept, seen.bank.bits, self.name, self.bits)
        vectors = gradient_bank(table["vectors"], prototypes, ood).vectors
        return {**state, "unit": vectors.unit, "log_length": vectors.log_length}

    def notes(self, state: State) -> tuple[str, ...]:
        """How the bank is bounded."""
        return (*codes_note(state), *samples_note(state))

    def _ood_features(
        self, prototypes: Tensor, seen: _Statistics, network: Network, plan: Plan
    ) -> Tensor:
        """Features (n, width) whose mean is the OOD prototype."""
        if isinstance(self.ood_prototype, Tensor):
            return _given(self.ood_prototype, prototypes)
        if seen.inputs is not None:
            return noise_features(network, seen.inputs, self.n_synthetic).to(prototypes)
        if seen.mixing is None:
            return prototypes
        (read,) = plan.fit_reads.named("maps")
        assert isinstance(read, Activation)
        return network.replay(read.site, seen.mixing.outliers(self.mix)).to(prototypes)

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        gradient = ood_gradient(evidence.features, state["prototypes"], state["ood"])
        if self.score == "norm":
            return gradient.log_length.exp()
        query, bank, k = self._search(gradient, state)
        if query.unit.requires_grad and isinstance(bank.vectors, CodedPolar):
            return followed_distance(query, bank, k)
        return kth_distance(query, bank, k)

    def _search(self, gradient: Polar, state: State) -> tuple[Polar, AnyBank, int]:
        """Queries, what they are compared with, and which neighbor counts."""
        return *search_in(state, gradient), int(state["k"]) if "k" in state else self.k

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        if self.score == "norm":

            def norm(points: Tensor, rows: Tensor) -> Tensor:
                return ood_gradient(points, state["prototypes"], state["ood"]).log_length.exp()

            return feature_terms(norm, reference.features, evidence.features)
        gradient = ood_gradient(evidence.features, state["prototypes"], state["ood"])
        units = neighbor_terms(*self._search(gradient, state))
        return Terms(units, units.new_zeros(len(units)))


def _check_kind(ood_prototype: _Kind) -> None:
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


def _given(vectors: Tensor, prototypes: Tensor) -> Tensor:
    """The vectors (n, width) that the user gave.

    Raises:
        DataError: they are not as wide as the features.
    """
    given = vectors.to(prototypes).reshape(-1, vectors.shape[-1])
    if given.shape[1] != prototypes.shape[1]:
        raise DataError(
            f"ood_prototype has width {given.shape[1]}; the features have {prototypes.shape[1]}."
        )
    return given
