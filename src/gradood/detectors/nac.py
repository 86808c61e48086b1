"""Neuron activation coverage."""

import logging
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from gradood.detectors._shared.attributions import Terms
from gradood.detectors._shared.fit_data import warn_of_fit
from gradood.detectors._shared.layers import hook_layers, last_norms, one_logit, require_names
from gradood.detectors.base import Learner, Plan, State, require
from gradood.errors import ConfigError, DataError, TapError
from gradood.evidence import (
    FEATURES,
    KEYS,
    LOG_SOFTMAX_SUM,
    LOGITS,
    MEAN,
    POSITIONS,
    Activation,
    Evidence,
    Gradient,
    Read,
)
from gradood.functional.coverage import (
    covered,
    mean_coverage,
    steepness,
    uniform_kl_gradient,
    unit_coverage,
)
from gradood.functional.gradnorm import linear_logits
from gradood.functional.samples import Selection
from gradood.functional.surrogates import crossed, separation
from gradood.taps import Network, Site

__all__ = ["NAC"]

_LOG = logging.getLogger(__name__)
_CHANCE = 0.6
"""Separation of known samples from crossed ones, up to which a warning is given."""
_LEAST = 20
"""Samples of which that is measured, and as many crossed ones at least."""
_CROSSED = 200


@final
class NAC(Learner[Selection]):
    """Share of neurons whose state is one that fit data was often in, negated [liu2024nac].

    Reads the logits, the features, and at inner layers the spatial mean of the output and of its
    gradient; learns a histogram of every neuron's state from a seeded few fit samples. Assumes that
    unknown inputs put neurons into states that known ones seldom do. The paper scores coverage,
    high for known inputs; negated once here.

    ``score = −mean over layers, and over their neurons, of min(count of the state's bin / r, 1)``
    with ``state = sigmoid(α · z ⊙ ∂KL(u ‖ softmax)/∂z)``, z and its gradient summed over positions.
    On transformers the released code reads other places: the second norm of blocks 9 to 11 of
    ViT-B/16, summed over tokens, and the class token. As released, all samples count, also
    misclassified ones, and bins are narrower toward ½.

    Args:
        layers: names of the inner layers, beside which the features are always one; ``()`` reads
            the features alone, without a backward pass. None takes the last three normalization
            layers, or layers that feed a ReLU where there are none; of transformers, as released,
            the last one inside each of the last three blocks.
        alpha: steepness α > 0, one or one for each layer and then the features; ``"auto"`` takes
            1 / the 70th percentile of the sizes of the fit samples' non-zero products. Absolute,
            and published for each network: those of `published` are for CIFAR-10 ResNet-18, chosen
            there on OOD validation images.
        r: of `samples`, how many fill a bin; one or for each as `alpha`. Where the fit data has
            fewer samples, fewer in proportion.
        bins: histogram bins ≥ 4 (M), one or for each.
        samples: how many fit samples the histograms are of.

    Cost: the forward pass and a backward pass down to the first inner layer, in the fit too; state
    of neurons × bins.

    >>> NAC(layers=(), alpha=100.0)
    NAC(layers=(), alpha=100.0)
    """

    name = "nac"
    title = "Negative share of neurons in states that occur in the fit data."
    needs = ("logits", "features", "head", "inner layers", "gradient")
    cost = (
        "one forward and a backward down to the first inner layer; one fit pass; state of neurons "
        "× bins"
    )
    fails_when = (
        "An input leaves the neurons silent or the softmax near uniform: both give states near ½, "
        "which fit data has too, so that doubtful inputs pass (near-OOD on small networks), or "
        "layers are read that come long before the last: on ResNet-56 the stages before it are no "
        "better than chance. α, r and bins matter, and are published for few networks. Where the "
        "features alone are read, a fit tells whether they say anything, and warns."
    )
    attribution = (
        "terms: −coverage / (layers · width) of each unit of the features; inner layers are "
        "a part each; the reference value is 0"
    )
    labels = False
    published: ClassVar[Mapping[str, Any]] = {
        "layers": ("layer1", "layer2", "layer3"),
        "alpha": (0.001, 0.001, 1000, 100),
        "r": (100, 5, 100, 50),
        "bins": (500, 50, 500, 50),
    }
    state_shapes = (
        "alpha: float layers",
        "coverage_*: float _ _",
    )

    def __init__(
        self,
        *,
        layers: Sequence[str] | None = None,
        alpha: float | Sequence[float] | Literal["auto"] = "auto",
        r: float | Sequence[float] = 50,
        bins: int | Sequence[int] = 50,
        samples: int = 1000,
    ) -> None:
        require_names(layers)
        positive = "a number > 0, or one for each layer and then the features"
        numbers = alpha == "auto" or _all(alpha, lambda a: 0 < a and isfinite(a))
        require(numbers, "alpha", alpha, f"{positive}, or 'auto'")
        require(_all(r, lambda a: 0 < a and isfinite(a)), "r", r, positive)
        whole = _all(bins, lambda a: isinstance(a, int) and a >= 4)
        require(whole, "bins", bins, "a whole number ≥ 4, or one for each layer and the features")
        require(isinstance(samples, int) and samples > 0, "samples", samples, "a whole number > 0")
        self.layers = layers
        self.alpha = alpha
        self.r = r
        self.bins = bins
        self.samples = samples

    def plan(self, network: Network, probe: Tensor) -> Plan:
        """Logits, features, and three readings of each inner layer; content keys in a fit."""
        sites, notes = _sites(network, self.layers)
        for option in ("alpha", "r", "bins"):
            _each(getattr(self, option), len(sites) + 1, option)
        reads: list[Read] = [LOGITS, FEATURES]
        for site in sites:
            reads.append(Gradient(LOG_SOFTMAX_SUM, site, MEAN))
            reads += [Activation(site, MEAN), Activation(site, POSITIONS)]
        caveats = one_logit(network, self.name)
        return Plan(tuple(reads), (*reads, KEYS), caveats=caveats, notes=notes)

    def accumulate(self, evidence: Evidence) -> Selection:
        """The products of the batch's share of the seeded few."""
        columns = {f"layer_{i}": product for i, product in enumerate(_products(evidence))}
        if len(columns) == 1:
            columns["features"] = evidence.features
        return Selection.of(self.samples, key=evidence[KEYS], **columns)

    def finish(self, kept: Selection, network: Network, plan: Plan) -> State:
        """α of each layer, and its neurons' coverage by bin."""
        columns = kept.columns
        products = [column for name, column in columns.items() if name.startswith("layer_")]
        _check_products(products)
        count = len(products)
        r, bins = _each(self.r, count, "r"), _each(self.bins, count, "bins")
        alphas = _each(self.alpha, count, "alpha")
        if self.alpha == "auto":
            alphas = [steepness(product) for product in products]
        fewer = len(products[0]) / self.samples
        state = {"alpha": torch.tensor(alphas, dtype=torch.float64, device=products[0].device)}
        for i, product in enumerate(products):
            filled = fewer * float(r[i])
            state[f"coverage_{i}"] = covered(product, float(alphas[i]), int(bins[i]), filled)
        if "features" in columns:
            settings = float(alphas[0]), int(bins[0]), fewer * float(r[0])
            _warn_of_chance(columns["features"], products[0], network, settings)
        return state

    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,)."""
        alphas = state["alpha"].tolist()
        means = [
            mean_coverage(product, alphas[i], state[f"coverage_{i}"])
            for i, product in enumerate(_products(evidence))
        ]
        return -torch.stack(means).mean(0)

    def terms(self, evidence: Evidence, state: State, reference: Evidence) -> Terms:
        """See `attribution`."""
        alphas, found = state["alpha"].tolist(), list(_products(evidence))
        means = [
            mean_coverage(product, alphas[i], state[f"coverage_{i}"]) / -len(found)
            for i, product in enumerate(found)
        ]
        last = len(found) - 1
        units = unit_coverage(found[-1], alphas[last], state[f"coverage_{last}"])
        parts = {f"layer {i}": mean for i, mean in enumerate(means[:-1])}
        return Terms(-units / (len(found) * units.shape[1]), torch.zeros_like(means[0]), parts)


def _check_products(products: Sequence[Tensor]) -> None:
    """Log the layers of which nothing finite was read.

    Raises:
        DataError: that is so of all.
    """
    lost = [i for i, product in enumerate(products) if not bool(product.isfinite().any())]
    if len(lost) == len(products):
        raise DataError(
            "nac was fitted on activations or gradients that all hold NaN or infinity, which "
            "the model made of finite inputs; run the model in a wider type."
        )
    if lost:
        # In half precision, gradients of enormous logits overflow; the features' do not.
        _LOG.warning(
            "nac: no finite activation or gradient at %d of %d layers, which say nothing; run "
            "the model in a wider type.",
            len(lost),
            len(products),
        )


def _warn_of_chance(
    features: Tensor, products: Tensor, network: Network, settings: tuple[float, int, float]
) -> None:
    """Warn where coverage by half of the fit samples does not tell the others from crossed ones.

    Crossed ones have half of their features from another sample: as strong, and of no class.

    Args:
        features: (samples, width) of the fit samples.
        products: (samples, width) of theirs.
        network: for its head.
        settings: α, bins, and samples that fill a bin where all are learned from.
    """
    alpha, bins, filled = settings
    learned, known, rows = products[::2], products[1::2], features[1::2].double()
    if len(products) < _LEAST or not bool(rows.isfinite().all()):
        return
    generator = torch.Generator("cpu").manual_seed(0)
    strange = crossed(rows, max(len(rows), _CROSSED), generator)
    weight, bias = (
        None if part is None else part.detach().to(rows.device)
        for part in (network.head.weight, network.head.bias)
    )
    assert weight is not None
    strange = strange * uniform_kl_gradient(linear_logits(strange, weight, bias), weight)
    table = covered(learned, alpha, bins, filled * len(learned) / len(products))
    scores = (-mean_coverage(part, alpha, table) for part in (known, strange))
    found = separation(*scores)
    if found <= _CHANCE:
        warn_of_fit(
            "nac says little here: it reads the features alone, and with half of the fit samples "
            f"it tells the others from mixtures of two with AUROC {found:.2f}, where chance is "
            "0.5: inputs that the model is unsure of put neurons into states that fit samples are "
            "in, too. Name layers to read with layers=[…], or leave nac out."
        )


def _sites(network: Network, layers: Sequence[str] | None) -> tuple[tuple[Site, ...], tuple]:
    """The inner layers' outputs, and what to say of the choice."""
    if layers is not None:
        named = () if len(layers) == 0 else hook_layers(network, layers, "nac")
        return tuple(layer.output for layer in named), ()
    if network.opaque is not None:
        return (), (f"features alone: autograd cannot follow this model: {network.opaque}",)
    try:
        sites = tuple(layer.output for layer in last_norms(network, "nac"))
    except TapError:
        sites = ()
    return sites, (f"layers {', '.join((*map(str, sites), 'features'))}",)


def _products(evidence: Evidence) -> list[Tensor]:
    """``z ⊙ ∂KL/∂z`` (batch, neurons) of every inner layer, then of the features, in float64."""
    found: list[Tensor] = []
    read = map(evidence.group, ("log-softmax sum gradients", "means", "positions"))
    for gradient, mean, positions in zip(*read, strict=True):
        # Sums over positions, of KL rather than of the sum of the logarithms.
        scale = -positions.double().square()[:, None] / evidence.classes
        found.append(scale * gradient.double() * mean.double())
    features = evidence.features.double()
    gradient = uniform_kl_gradient(evidence.logits, evidence.linear.weight)
    return [*found, features * gradient]


def _each(value: Any, count: int, option: str) -> list[float]:
    """One number for each layer.

    Raises:
        ConfigError: there are more or fewer.
    """
    if isinstance(value, int | float | str):
        return [value] * count  # type: ignore[list-item]
    if len(value) != count:
        raise ConfigError(
            f"nac with {option}={value!r} has {len(value)} numbers for {count - 1} layers and the "
            f"features; give {count}, or one for all."
        )
    return list(value)


def _all(value: Any, allowed: Any) -> bool:
    """Whether a number, or every one of a sequence of them, is allowed."""
    if isinstance(value, str):
        return False
    values = value if isinstance(value, Sequence) else (value,)
    return len(values) > 0 and all(isinstance(v, int | float) and allowed(v) for v in values)
